//! The same talk through the memory alone: a stream of `crates/socket`, polled at both ends, without sockets and library. What is left
//! is what the processor takes to copy bytes, and to bring them from one core to another.

use socket::records::Quota;
use socket::region::{OpenError, Pair, Receiver, Sender};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

/// Says that nothing follows.
const END: u8 = 1;

/// A pair of this process and another, whose connections are opened one after the other at both ends.
pub struct Memory {
    pair: Pair,
    next: Cell<usize>,
}

/// One connection.
pub struct Direct(Sender, Receiver);

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, error)
}

impl Memory {
    /// One that others find at this address, while the descriptor is open.
    pub fn publish() -> io::Result<(Self, String, OwnedFd)> {
        let (pair, file) = Pair::create(&Quota::own()?)?;
        let address = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok((Self { pair, next: Cell::new(0) }, address, file))
    }

    pub fn find(address: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(address)?;
        let pair = Pair::join(&file, &Quota::own()?).map_err(broken)?;
        Ok(Self { pair, next: Cell::new(0) })
    }

    pub fn open(&self) -> io::Result<Direct> {
        let (sender, receiver) = self.pair.open(self.next.get()).map_err(|error: OpenError| broken(error))?;
        self.next.set(self.next.get() + 1);
        Ok(Direct(sender, receiver))
    }
}

/// Memory that both ends poll.
pub trait Polled: Read + Write {
    /// What is there; none if the other end has left.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;
    fn is_there(&mut self) -> bool;
}

/// Until something is there: who serves nobody leaves the processor to others.
pub fn await_first(end: &mut impl Polled) {
    while !end.is_there() {
        crate::pause(std::time::Duration::from_micros(500));
    }
}

impl Polled for Direct {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.1.read(&mut [IoSliceMut::new(buffer)], false).map_err(broken)? {
            0 if self.1.mark().map_err(broken)?.is_some() => Ok(None),
            0 => Ok(Some(0)),
            got => {
                self.0.answered();
                Ok(Some(got))
            }
        }
    }

    fn is_there(&mut self) -> bool {
        self.1.unread().map_or(true, |bytes| bytes > 0)
    }
}

impl Read for Direct {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buffer)? {
                None => return Ok(0),
                Some(0) => std::hint::spin_loop(),
                Some(got) => return Ok(got),
            }
        }
    }
}

impl Write for Direct {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(&[IoSlice::new(buffer)]).map_err(broken)? {
                0 => std::hint::spin_loop(),
                sent => return Ok(sent),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        while self.0.mark(END) == Ok(false) {
            std::hint::spin_loop();
        }
    }
}
