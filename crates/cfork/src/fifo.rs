//! FIFOs as a function's code has them: ends by numbers, ids as text, and one attachment for all of its threads.
//!
//! Ids travel in events, so they are text of sixteen hexadecimal digits: as numbers they would be longer than JavaScript
//! can count. What the code of a function makes of this is for `lichen.fifo` of its language to say.

use crate::stage::SHIM;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use xpucall::error::{
    AttachError, ConnectError, CreateError, End, GrantError, ReadError, ReleaseError, RevokeError, WriteError,
};
use xpucall::id::{FifoId, Rights, XpuPid};
use xpucall::wire::Transport;
use xpucall::{Event, Limits, Process, Reader, Writer};

/// Why something was not done with a FIFO.
#[derive(Debug, Error)]
pub enum FifoError {
    #[error("{0:?} is no id: sixteen hexadecimal digits are one")]
    NoId(String),
    #[error("{0:?} names no rights: r, w and o stand for reading, writing and owning")]
    NoRights(String),
    #[error("this end of a FIFO is closed")]
    Closed,
    #[error("this end of a FIFO cannot do that: one reads, the other writes")]
    WrongEnd,
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Revoke(#[from] RevokeError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl FifoError {
    /// By which code tells errors apart.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Read(ReadError::TimedOut) | Self::Write(WriteError::TimedOut | WriteError::Full) => "timeout",
            Self::Read(ReadError::Ended(end)) | Self::Write(WriteError::Ended(end)) => word(*end),
            Self::Closed => "closed",
            Self::Connect(ConnectError::NotPermitted)
            | Self::Grant(GrantError::NotPermitted)
            | Self::Revoke(RevokeError::NotPermitted)
            | Self::Release(ReleaseError::NotPermitted) => "not-permitted",
            Self::NoId(_) | Self::NoRights(_) | Self::WrongEnd | Self::Write(WriteError::TooLong { .. }) => "value",
            _ => "failed",
        }
    }
}

/// Why an end has ended.
pub fn word(end: End) -> &'static str {
    match end {
        End::Closed => "closed",
        End::Died => "died",
        End::Lost => "lost",
        End::Revoked => "revoked",
        End::Broken => "broken",
    }
}

/// What a reader is told.
pub enum Heard {
    Message { from: String, bytes: Vec<u8> },
    Ended { from: String, why: &'static str },
}

enum Held {
    Reader(Reader),
    Writer(Box<Writer>),
}

#[derive(Default)]
struct Table {
    process: Option<Process>,
    ends: HashMap<u64, Arc<Mutex<Held>>>,
    last: u64,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's attachment, which is made when it is first asked for; anew in a child that a fork has made, and where
/// the one before has ended.
fn process() -> Result<Process, FifoError> {
    let mut table = table();
    let known = table.get_or_insert_default();
    match &known.process {
        Some(process) if process.ended().is_none() => Ok(process.clone()),
        _ => {
            let process = Process::attach(Path::new(SHIM), Transport::Adaptive)?;
            known.process = Some(process.clone());
            Ok(process)
        }
    }
}

fn end(handle: u64) -> Result<Arc<Mutex<Held>>, FifoError> {
    table().as_ref().and_then(|table| table.ends.get(&handle).cloned()).ok_or(FifoError::Closed)
}

fn keep(held: Held) -> u64 {
    let mut table = table();
    let table = table.get_or_insert_default();
    table.last += 1;
    table.ends.insert(table.last, Arc::new(Mutex::new(held)));
    table.last
}

fn locked(end: &Arc<Mutex<Held>>) -> MutexGuard<'_, Held> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(id: u64) -> String {
    format!("{id:016x}")
}

fn id(text: &str) -> Result<u64, FifoError> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.filter(|id| *id != 0).ok_or_else(|| FifoError::NoId(text.to_owned()))
}

fn rights(text: &str) -> Result<Rights, FifoError> {
    let mut rights = Rights::NONE;
    for letter in text.chars() {
        rights = rights
            | match letter {
                'r' => Rights::READ,
                'w' => Rights::WRITE,
                'o' => Rights::OWNER,
                _ => return Err(FifoError::NoRights(text.to_owned())),
            };
    }
    if rights.is_empty() { Err(FifoError::NoRights(text.to_owned())) } else { Ok(rights) }
}

/// This process, as others name it in grants.
pub fn process_id() -> Result<String, FifoError> {
    Ok(text(process()?.pid().0))
}

/// Makes a FIFO: its id. An empty one is chosen by the shim, and 0 leaves the longest message to it.
pub fn create(wanted: &str, message_max: u64) -> Result<String, FifoError> {
    let wanted = if wanted.is_empty() { None } else { Some(FifoId(id(wanted)?)) };
    let limits = Limits { message_max, ..Limits::default() };
    Ok(text(process()?.create(wanted, limits)?.0))
}

/// Ends a FIFO for all.
pub fn release(fifo: &str) -> Result<(), FifoError> {
    Ok(process()?.release(FifoId(id(fifo)?))?)
}

/// Gives rights, named by letters.
pub fn grant(to: &str, fifo: &str, letters: &str) -> Result<(), FifoError> {
    Ok(process()?.grant(XpuPid(id(to)?), FifoId(id(fifo)?), rights(letters)?)?)
}

/// Takes rights back.
pub fn revoke(from: &str, fifo: &str, letters: &str) -> Result<(), FifoError> {
    Ok(process()?.revoke(XpuPid(id(from)?), FifoId(id(fifo)?), rights(letters)?)?)
}

/// Connects as the reader: the number of this end.
pub fn reader(fifo: &str) -> Result<u64, FifoError> {
    Ok(keep(Held::Reader(process()?.connect_reader(FifoId(id(fifo)?))?)))
}

/// Connects as a writer: the number of this end.
pub fn writer(fifo: &str) -> Result<u64, FifoError> {
    Ok(keep(Held::Writer(Box::new(process()?.connect_writer(FifoId(id(fifo)?))?))))
}

/// Gives an end up. Others that use it at this moment come to their ends first.
pub fn close(handle: u64) {
    let closed = table().as_mut().and_then(|table| table.ends.remove(&handle));
    drop(closed);
}

/// The next message or end of a writer, waited for until `deadline`.
pub fn read(handle: u64, deadline: Instant) -> Result<Heard, FifoError> {
    match &mut *locked(&end(handle)?) {
        Held::Reader(reader) => Ok(heard(reader.event_by(deadline)?)),
        Held::Writer(_) => Err(FifoError::WrongEnd),
    }
}

/// The same if there is one now.
pub fn try_read(handle: u64) -> Result<Option<Heard>, FifoError> {
    match &mut *locked(&end(handle)?) {
        Held::Reader(reader) => {
            reader.disarm()?;
            Ok(reader.try_event()?.map(heard))
        }
        Held::Writer(_) => Err(FifoError::WrongEnd),
    }
}

fn heard(event: Event) -> Heard {
    match event {
        Event::Message(message) => Heard::Message { from: text(message.from.0), bytes: message.bytes },
        Event::Ended { from, why } => Heard::Ended { from: text(from.0), why: word(why) },
    }
}

/// Writes a message, waiting for room until `deadline`.
pub fn write(handle: u64, message: &[u8], deadline: Instant) -> Result<(), FifoError> {
    match &mut *locked(&end(handle)?) {
        Held::Writer(writer) => Ok(writer.write_by(message, deadline)?),
        Held::Reader(_) => Err(FifoError::WrongEnd),
    }
}

/// The same if there is room now: whether there was.
pub fn try_write(handle: u64, message: &[u8]) -> Result<bool, FifoError> {
    match &mut *locked(&end(handle)?) {
        Held::Writer(writer) => {
            writer.disarm()?;
            match writer.try_write(message) {
                Err(WriteError::Full) => Ok(false),
                result => Ok(result.map(|()| true)?),
            }
        }
        Held::Reader(_) => Err(FifoError::WrongEnd),
    }
}

/// For event loops: the descriptor that becomes readable when it is worth trying again, and whether that is not now.
pub fn arm(handle: u64) -> Result<(RawFd, bool), FifoError> {
    match &mut *locked(&end(handle)?) {
        Held::Reader(reader) => {
            let rests = reader.arm()?;
            Ok((reader.poll_fd()?.as_raw_fd(), rests))
        }
        Held::Writer(writer) => {
            let rests = writer.arm()?;
            Ok((writer.as_fd().as_raw_fd(), rests))
        }
    }
}

/// When a wait of so many microseconds is over; nothing waits for longer than a slice, so that signals are seen.
pub fn deadline(microseconds: u64) -> Instant {
    Instant::now() + Duration::from_micros(microseconds.min(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text_and_nothing_else_is() {
        assert_eq!(id(&text(u64::MAX)).unwrap(), u64::MAX);
        for wrong in ["", "0", "0000000000000000", "00000000000000001", "zz00000000000000", "+000000000000001"] {
            assert!(matches!(id(wrong), Err(FifoError::NoId(_))), "{wrong}");
        }
    }

    #[test]
    fn rights_are_letters() {
        assert_eq!(rights("rw").unwrap(), Rights::READ | Rights::WRITE);
        assert_eq!(rights("o").unwrap(), Rights::OWNER);
        assert_eq!((rights("").unwrap_err().word(), rights("x").unwrap_err().word()), ("value", "value"));
    }

    #[test]
    fn an_end_that_is_not_there_is_closed() {
        assert_eq!(try_read(99).err().unwrap().word(), "closed");
        assert_eq!(write(99, b"", deadline(0)).err().unwrap().word(), "closed");
        close(99);
    }
}
