//! How one process wakes another that waits for many things at once: by a pipe whose reading end is among them.
//!
//! Whoever waits, an event loop or a thread, has one pipe, whatever the number of its connections. Each process that sends to it opens the
//! pipe for itself: its flags are its own, so that nobody can make it wait; and as it can read there too, no signal is raised when the
//! sleeper has ended. When to ring is said by the sleeping word
//! of each connection ([`crate::migration`]); a bell that cannot be rung is replaced by a byte over TCP.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A pipe of which an end has come from another process, opened anew. An error: it is none.
pub fn reopened(bell: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    let bell = bell.as_fd();
    if FileType::from_raw_mode(fstat(bell)?.st_mode) != FileType::Fifo {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(format!("/proc/self/fd/{}", bell.as_raw_fd()), flags, Mode::empty())?)
}

/// Rings: whether the sleeper will hear it. Not if nobody listens any more, or the pipe was filled.
pub fn ring(bell: impl AsFd) -> bool {
    rustix::io::write(bell, &[1]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_bell_has_flags_of_its_own() {
        let (ear, bell) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let own = reopened(&bell).unwrap();
        assert!(ring(&own));
        // The other one is made to wait, and the pipe is full: this one does not.
        while ring(&own) {}
        assert!(!ring(&own));
        drop(ear);
        assert!(!ring(&own), "no signal either");
    }

    #[test]
    fn what_is_no_pipe_is_no_bell() {
        assert!(reopened(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
