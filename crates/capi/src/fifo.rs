//! FIFOs: made, connected to, written, read, closed.

use crate::guard::{Patience, answer, borrow, borrow_mut, call, call_int, failed, patience};
use crate::process::{XPU_READ, XPU_WRITE, Xpu};
use crate::status::{Status, XPU_EAGAIN, XPU_EINVAL, XPU_ETOOLONG, XPU_EWRITER};
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use xpucall::id::FifoId;
use xpucall::{Event, Limits, Reader, Writer};

/// What a FIFO is to be able to carry. 0 leaves it to the shim.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XfifoLimits {
    /// Bytes of the longest message.
    pub message_max: u64,
    /// Bytes of each writer's ring: a power of two.
    pub ring: u64,
}

/// What xfifo_read tells of what it has read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct XfifoMessage {
    /// The process that wrote the message, or that will write no more.
    pub from: u64,
    /// Bytes of the message, also where the buffer had no room for it.
    pub length: u64,
    /// With XPU_EWRITER: why that process will write no more.
    pub ended: c_int,
}

/// One end of a FIFO. Used by one thread at a time.
pub struct Xfifo {
    end: End,
}

enum End {
    /// With an event that was too long for the buffer it was read into.
    Reader(Reader, Option<Event>),
    Writer(Writer),
}

/// Makes a FIFO that this process owns. `id` is 0, or the id that it is to have: one that no other FIFO on any PU has. Its id
/// goes to `fifo`. `limits` may be null. It lasts until xfifo_release, or the end of the process.
///
/// # Safety
/// `xpu` is from xpu_attach; `fifo` points to where the id goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_init(xpu: *const Xpu, id: u64, limits: *const XfifoLimits, fifo: *mut u64) -> c_int {
    call_int(|| {
        if fifo.is_null() {
            return Err(XPU_EINVAL);
        }
        // SAFETY: as C promises.
        let (xpu, limits) = unsafe { (borrow(xpu)?, limits.as_ref()) };
        let limits = limits.map_or(Limits::default(), |l| Limits { message_max: l.message_max, ring: l.ring });
        let made = xpu.process.create((id != 0).then_some(FifoId(id)), limits).map_err(failed)?;
        // SAFETY: as C promises.
        unsafe { answer(fifo, made.0) }
    })
}

/// Ends a FIFO that this process owns: every connection to it, and every capability on it.
///
/// # Safety
/// `xpu` is from xpu_attach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_release(xpu: *const Xpu, fifo: u64) -> c_int {
    // SAFETY: as C promises.
    call_int(|| unsafe { borrow(xpu)? }.process.release(FifoId(fifo)).map_err(failed))
}

/// Connects this process to a FIFO: as its only reader (`right` is XPU_READ), or as one of its writers (XPU_WRITE). A
/// writer may connect, and write, before there is a reader.
///
/// # Safety
/// `xpu` is from xpu_attach; `end` points to where the connection goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_connect(xpu: *const Xpu, fifo: u64, right: c_int, end: *mut *mut Xfifo) -> c_int {
    call_int(|| {
        // SAFETY: as C promises.
        let process = &unsafe { borrow(xpu)? }.process;
        if end.is_null() {
            return Err(XPU_EINVAL);
        }
        let connected = match right {
            XPU_READ => End::Reader(process.connect_reader(FifoId(fifo)).map_err(failed)?, None),
            XPU_WRITE => End::Writer(process.connect_writer(FifoId(fifo)).map_err(failed)?),
            _ => return Err(XPU_EINVAL),
        };
        // SAFETY: as C promises.
        unsafe { answer(end, Box::into_raw(Box::new(Xfifo { end: connected }))) }
    })
}

/// Writes one message of `size` bytes, all of it or nothing. Waits for room up to `milliseconds`; 0: not at all; negative:
/// as long as it takes. A writer whose reader has ended is told why.
///
/// # Safety
/// `end` is from xfifo_connect; `message` has `size` bytes, or is null where that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_write(
    end: *mut Xfifo,
    message: *const c_void,
    size: usize,
    milliseconds: c_int,
) -> c_int {
    call_int(|| {
        // SAFETY: as C promises.
        let End::Writer(writer) = &mut unsafe { borrow_mut(end)? }.end else { return Err(XPU_EINVAL) };
        let message: &[u8] = match (message.is_null(), size) {
            (true, 0) => &[],
            (true, _) => return Err(XPU_EINVAL),
            // SAFETY: as C promises.
            (false, _) => unsafe { std::slice::from_raw_parts(message.cast(), size) },
        };
        let written = match patience(milliseconds) {
            Patience::None => writer.try_write(message),
            Patience::Until(deadline) => writer.write_by(message, deadline),
            Patience::Forever => writer.write(message),
        };
        written.map_err(failed)
    })
}

/// Reads one message into `buffer`, which has `size` bytes, and returns its length. Waits up to `milliseconds`; 0: not at
/// all; negative: as long as it takes. `message` may be null; else it is told whose the message is. A message that is
/// longer than the buffer stays for the next read: XPU_ETOOLONG, and its length in `message`. Of each writer's end one
/// XPU_EWRITER tells, after that writer's last message. All other errors are of the FIFO itself.
///
/// # Safety
/// `end` is from xfifo_connect; `buffer` has room for `size` bytes, or is null where that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_read(
    end: *mut Xfifo,
    buffer: *mut c_void,
    size: usize,
    milliseconds: c_int,
    message: *mut XfifoMessage,
) -> i64 {
    call(|| {
        // SAFETY: as C promises.
        let End::Reader(reader, held) = &mut unsafe { borrow_mut(end)? }.end else { return Err(XPU_EINVAL) };
        if buffer.is_null() && size > 0 {
            return Err(XPU_EINVAL);
        }
        let event = match held.take() {
            Some(event) => event,
            None => next(reader, milliseconds)?,
        };
        let (told, fits) = match &event {
            Event::Message(read) => {
                let length = read.bytes.len();
                (XfifoMessage { from: read.from.0, length: length as u64, ended: 0 }, length <= size)
            }
            Event::Ended { from, why } => (XfifoMessage { from: from.0, length: 0, ended: why.status() }, true),
        };
        if !message.is_null() {
            // SAFETY: as C promises.
            unsafe { message.write(told) };
        }
        match event {
            Event::Message(read) if fits => {
                if !read.bytes.is_empty() {
                    // SAFETY: the buffer has room for `size` bytes, which the message does not exceed.
                    unsafe { std::ptr::copy_nonoverlapping(read.bytes.as_ptr(), buffer.cast(), read.bytes.len()) };
                }
                Ok(read.bytes.len() as i64)
            }
            Event::Message(_) => {
                *held = Some(event);
                Err(XPU_ETOOLONG)
            }
            Event::Ended { .. } => Err(XPU_EWRITER),
        }
    })
}

fn next(reader: &mut Reader, milliseconds: c_int) -> Result<Event, c_int> {
    match patience(milliseconds) {
        Patience::None => reader.try_event().map_err(failed)?.ok_or(XPU_EAGAIN),
        Patience::Until(deadline) => reader.event_by(deadline).map_err(failed),
        Patience::Forever => reader.event().map_err(failed),
    }
}

/// For event loops: from now on the descriptor that is put in `descriptor` becomes readable when there may be something to
/// read, or, after XPU_EAGAIN from xfifo_write, room to write. Returns 1 if one may wait for it, 0 if one is to look
/// again at once. To be followed by xfifo_disarm, before the next read or write. The descriptor belongs to the
/// connection.
///
/// # Safety
/// `end` is from xfifo_connect; `descriptor` points to where the descriptor goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_arm(end: *mut Xfifo, descriptor: *mut c_int) -> c_int {
    call(|| {
        // SAFETY: as C promises.
        let (idle, poll) = match &mut unsafe { borrow_mut(end)? }.end {
            End::Reader(reader, held) => {
                let idle = reader.arm().map_err(failed)? && held.is_none();
                (idle, reader.poll_fd().map_err(failed)?.as_raw_fd())
            }
            End::Writer(writer) => (writer.arm().map_err(failed)?, writer.as_fd().as_raw_fd()),
        };
        // SAFETY: as C promises.
        unsafe { answer(descriptor, poll)? };
        Ok(i64::from(idle))
    }) as c_int
}

/// Takes what has made the descriptor of xfifo_arm readable.
///
/// # Safety
/// `end` is from xfifo_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_disarm(end: *mut Xfifo) -> c_int {
    // SAFETY: as C promises.
    call_int(|| match &mut unsafe { borrow_mut(end)? }.end {
        End::Reader(reader, _) => reader.disarm().map_err(failed),
        End::Writer(writer) => writer.disarm().map_err(failed),
    })
}

/// Closes a connection. The other end is told after what was written before it. The FIFO itself ends by xfifo_release.
///
/// # Safety
/// `end` is null or from xfifo_connect, and is used by nobody now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xfifo_close(end: *mut Xfifo) {
    if !end.is_null() {
        // SAFETY: made by `xfifo_connect` of a box, and given back once, as C promises.
        drop(unsafe { Box::from_raw(end) });
    }
}
