//! Signals that are sent to this program are meant for the one that it runs.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};

const PASSED: &[i32] = &[
    Signal::HUP.as_raw(),
    Signal::INT.as_raw(),
    Signal::QUIT.as_raw(),
    Signal::TERM.as_raw(),
    Signal::USR1.as_raw(),
    Signal::USR2.as_raw(),
];
/// What the kernel tells of a signal, and where in it are its number and who has sent it: 0 and less: a program.
const RECORD: usize = 128;
const NUMBER: usize = 0;
const CODE: usize = 8;

/// From now on these signals do nothing to this thread, and those that it begins, but make this descriptor readable; the program hears them.
pub fn awaited(command: &mut Command) -> io::Result<OwnedFd> {
    os::child::hear(command, PASSED);
    os::signal::descriptor(PASSED)
}

/// Waits for a program's end, and passes it what is sent to this one meanwhile. What a terminal sends, it sends to both.
pub fn on(mut child: Child, signals: &OwnedFd) -> io::Result<ExitStatus> {
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    loop {
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().is_empty() {
            return child.wait();
        }
        let mut record = [0; RECORD];
        if rustix::io::read(signals, &mut record) != Ok(RECORD) {
            continue;
        }
        let word = |at: usize| i32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        if let Some(signal) = Signal::from_named_raw(word(NUMBER))
            && word(CODE) <= 0
        {
            // It may have ended just now, which the next turn sees.
            let _ = pidfd_send_signal(&process, signal);
        }
    }
}
