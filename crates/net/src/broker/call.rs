//! How a broker that takes the place of another has all processes hear of it, also those that wait for something else.
//!
//! A named pipe beside its socket, which each of them has open among what it waits for. A byte in it wakes all of them: nobody takes
//! it, so each hears of it once (as of an edge). Those who find no room with the broker at once are called a second time.

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// From the first call to the second.
const AGAIN: Duration = Duration::from_secs(1);

/// A broker's that has begun.
pub struct Call {
    pipe: OwnedFd,
    again: Instant,
}

impl Call {
    /// Calls all who have come to the broker at `path`.
    pub fn at(path: &Path) -> io::Result<Self> {
        let place = socket::member::call_beside(path);
        match mknodat(CWD, &place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // For reading too: it can be opened before anybody listens, and what earlier brokers have left be taken out.
        let pipe = open(&place, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&pipe)?.st_mode) != FileType::Fifo {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let call = Self { pipe, again: Instant::now() + AGAIN };
        call.ring()?;
        Ok(call)
    }

    fn ring(&self) -> io::Result<()> {
        let mut left = [0; 64];
        while rustix::io::read(&self.pipe, &mut left).is_ok_and(|len| len > 0) {}
        rustix::io::write(&self.pipe, &[1])?;
        Ok(())
    }

    /// Time to the second call.
    pub fn left(&self) -> Duration {
        self.again.saturating_duration_since(Instant::now())
    }

    /// Whether it is time for the second call, which is made then.
    pub fn is_due(&mut self) -> bool {
        self.left().is_zero() && {
            let _ = self.ring();
            true
        }
    }
}
