//! What the function's programs print, where extensions may want to hear of it: on its way into the log, line by line.
//!
//! Without extensions programs print into the log themselves, and there is none of this.

use crate::telemetry::{Class, Telemetry};
use serde_json::Value;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};

/// Read at a time, and the longest line.
const CHUNK: usize = 16 * 1024;
/// Reads before it is somebody else's turn.
const CHUNKS: usize = 64;

/// What some of the programs print.
pub struct Output {
    class: Class,
    pipe: PipeReader,
    partial: Vec<u8>,
    /// Nobody can print any more.
    pub is_over: bool,
}

impl Output {
    /// And where they print it.
    pub fn new(class: Class) -> io::Result<(Self, PipeWriter)> {
        let (pipe, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok((Self { class, pipe, partial: Vec::new(), is_over: false }, writer))
    }

    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Passes on what has been printed.
    pub fn pass_on(&mut self, telemetry: &mut Telemetry) {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS {
            match rustix::io::read(&self.pipe, &mut chunk) {
                Ok(0) => {
                    self.is_over = true;
                    break;
                }
                Ok(len) => {
                    log(&chunk[..len]);
                    self.partial.extend_from_slice(&chunk[..len]);
                    self.tell_lines(telemetry);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if self.is_over && !self.partial.is_empty() {
            self.partial.push(b'\n');
            self.tell_lines(telemetry);
        }
    }

    fn tell_lines(&mut self, telemetry: &mut Telemetry) {
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let cut = if whole == 0 && self.partial.len() >= CHUNK { self.partial.len() } else { whole };
        let kind = if self.class == Class::Extension { "extension" } else { "function" };
        for line in self.partial.drain(..cut).as_slice().split_inclusive(|byte| *byte == b'\n') {
            telemetry.tell(self.class, kind, &Value::from(String::from_utf8_lossy(line)));
        }
    }
}

/// Writes all of it to the log. Between invocations nobody reads that, and it has room for a while only; with the next
/// invocation it is read again.
fn log(mut text: &[u8]) {
    while !text.is_empty() {
        match rustix::io::write(io::stdout(), text) {
            Ok(len) => text = &text[len..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
