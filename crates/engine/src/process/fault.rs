//! Why a guest has ended, in words: from its exit status, and from the report that the stub leaves at a fault.
//!
//! A guest can write a report, too, or none: it can only say something wrong about its own end.

use super::filter::X86_64;
use super::nursery::Ended;
use super::stub::{FAILED, REPORTED, report};
use super::syscalls;
use crate::RunError;
use crate::native::context::View;
use crate::native::layout::{INPUTS, PAGE, STACK_GUARD};

/// Processor exceptions.
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
/// `int 0x20`, which no process may: how programs for machines without a kernel end.
const END: u64 = 0x20;

/// How a guest came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By itself: its outputs can be read.
    Done,
    /// A system call of the stub failed.
    NotStarted,
    Error(RunError),
}

/// The report, as it was left.
struct Report<'a>(&'a [u8]);

impl Report<'_> {
    fn word(&self, at: usize) -> u32 {
        self.0[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    fn number(&self, at: usize) -> u64 {
        u64::from(self.word(at + 4)) << 32 | u64::from(self.word(at))
    }
}

/// What has happened. `bytes` is the beginning of the report page.
pub fn verdict(ended: Ended, bytes: &[u8; report::LEN], view: &View, limit: u64) -> Verdict {
    let report = Report(bytes);
    match ended {
        Ended::Exit(0) => Verdict::Done,
        Ended::Exit(REPORTED) if report.word(report::SIGNAL) != 0 => reported(&report, view, limit),
        Ended::Exit(FAILED) => Verdict::NotStarted,
        Ended::Exit(code) => Verdict::Error(RunError::Exit(code)),
        Ended::Signal(signal) => Verdict::Error(by(signal)),
    }
}

/// Ended by what a processor exception becomes on Linux.
pub fn by(signal: i32) -> RunError {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV: it touched memory that it does not have, or may not write",
        libc::SIGILL => "SIGILL: an illegal instruction",
        libc::SIGFPE => "SIGFPE: a division by zero, or one that overflows",
        libc::SIGBUS => "SIGBUS: memory that could not be had",
        libc::SIGTRAP => "SIGTRAP: a breakpoint",
        libc::SIGSYS => "SIGSYS: a system call",
        libc::SIGKILL => "SIGKILL: from outside, most likely since the machine's memory is used up",
        _ => "a signal from outside",
    };
    RunError::Signal { signal, name }
}

fn reported(report: &Report<'_>, view: &View, limit: u64) -> Verdict {
    let signal = report.word(report::SIGNAL) as i32;
    let (trap, error) = (report.number(report::TRAP), report.number(report::ERROR));
    if signal == libc::SIGSYS {
        return Verdict::Error(RunError::Forbidden(call(report.word(report::ARCH), report.word(report::CALL))));
    }
    if signal == libc::SIGSEGV && trap == GENERAL_PROTECTION && error & 2 != 0 {
        // The processor names the interrupt's entry.
        return match error >> 3 {
            END => Verdict::Done,
            vector => Verdict::Error(RunError::Forbidden(format!("interrupt {vector:#x}"))),
        };
    }
    if signal == libc::SIGSEGV && trap == PAGE_FAULT {
        return Verdict::Error(page_fault(report.number(report::ADDRESS), view, limit));
    }
    Verdict::Error(by(signal))
}

/// A page that is not there: which one says what it would have been.
pub fn page_fault(address: u64, view: &View, limit: u64) -> RunError {
    let below_stack = view.stack.start - STACK_GUARD..view.stack.start;
    let above_heap = view.heap.end..INPUTS;
    if below_stack.contains(&address) {
        RunError::StackOverflow
    } else if above_heap.contains(&address) {
        RunError::OutOfMemory { limit }
    } else {
        by(libc::SIGSEGV)
    }
}

fn call(arch: u32, number: u32) -> String {
    const X32: u32 = 0x4000_0000;
    match (arch, number & X32) {
        (X86_64, 0) => syscalls::name(number),
        (X86_64, _) => format!("{} (by the x32 interface)", syscalls::name(number ^ X32)),
        _ => format!("the 32-bit system call number {number}"),
    }
}

const _: () = assert!(report::LEN as u64 <= PAGE);

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fields: &[(usize, u64, usize)]) -> [u8; report::LEN] {
        let mut bytes = [0; report::LEN];
        for (at, value, len) in fields {
            bytes[*at..at + len].copy_from_slice(&value.to_le_bytes()[..*len]);
        }
        bytes
    }

    fn view() -> View {
        View { heap: 0x48_2008_0000..0x48_3000_0000, stack: 0x48_1f00_0000..0x48_2004_0000, ..View::default() }
    }

    fn segv(trap: u64, error: u64, address: u64) -> Verdict {
        let fields = [
            (report::SIGNAL, 11, 4),
            (report::TRAP, trap, 8),
            (report::ERROR, error, 8),
            (report::ADDRESS, address, 8),
        ];
        verdict(Ended::Exit(REPORTED), &report(&fields), &view(), 7)
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(segv(14, 6, 0x48_3000_0000), Verdict::Error(RunError::OutOfMemory { limit: 7 }));
        assert_eq!(segv(14, 6, 0x48_1eff_fff8), Verdict::Error(RunError::StackOverflow));
        assert!(matches!(segv(14, 6, 0), Verdict::Error(RunError::Signal { signal: 11, .. })));
        assert_eq!(segv(13, 0x102, 0), Verdict::Done);
        assert_eq!(segv(13, 0x402, 0), Verdict::Error(RunError::Forbidden("interrupt 0x80".into())));
        assert!(matches!(segv(13, 0, 0), Verdict::Error(RunError::Signal { signal: 11, .. })));
    }

    #[test]
    fn calls_are_named_by_every_gate() {
        let tried = |arch: u64, number: u64| {
            let fields = [(report::SIGNAL, 31, 4), (report::ARCH, arch, 4), (report::CALL, number, 4)];
            match verdict(Ended::Exit(REPORTED), &report(&fields), &view(), 7) {
                Verdict::Error(RunError::Forbidden(what)) => what,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tried(X86_64.into(), 2), "the system call open");
        assert_eq!(tried(X86_64.into(), 0x4000_0000), "the system call read (by the x32 interface)");
        assert_eq!(tried(0x4000_0003, 1), "the 32-bit system call number 1");
    }

    #[test]
    fn exit_codes_are_the_guests_where_there_is_no_report() {
        let end = |code| verdict(Ended::Exit(code), &report(&[]), &view(), 7);
        assert_eq!(end(0), Verdict::Done);
        assert_eq!(end(255), Verdict::Error(RunError::Exit(255)));
        assert_eq!(end(7), Verdict::Error(RunError::Exit(7)));
    }
}
