//! Attaching, and the calls of a process: who it is, capabilities, spawning.

use crate::guard::{answer, borrow, call_int, failed, text};
use crate::status::{XPU_EINVAL, XPU_ENOSHIM};
use std::ffi::{c_char, c_int};
use std::path::Path;
use xpucall::Process;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire::{Program, Transport};

/// To connect to a FIFO as its reader.
pub const XPU_READ: c_int = 1;
/// To connect to a FIFO as a writer.
pub const XPU_WRITE: c_int = 2;
/// To grant and revoke what one holds, and to release the FIFO.
pub const XPU_OWNER: c_int = 4;

/// Both sides of a call look a short while, then sleep. The one to use.
pub const XPU_ADAPTIVE: c_int = 0;
/// Calls travel over a socket.
pub const XPU_BASE: c_int = 1;
/// Calls travel in memory, and are waited for asleep.
pub const XPU_MPSC: c_int = 2;
/// Both sides look without end.
pub const XPU_POLLING: c_int = 3;

/// An attachment of this process to the shim of its PU. It may be used by several threads.
pub struct Xpu {
    pub(crate) process: Process,
}

/// A capability that a new process is to have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XpuCapability {
    /// On which FIFO.
    pub fifo: u64,
    /// XPU_READ, XPU_WRITE, XPU_OWNER, or several of them.
    pub rights: c_int,
}

fn transport(number: c_int) -> Result<Transport, c_int> {
    Ok(match number {
        XPU_ADAPTIVE => Transport::Adaptive,
        XPU_BASE => Transport::Base,
        XPU_MPSC => Transport::Mpsc,
        XPU_POLLING => Transport::Polling,
        _ => return Err(XPU_EINVAL),
    })
}

pub(crate) fn rights(bits: c_int) -> Result<Rights, c_int> {
    u8::try_from(bits).ok().and_then(Rights::from_bits).filter(|rights| !rights.is_empty()).ok_or(XPU_EINVAL)
}

/// Attaches this process to the shim that listens at `path`, or, where `path` is null, over the connection that whoever
/// started this program by xspawn has left it. The attachment, and all that the process has by it, lasts until
/// xpu_detach or the end of the process. A child that a fork makes has to attach by itself.
///
/// # Safety
/// With a null path it is to be called once, before the program opens descriptors of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xpu_attach(path: *const c_char, transport: c_int, xpu: *mut *mut Xpu) -> c_int {
    call_int(|| {
        let transport = self::transport(transport)?;
        if xpu.is_null() {
            return Err(XPU_EINVAL);
        }
        let process = if path.is_null() {
            Process::inherited(transport).map_err(failed)?.ok_or(XPU_ENOSHIM)?
        } else {
            // SAFETY: not null; C gives a string.
            Process::attach(Path::new(unsafe { text(path)? }), transport).map_err(failed)?
        };
        // SAFETY: C gives a place for a pointer.
        unsafe { answer(xpu, Box::into_raw(Box::new(Xpu { process }))) }
    })
}

/// Ends an attachment. Its FIFOs are to be closed before.
///
/// # Safety
/// `xpu` is null or from xpu_attach, and is used by nobody now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xpu_detach(xpu: *mut Xpu) {
    if !xpu.is_null() {
        // SAFETY: made by `xpu_attach` of a box, and given back once, as C promises.
        drop(unsafe { Box::from_raw(xpu) });
    }
}

/// Asks the shim for this process's id, which is unique among all PUs and over all time.
///
/// # Safety
/// `xpu` is from xpu_attach; `pid` points to where the id goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_xpupid(xpu: *const Xpu, pid: *mut u64) -> c_int {
    // SAFETY: as C promises.
    call_int(|| unsafe { answer(pid, borrow(xpu)?.process.get_xpupid().map_err(failed)?.0) })
}

/// Gives `rights` on a FIFO to another process, on whatever PU. The caller must have XPU_OWNER and each right it gives.
///
/// # Safety
/// `xpu` is from xpu_attach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn grant_cap(xpu: *const Xpu, pid: u64, fifo: u64, rights: c_int) -> c_int {
    call_int(|| {
        let rights = self::rights(rights)?;
        // SAFETY: as C promises.
        unsafe { borrow(xpu)? }.process.grant(XpuPid(pid), FifoId(fifo), rights).map_err(failed)
    })
}

/// Takes `rights` on a FIFO from another process. When it returns 0, no PU lets that process use them, its connections
/// that lived by them are cut, and nothing that it writes after that is ever read. The caller must have XPU_OWNER; from the
/// FIFO's creator nobody can take anything.
///
/// # Safety
/// `xpu` is from xpu_attach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn revoke_cap(xpu: *const Xpu, pid: u64, fifo: u64, rights: c_int) -> c_int {
    call_int(|| {
        let rights = self::rights(rights)?;
        // SAFETY: as C promises.
        unsafe { borrow(xpu)? }.process.revoke(XpuPid(pid), FifoId(fifo), rights).map_err(failed)
    })
}

/// Starts a program on a PU, attached from birth, with just the capabilities in `capabilities`, `count` of them. `arguments`
/// and `environment` (`NAME=value`) end with a null, as those of execve. Its id goes to `pid`, which may be null.
///
/// # Safety
/// `xpu` is from xpu_attach; the arrays are as said; nobody changes them meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xspawn(
    xpu: *const Xpu,
    pu: c_int,
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    capabilities: *const XpuCapability,
    count: usize,
    pid: *mut u64,
) -> c_int {
    call_int(|| {
        let pu = PuId(u8::try_from(pu).map_err(|_| XPU_EINVAL)?);
        // SAFETY: as C promises.
        let (xpu, path, arguments, environment, capabilities) = unsafe {
            let capabilities = self::capabilities(capabilities, count)?;
            (borrow(xpu)?, text(path)?.to_owned(), strings(arguments)?, strings(environment)?, capabilities)
        };
        let variable = |text: String| {
            let (name, value) = text.split_once('=').ok_or(XPU_EINVAL)?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let environment = environment.into_iter().map(variable).collect::<Result<_, c_int>>()?;
        let program = Program { path, arguments, environment, capabilities };
        let started = xpu.process.spawn(pu, program).map_err(failed)?;
        if !pid.is_null() {
            // SAFETY: C gives a place for an id.
            unsafe { pid.write(started.0) };
        }
        Ok(())
    })
}

/// # Safety
/// `array` is null, or C strings with a null behind the last.
unsafe fn strings(array: *const *const c_char) -> Result<Vec<String>, c_int> {
    let mut strings = Vec::new();
    if array.is_null() {
        return Ok(strings);
    }
    loop {
        // SAFETY: no null was met before, so this element exists.
        let string = unsafe { *array.add(strings.len()) };
        if string.is_null() {
            return Ok(strings);
        }
        // SAFETY: not null, so a C string.
        strings.push(unsafe { text(string)? }.to_owned());
    }
}

/// # Safety
/// `array` has `count` elements, or is null.
unsafe fn capabilities(array: *const XpuCapability, count: usize) -> Result<Vec<(FifoId, Rights)>, c_int> {
    if array.is_null() {
        return if count == 0 { Ok(Vec::new()) } else { Err(XPU_EINVAL) };
    }
    // SAFETY: as this function's contract says.
    let given = unsafe { std::slice::from_raw_parts(array, count) };
    given.iter().map(|given| Ok((FifoId(given.fifo), rights(given.rights)?))).collect()
}
