//! Standard streams that are somebody's: of a program that a person runs, which reads and writes them as it goes. A function
//! has none: its input was there before it began, and what it prints is kept.
//!
//! Whoever is at the other end may be slow, or never do anything: the thread sleeps in `poll`, which the signals of `watch`
//! end, and looks whether its run is over. They come again until it has.

use super::watch;
use crate::files::{Answer, Errno, Refusal};
use crate::{RunError, Streams};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A pipe that is ready takes so many bytes without making anybody wait.
const AT_ONCE: usize = 4096;
/// What a shell says of a command whose reader has gone away: 128 and the number of `SIGPIPE`.
const BROKEN_PIPE: i32 = 141;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Input = 0,
    Output = 1,
    Errors = 2,
}

#[derive(Debug)]
pub struct Console {
    descriptors: [OwnedFd; 3],
    terminals: [bool; 3],
    /// Files never make anybody wait.
    files: [bool; 3],
}

impl Console {
    pub fn new(streams: Streams<'_>) -> io::Result<Self> {
        let [input, output, errors] = streams.descriptors.map(|one| one.try_clone_to_owned());
        let descriptors = [input?, output?, errors?];
        let is_file = |one: &OwnedFd| {
            rustix::fs::fstat(one).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        };
        let files = descriptors.each_ref().map(is_file);
        Ok(Self { descriptors, terminals: streams.terminals, files })
    }

    pub fn is_terminal(&self, stream: Stream) -> bool {
        self.terminals[stream as usize]
    }

    /// Bytes that have come, as soon as there are some; none: it was the last.
    pub fn read(&self, into: &mut [u8]) -> Answer<usize> {
        let input = &self.descriptors[Stream::Input as usize];
        if into.is_empty() {
            return Ok(0);
        }
        while self.wait(Stream::Input, None) {
            match rustix::io::read(input, &mut *into) {
                Ok(read) => return Ok(read),
                // Of a terminal or socket that others read too.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Errno::Io.into()),
            }
        }
        Err(Errno::Interrupted.into())
    }

    /// All of them. Where nobody reads any more, the run ends as a command's would.
    pub fn write(&self, stream: Stream, mut bytes: &[u8]) -> Answer<()> {
        let most = if self.files[stream as usize] { usize::MAX } else { AT_ONCE };
        while !bytes.is_empty() {
            if !self.wait(stream, None) {
                return Err(Errno::Interrupted.into());
            }
            match rustix::io::write(&self.descriptors[stream as usize], &bytes[..bytes.len().min(most)]) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::PIPE) => return Err(Refusal::Over(RunError::Exit(BROKEN_PIPE))),
                Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => return Err(Errno::NoSpace.into()),
                Err(_) => return Err(Errno::Io.into()),
            }
        }
        Ok(())
    }

    /// Sleeps until something can be read or written, for so long at the most. False: nothing can, or the run is over.
    pub fn wait(&self, stream: Stream, limit: Option<Duration>) -> bool {
        let wanted = if stream == Stream::Input { PollFlags::IN } else { PollFlags::OUT };
        let until =
            limit.map(|limit| os::monotonic_ns().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)));
        loop {
            if watch::told().is_some() {
                return false;
            }
            if self.files[stream as usize] {
                return true;
            }
            let left = until.map(|until| Duration::from_nanos(until.saturating_sub(os::monotonic_ns())));
            let time = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.descriptors[stream as usize].as_fd(), wanted)], time.as_ref()) {
                Ok(0) => return false,
                Err(rustix::io::Errno::INTR) => {}
                // What is wrong with it is said by the call that comes next.
                Ok(_) | Err(_) => return true,
            }
        }
    }
}
