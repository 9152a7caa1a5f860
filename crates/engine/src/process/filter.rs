//! Which system calls a blank may make, as a program for the kernel.
//!
//! ```text
//!  not x86-64's numbers ──▶ trap          exit, exit_group ──▶ allowed, from anywhere
//!                                         arch_prctl(ARCH_SET_FS) ──▶ allowed, from anywhere
//!  from the stub's page: what the stub needs ──▶ allowed          all else ──▶ trap
//! ```
//!
//! A trap is no call: the kernel does nothing, and sends the guest to the fault handler, which can only end, and says what
//! was tried. A guest can neither block that signal nor change its handler, since those are calls, too. The filter is
//! installed once, in the zygote, and inherited for nothing.

use super::stub::STUB;
use libc::{BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// In `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const POINTER: u32 = 8;
const FIRST_ARGUMENT: u32 = 16;
pub const X86_64: u32 = 0xc000_003e;
const SET_FS: u32 = 0x1002;

/// What the stub calls.
const STUBS: [i64; 11] = [
    libc::SYS_mmap,
    libc::SYS_madvise,
    libc::SYS_munmap,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_prctl,
    libc::SYS_getppid,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
];

fn load(at: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: at }
}

fn jump(how: u32, k: u32, jt: usize, jf: usize) -> sock_filter {
    sock_filter { code: (BPF_JMP | how | BPF_K) as u16, jt: jt as u8, jf: jf as u8, k }
}

fn answer(k: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k }
}

/// The program.
pub fn program() -> Vec<sock_filter> {
    // From the end backwards: how far it is to one of the two answers depends on what lies between.
    let trap = answer(libc::SECCOMP_RET_TRAP);
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let mut program = vec![
        load(ARCH),
        jump(BPF_JEQ, X86_64, 1, 0),
        trap,
        load(NUMBER),
        jump(BPF_JEQ, libc::SYS_exit_group as u32, 1, 0),
        jump(BPF_JEQ, libc::SYS_exit as u32, 0, 1),
        allow,
        jump(BPF_JEQ, libc::SYS_arch_prctl as u32, 0, 3),
        load(FIRST_ARGUMENT),
        jump(BPF_JEQ, SET_FS, 0, 1),
        allow,
        // The kernel names the instruction behind the call: from the page's first one on, to the next page's first byte.
        load(POINTER + 4),
        jump(BPF_JEQ, (STUB >> 32) as u32, 1, 0),
        trap,
        load(POINTER),
        jump(BPF_JGT, STUB as u32, 1, 0),
        trap,
        jump(BPF_JGT, STUB as u32 + 0x1000, 0, 1),
        trap,
        load(NUMBER),
    ];
    for (n, call) in STUBS.iter().enumerate() {
        program.push(jump(BPF_JEQ, *call as u32, STUBS.len() - n, 0));
    }
    program.extend([trap, allow]);
    program
}
