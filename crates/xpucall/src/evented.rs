//! Readers and writers that are waited for in tokio's event loop.
//!
//! Reading and writing stay what they are, memory to memory; only waiting goes through descriptors. Dropping a future loses
//! nothing. Calls to the shim block for microseconds, or for as long as other PUs take to agree: make them elsewhere.

use crate::error::{ReadError, WriteError};
use crate::reader::{Event, Reader};
use crate::writer::Writer;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A reader in an event loop.
#[derive(Debug)]
pub struct EventedReader {
    reader: Reader,
    ready: AsyncFd<OwnedFd>,
}

/// A writer in an event loop.
#[derive(Debug)]
pub struct EventedWriter {
    writer: Writer,
    ready: AsyncFd<OwnedFd>,
}

fn watch(fd: impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd.as_fd().try_clone_to_owned()?, Interest::READABLE)
}

/// Waits until the descriptor has become readable since it last was waited for.
async fn readable(ready: &AsyncFd<OwnedFd>) {
    // An event loop that has ended polls no future: there is no other error.
    if let Ok(mut guard) = ready.readable().await {
        guard.clear_ready();
    }
}

impl EventedReader {
    /// To be called within tokio's runtime.
    pub fn new(mut reader: Reader) -> io::Result<Self> {
        let ready = watch(reader.poll_fd().map_err(io::Error::other)?)?;
        Ok(Self { reader, ready })
    }

    /// The next message or the end of a writer.
    pub async fn event(&mut self) -> Result<Event, ReadError> {
        loop {
            if let Some(event) = self.reader.try_event()? {
                return Ok(event);
            }
            if self.reader.arm()? {
                readable(&self.ready).await;
            }
            self.reader.disarm()?;
        }
    }

    /// The reader, for whatever does not wait.
    pub fn get(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

impl EventedWriter {
    /// To be called within tokio's runtime.
    pub fn new(writer: Writer) -> io::Result<Self> {
        let ready = watch(&writer)?;
        Ok(Self { writer, ready })
    }

    /// Writes one message, once there is room for it.
    pub async fn write(&mut self, message: &[u8]) -> Result<(), WriteError> {
        loop {
            match self.writer.try_write(message) {
                Err(WriteError::Full) => {}
                result => return result,
            }
            if self.writer.arm()? {
                readable(&self.ready).await;
            }
            self.writer.disarm()?;
        }
    }

    /// The writer, for whatever does not wait.
    pub fn get(&mut self) -> &mut Writer {
        &mut self.writer
    }
}
