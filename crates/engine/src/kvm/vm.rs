//! The virtual machine: made once, entered for each run.
//!
//! Two slots, which never change: changing one waits for all processors. What is in the window changes by mapping over it.

use super::tables::{self, Frame, PAGES, PLATFORM_AT, Tables, WINDOW_AT};
use crate::native::Mapping;
use crate::native::layout::PAGE;
use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region, kvm_xcr, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;

/// Bytes of guests' memory, at most: inputs that stay in their pages, too.
pub const WINDOW: u64 = 2 << 30;
/// Vector state that guests may use, where the processor has it: x87, SSE, AVX, AVX-512.
const STATES: u64 = 0xe7;

/// How an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By this exception.
    Exception(u16),
    Interrupted,
}

/// Memory of this process that the guest has.
#[derive(Debug)]
struct Host {
    base: NonNull<u8>,
    len: usize,
}

#[derive(Debug)]
pub struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    platform: Host,
    window: Host,
    system: kvm_sregs,
    /// The layout that the tables have: addresses, lengths, rights.
    shown: Vec<(u64, u64, u8)>,
}

// SAFETY: a mapping is an address and a length, good on whatever thread; it is reached through its machine only.
unsafe impl Send for Host {}

impl Host {
    fn new(len: usize, rights: i32) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?, len })
    }

    fn slot(&self, slot: u32, at: u64) -> kvm_userspace_memory_region {
        let userspace_addr = self.base.as_ptr() as u64;
        kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: at,
            memory_size: self.len as u64,
            userspace_addr,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; the machine that had it is closed before.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

fn segment(selector: u16, type_: u8, dpl: u8, l: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl,
        db: 1 - l,
        s: 1,
        l,
        g: 1,
        ..Default::default()
    }
}

impl Machine {
    pub fn new(device: OwnedFd) -> io::Result<Self> {
        // SAFETY: an open descriptor, which nobody else closes; one that is no such device refuses what it is asked.
        let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
        let vm = kvm.create_vm().map_err(os)?;
        let platform = Host::new(PAGES * PAGE as usize, libc::PROT_READ | libc::PROT_WRITE)?;
        let window = Host::new(WINDOW as usize, libc::PROT_NONE)?;
        // SAFETY: both mappings live as long as the machine, which holds them.
        unsafe {
            vm.set_user_memory_region(platform.slot(0, PLATFORM_AT)).map_err(os)?;
            vm.set_user_memory_region(window.slot(1, WINDOW_AT)).map_err(os)?;
        }
        let vcpu = vm.create_vcpu(0).map_err(os)?;
        vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(os)?).map_err(os)?;
        let mut system = vcpu.get_sregs().map_err(os)?;
        prepare(&mut system);
        vcpu.set_sregs(&system).map_err(os)?;
        system_calls(&vcpu)?;
        if kvm.check_extension(Cap::Xcrs) {
            vector_state(&vcpu)?;
        }
        Ok(Self { vcpu, _vm: vm, platform, window, system, shown: Vec::new() })
    }

    fn words(&mut self) -> &mut [u64] {
        // SAFETY: the mapping is ours, aligned to pages, and the guest does not run while we are borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.platform.base.as_ptr().cast(), self.platform.len / 8) }
    }

    /// Puts a guest's memory under the machine.
    pub fn show(&mut self, mappings: &[Mapping], arena: BorrowedFd<'_>) -> io::Result<()> {
        let full = || io::Error::other(format!("the function and its inputs have more than {WINDOW} bytes of memory"));
        let places = tables::places(mappings, WINDOW).ok_or_else(full)?;
        for (mapping, at) in mappings.iter().zip(&places) {
            let at = self.window.base.as_ptr() as u64 + (at - WINDOW_AT);
            let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
            // SAFETY: within the window, as `places` has seen to; nothing of Rust's ever points there.
            let done = unsafe {
                libc::mmap(
                    at as *mut libc::c_void,
                    mapping.len as usize,
                    rights,
                    flags,
                    arena.as_raw_fd(),
                    mapping.offset as i64,
                )
            };
            if done == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        let layout: Vec<_> =
            mappings.iter().map(|mapping| (mapping.address, mapping.len, mapping.rights as u8)).collect();
        if layout != self.shown {
            self.shown.clear();
            let mut tables = Tables::new(self.words());
            mappings.iter().zip(&places).try_for_each(|(mapping, at)| tables.show(mapping, *at)).ok_or_else(full)?;
            self.shown = layout;
        }
        Ok(())
    }

    /// No page of the last guest is under the machine any more.
    pub fn hide(&mut self) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the window is ours, and nothing of Rust's ever points there.
        let done =
            unsafe { libc::mmap(self.window.base.as_ptr().cast(), self.window.len, libc::PROT_NONE, flags, -1, 0) };
        if done == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// A processor that nothing has run on, about to begin at `entry`.
    pub fn reset(&mut self, entry: u64, stack: u64) -> io::Result<()> {
        self.vcpu.set_sregs(&self.system).map_err(os)?;
        let mut state = kvm_xsave::default();
        // Control words as a new process has them, and nothing else: all is as it is at first.
        (state.region[0], state.region[6]) = (0x37f, 0x1f80);
        // SAFETY: no state beyond the structure's size was asked for.
        unsafe { self.vcpu.set_xsave(&state) }.map_err(os)?;
        self.vcpu.set_regs(&kvm_regs { rip: entry, rsp: stack, rflags: 2, ..Default::default() }).map_err(os)
    }

    /// Back to the guest behind a system call, with the thread pointer that it asked for.
    pub fn go_on(&mut self, frame: &Frame, thread_pointer: u64) -> io::Result<()> {
        let mut registers = self.vcpu.get_regs().map_err(os)?;
        (registers.rip, registers.rsp, registers.rflags, registers.rax) = (frame.pointer + 2, frame.stack, 2, 0);
        let mut system = self.system;
        system.fs.base = thread_pointer;
        self.vcpu.set_sregs(&system).map_err(os)?;
        self.vcpu.set_regs(&registers).map_err(os)
    }

    /// Runs the guest until it leaves.
    pub fn enter(&mut self) -> io::Result<Exit> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(port, _)) => Ok(Exit::Exception(port)),
            Ok(VcpuExit::Intr) => Ok(Exit::Interrupted),
            Ok(other) => Err(io::Error::other(format!("the virtual machine has stopped: {other:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Ok(Exit::Interrupted),
            Err(error) => Err(os(error)),
        }
    }

    pub fn frame(&mut self) -> Frame {
        tables::frame(self.words())
    }

    /// What would have been pushed if a system call were an exception, with the guest's stack if it is not the processor's.
    pub fn call_frame(&self, stack: Option<u64>) -> io::Result<Frame> {
        let registers = self.registers()?;
        Ok(Frame { error: 0, pointer: registers.rcx.wrapping_sub(2), stack: stack.unwrap_or(registers.rsp) })
    }

    pub fn registers(&self) -> io::Result<kvm_regs> {
        self.vcpu.get_regs().map_err(os)
    }

    /// The address of the last page fault.
    pub fn fault_address(&self) -> io::Result<u64> {
        Ok(self.vcpu.get_sregs().map_err(os)?.cr2)
    }
}

fn os(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// Long mode, ring 3, with our tables.
fn prepare(system: &mut kvm_sregs) {
    system.cs = segment(0x23, 11, 3, 1);
    let data = segment(0x1b, 3, 3, 0);
    (system.ss, system.ds, system.es, system.fs, system.gs) = (data, data, data, data, data);
    let task = kvm_segment {
        base: tables::TSS,
        limit: tables::TSS_LIMIT,
        selector: 0x28,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    system.tr = task;
    system.gdt = kvm_dtable { base: tables::GDT, limit: tables::GDT_LIMIT, ..Default::default() };
    system.idt = kvm_dtable { base: tables::IDT, limit: tables::IDT_LIMIT, ..Default::default() };
    system.cr3 = tables::ROOT_AT;
    // Protection, floating point that reports errors, and write protection for ring 0; paging.
    system.cr0 = 0x8001_0033;
    // Long pages, SSE and its exceptions, the instructions for thread pointers, extended state.
    system.cr4 = 0x20 | 0x200 | 0x400 | 0x1_0000 | 0x4_0000;
    // System calls; long mode, on and active; pages that are not executed.
    system.efer = 1 | 0x100 | 0x400 | 0x800;
}

/// System calls lead out of the machine as exceptions do: in ring 0, with all flags off that matter there.
fn system_calls(vcpu: &VcpuFd) -> io::Result<()> {
    let set = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let all = [
        set(0xc000_0081, 0x0008 << 32),
        set(0xc000_0082, tables::CALLS),
        set(0xc000_0083, tables::CALLS),
        set(0xc000_0084, 0x4_7700),
    ];
    let all = Msrs::from_entries(&all).map_err(|_| io::Error::other("four registers are too many"))?;
    match vcpu.set_msrs(&all).map_err(os)? {
        4 => Ok(()),
        done => Err(io::Error::other(format!("only {done} of 4 registers for system calls can be set"))),
    }
}

/// What of the processor's vector state there is, guests have.
fn vector_state(vcpu: &VcpuFd) -> io::Result<()> {
    let mut all = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
    let mut last = Ok(());
    for value in [STATES, 7, 3] {
        all.xcrs[0] = kvm_xcr { xcr: 0, value, ..Default::default() };
        last = vcpu.set_xcrs(&all).map_err(os);
        if last.is_ok() {
            break;
        }
    }
    last
}
