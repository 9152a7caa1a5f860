//! Why a guest has left its virtual machine: an exception, and what lay at the instruction that caused it.
//!
//! Not here: the words for what the program did, which are `process`'s.

use super::tables::{Frame, PAGE_FAULT, SYSTEM_CALL};
use crate::RunError;
use crate::native::context::View;
use crate::process::fault::{by, page_fault};
use crate::process::syscalls;

/// What is to be done about an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// The thread pointer becomes this; then it goes on behind the call.
    ThreadPointer(u64),
    Error(RunError),
}

/// What the guest had in its registers, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub number: u64,
    pub first: u64,
    pub second: u64,
    /// The address that a page fault was about.
    pub address: u64,
    /// The two bytes at the instruction, if it was in the guest's text.
    pub code: Option<[u8; 2]>,
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSENTER: [u8; 2] = [0x0f, 0x34];
const INT: u8 = 0xcd;
const END: u8 = 0x20;
const SET_FS: u64 = 0x1002;

/// What exception number `vector` means.
pub fn of(vector: u16, frame: &Frame, asked: &Asked, view: &View, limit: u64) -> Verdict {
    let error = match (vector, asked.code) {
        (SYSTEM_CALL, _) | (6, Some(SYSCALL)) => return call(asked),
        (6 | 13, Some(SYSENTER)) => RunError::Forbidden("a 32-bit system call (sysenter)".to_owned()),
        (6 | 13, Some([INT, number])) => return interrupt(number, asked),
        (6, _) => by(libc::SIGILL),
        (0 | 16 | 19, _) => by(libc::SIGFPE),
        (1 | 3, _) => by(libc::SIGTRAP),
        (13, _) if frame.error & 2 != 0 => return interrupt((frame.error >> 3) as u8, asked),
        (PAGE_FAULT, _) => page_fault(asked.address, view, limit),
        _ => by(libc::SIGSEGV),
    };
    Verdict::Error(error)
}

fn call(asked: &Asked) -> Verdict {
    match (asked.number as libc::c_long, asked.first) {
        (libc::SYS_exit | libc::SYS_exit_group, code) if code as u8 == 0 => Verdict::Done,
        (libc::SYS_exit | libc::SYS_exit_group, code) => Verdict::Error(RunError::Exit((code as u8).into())),
        (libc::SYS_arch_prctl, SET_FS) => Verdict::ThreadPointer(asked.second),
        (number, _) if number & 0x4000_0000 != 0 => {
            let name = syscalls::name(number as u32 ^ 0x4000_0000);
            Verdict::Error(RunError::Forbidden(format!("{name} (by the x32 interface)")))
        }
        (number, _) => Verdict::Error(RunError::Forbidden(syscalls::name(number as u32))),
    }
}

fn interrupt(number: u8, asked: &Asked) -> Verdict {
    match number {
        END => Verdict::Done,
        0x80 => Verdict::Error(RunError::Forbidden(format!("the 32-bit system call number {}", asked.number as u32))),
        _ => Verdict::Error(RunError::Forbidden(format!("interrupt {number:#x}"))),
    }
}
