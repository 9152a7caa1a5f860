//! Rings of a fixed size ([`socket::fixed`]), polled at both ends, without sockets and library.

use super::memory::Polled;
use socket::fixed;
use std::io::{self, ErrorKind, Read, Write};

/// One connection.
pub struct Reserved(pub fixed::Reserved);

impl Polled for Reserved {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(self.0.try_read(buffer))
    }

    fn is_there(&mut self) -> bool {
        self.0.is_there()
    }
}

impl Read for Reserved {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.try_read(buffer) {
                None => return Ok(0),
                Some(0) => std::hint::spin_loop(),
                Some(got) => return Ok(got),
            }
        }
    }
}

impl Write for Reserved {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.try_write(buffer) {
                0 if buffer.is_empty() => return Err(ErrorKind::InvalidInput.into()),
                0 => std::hint::spin_loop(),
                sent => return Ok(sent),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
