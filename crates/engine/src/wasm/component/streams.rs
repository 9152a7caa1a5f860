//! `wasi:io`: streams over files and the standard ones, and waiting. Nothing blocks but clocks.

use super::wasi::io::{error, poll, streams};
use super::{Context, over};
use crate::files::{Errno, NodeId, Refusal};
use crate::wasm::console::Stream;
use crate::wasm::watch;
use std::time::Duration;
use wasmtime::component::{Resource, ResourceTableError};

/// Bytes that one call moves, at most.
const MOST: u64 = 1 << 20;
/// Bytes that one call takes from somebody who writes, at most.
const PIECE: usize = 64 << 10;

/// Why a stream's last call failed.
#[derive(Debug)]
pub struct IoError(pub Errno);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pollable {
    /// Files and streams: always.
    Ready,
    /// At this time of the monotonic clock.
    At(u64),
    /// When somebody has written to the program's own input.
    Input,
}

#[derive(Debug)]
pub enum InputStream {
    Stdin,
    /// A file, held open, and where in it.
    File(NodeId, u64),
}

#[derive(Debug)]
pub enum OutputStream {
    Stdout,
    Stderr,
    File(NodeId, u64),
    /// Always at the end.
    Append(NodeId),
}

/// What a stream's call can come to other than a result.
#[derive(Debug)]
pub enum StreamEnd {
    Closed,
    Refused(Refusal),
    Resource(ResourceTableError),
}

impl From<ResourceTableError> for StreamEnd {
    fn from(error: ResourceTableError) -> Self {
        Self::Resource(error)
    }
}

impl From<Refusal> for StreamEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Errno> for StreamEnd {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno.into())
    }
}

impl error::Host for Context {}

impl error::HostError for Context {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> wasmtime::Result<String> {
        Ok(format!("{:?}", self.resources.get(&error)?.0))
    }

    fn drop(&mut self, error: Resource<IoError>) -> wasmtime::Result<()> {
        self.resources.delete(error)?;
        Ok(())
    }
}

impl Context {
    /// Sleeps until one of them is ready.
    fn wait_for(&mut self, wishes: &[Pollable]) {
        if wishes.iter().any(|wish| self.is_ready(*wish)) {
            return;
        }
        let times = wishes.iter().filter_map(|wish| if let Pollable::At(time) = wish { Some(*time) } else { None });
        let left = times.min().map(|first| first.saturating_sub(self.monotonic_clock()));
        match (&self.console, left) {
            (Some(console), left) if wishes.contains(&Pollable::Input) => {
                console.wait(Stream::Input, left.map(Duration::from_nanos));
            }
            (_, Some(left)) => self.wait(left),
            (_, None) => {}
        }
    }

    fn is_ready(&self, pollable: Pollable) -> bool {
        match pollable {
            Pollable::Ready => true,
            Pollable::At(time) => time <= self.monotonic_clock(),
            Pollable::Input => self.has_input(),
        }
    }

    fn has_input(&self) -> bool {
        self.console.as_ref().is_none_or(|console| console.wait(Stream::Input, Some(Duration::ZERO)))
    }

    /// Bytes for a stream's reader, who waits for somebody to write them or does not.
    fn take(&mut self, stream: &Resource<InputStream>, len: u64, waits: bool) -> Result<Vec<u8>, StreamEnd> {
        let len = len.min(MOST) as usize;
        if let (InputStream::Stdin, Some(console)) = (self.resources.get(stream)?, &self.console) {
            if len == 0 || !waits && !self.has_input() {
                return Ok(Vec::new());
            }
            let mut bytes = vec![0; len.min(PIECE)];
            let read = console.read(&mut bytes)?;
            bytes.truncate(read);
            return if read > 0 { Ok(bytes) } else { Err(StreamEnd::Closed) };
        }
        let (bytes, from) = match self.resources.get(stream)? {
            InputStream::Stdin => (&*self.stdin, self.stdin_at as u64),
            InputStream::File(id, from) => (self.files.file(*id)?.bytes(), *from),
        };
        let rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
        if rest.is_empty() && len > 0 {
            return Err(StreamEnd::Closed);
        }
        let taken = rest[..rest.len().min(len)].to_vec();
        match self.resources.get_mut(stream)? {
            InputStream::Stdin => self.stdin_at += taken.len(),
            InputStream::File(_, from) => *from += taken.len() as u64,
        }
        Ok(taken)
    }

    /// Bytes from a stream's writer.
    fn put(&mut self, stream: &Resource<OutputStream>, bytes: &[u8]) -> Result<(), StreamEnd> {
        let budget = &mut self.files.budget;
        let (id, from) = match self.resources.get(stream)? {
            OutputStream::Stdout | OutputStream::Stderr if bytes.is_empty() => return Ok(()),
            OutputStream::Stdout if let Some(console) = &self.console => {
                return Ok(console.write(Stream::Output, bytes)?);
            }
            OutputStream::Stdout => {
                let room = self.stdout.append(bytes.len(), budget)?;
                room.copy_from_slice(&bytes[..room.len()]);
                return Ok(());
            }
            OutputStream::Stderr if let Some(console) = &self.console => {
                return Ok(console.write(Stream::Errors, bytes)?);
            }
            OutputStream::Stderr => {
                let room = self.stderr.append(bytes.len(), budget)?;
                room.copy_from_slice(&bytes[..room.len()]);
                return Ok(());
            }
            OutputStream::File(id, from) => (*id, Some(*from)),
            OutputStream::Append(id) => (*id, None),
        };
        let (data, budget) = self.files.file_mut(id)?;
        let at = from.unwrap_or(data.size());
        if !bytes.is_empty() {
            data.range_mut(at, bytes.len(), budget)?.copy_from_slice(bytes);
        }
        if let OutputStream::File(_, from) = self.resources.get_mut(stream)? {
            *from += bytes.len() as u64;
        }
        Ok(())
    }
}

impl poll::Host for Context {
    fn poll(&mut self, wishes: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        wasmtime::ensure!(!wishes.is_empty(), "nothing to wait for");
        let wishes: Vec<Pollable> =
            wishes.iter().map(|wish| self.resources.get(wish).copied()).collect::<Result<_, _>>()?;
        self.wait_for(&wishes);
        let ready = wishes.iter().enumerate().filter(|(_, wish)| self.is_ready(**wish));
        let ready: Vec<u32> = ready.map(|(number, _)| number as u32).collect();
        // The wait was cut short.
        wasmtime::ensure!(!ready.is_empty() || watch::told().is_some(), "nothing is ready after the wait");
        Ok(ready)
    }
}

impl poll::HostPollable for Context {
    fn ready(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<bool> {
        Ok(self.is_ready(*self.resources.get(&pollable)?))
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        let pollable = *self.resources.get(&pollable)?;
        self.wait_for(&[pollable]);
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> wasmtime::Result<()> {
        self.resources.delete(pollable)?;
        Ok(())
    }
}

impl streams::Host for Context {
    fn convert_stream_error(&mut self, end: StreamEnd) -> wasmtime::Result<streams::StreamError> {
        match end {
            StreamEnd::Closed => Ok(streams::StreamError::Closed),
            StreamEnd::Refused(Refusal::Errno(errno)) => {
                Ok(streams::StreamError::LastOperationFailed(self.resources.push(IoError(errno))?))
            }
            StreamEnd::Refused(Refusal::Over(end)) => Err(over(self, end)),
            StreamEnd::Resource(error) => Err(error.into()),
        }
    }
}

impl streams::HostInputStream for Context {
    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> Result<Vec<u8>, StreamEnd> {
        self.take(&stream, len, false)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> Result<Vec<u8>, StreamEnd> {
        self.take(&stream, len, true)
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> Result<u64, StreamEnd> {
        Ok(self.take(&stream, len, false)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> Result<u64, StreamEnd> {
        Ok(self.take(&stream, len, true)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<Resource<Pollable>> {
        let comes = self.console.is_some() && matches!(self.resources.get(&stream)?, InputStream::Stdin);
        Ok(self.resources.push(if comes { Pollable::Input } else { Pollable::Ready })?)
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<()> {
        if let InputStream::File(id, _) = self.resources.delete(stream)? {
            self.files.close(id);
        }
        Ok(())
    }
}

impl streams::HostOutputStream for Context {
    fn check_write(&mut self, _: Resource<OutputStream>) -> Result<u64, StreamEnd> {
        Ok(MOST)
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> Result<(), StreamEnd> {
        self.put(&stream, &bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> Result<(), StreamEnd> {
        self.put(&stream, &bytes)
    }

    fn flush(&mut self, _: Resource<OutputStream>) -> Result<(), StreamEnd> {
        Ok(())
    }

    fn blocking_flush(&mut self, _: Resource<OutputStream>) -> Result<(), StreamEnd> {
        Ok(())
    }

    fn subscribe(&mut self, _: Resource<OutputStream>) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.resources.push(Pollable::Ready)?)
    }

    fn write_zeroes(&mut self, stream: Resource<OutputStream>, len: u64) -> Result<(), StreamEnd> {
        // More than `check-write` said is the guest's mistake.
        let len = Some(len).filter(|len| *len <= MOST).ok_or(Errno::Invalid)?;
        self.put(&stream, &vec![0; len as usize])
    }

    fn blocking_write_zeroes_and_flush(&mut self, to: Resource<OutputStream>, len: u64) -> Result<(), StreamEnd> {
        self.write_zeroes(to, len)
    }

    fn splice(&mut self, to: Resource<OutputStream>, from: Resource<InputStream>, len: u64) -> Result<u64, StreamEnd> {
        let bytes = self.take(&from, len, false)?;
        self.put(&to, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> Result<u64, StreamEnd> {
        let bytes = self.take(&from, len, true)?;
        self.put(&to, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn drop(&mut self, stream: Resource<OutputStream>) -> wasmtime::Result<()> {
        if let OutputStream::File(id, _) | OutputStream::Append(id) = self.resources.delete(stream)? {
            self.files.close(id);
        }
        Ok(())
    }
}
