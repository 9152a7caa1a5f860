//! What the gateway and an instance say to each other through their channel.
//!
//! | direction | kind | head | body |
//! |---|---|---|---|
//! | down | [`INVOKE`] | [`Invocation`]; to an engine, when it was sent (`CLOCK_MONOTONIC`, nanoseconds, 8 bytes) | the event; sets |
//! | up | [`READY`] | [`Started`] | empty, or [`WITH_FAREWELL`], or its [`Processor`] |
//! | up | [`REPLY`] | [`Served`] | the answer |
//! | up | [`FAILED`] | [`Served`] | Lambda's error object: the function raised |
//! | up | [`INIT_FAILED`] | [`Started`] | Lambda's error object: the function could not be loaded |
//! | up | [`NOT_ENTERED`] | step (UTF-8) | the error (UTF-8): the platform could not isolate the child; it has ended |
//! | up | [`OPEN`] | content type (UTF-8) | the first part of an answer that comes in parts; may be empty |
//! | up | [`PART`] | empty | its next part, up to [`PART_MAX`] bytes, as the first |
//! | down | [`ROOM`] | empty | empty: every part that was sent has been taken |
//! | down | [`FAREWELL`] | reason (UTF-8) | empty: the instance is about to be ended, and may prepare for it |
//! | down | [`CHAIN`] | [`Order`](crate::chain::Order) | empty: a step of becoming a stage of a chain |
//! | up | [`CHAINED`] | [`Place`](crate::chain::Place) | empty: that step is done |
//! | up | [`UNCHAINED`] | reason (UTF-8) | empty: it cannot be a stage; or [`NEXT_STAGE`]: the one after it cannot be reached |
//! | up | [`PASSED`] | [`Served`] | empty: the handler's result went to the next stage; rings for nobody |
//!
//! An instance is sent one invocation at a time. It sends `READY` or `INIT_FAILED` once, before its first answer.
//!
//! An answer in parts: `OPEN`, any number of `PART`s, and at the end `REPLY` with its last part (often empty) or `FAILED`.
//! The gateway takes no part before its client has room for it, so the channel fills up and the instance has to wait.
//! `ROOM` only wakes it: whether there is room the channel itself says.

use std::time::{SystemTime, UNIX_EPOCH};

/// Down: run the handler.
pub const INVOKE: u32 = 1;
/// Up: the function is loaded.
pub const READY: u32 = 2;
/// Up: the handler's answer.
pub const REPLY: u32 = 3;
/// Up: the handler failed.
pub const FAILED: u32 = 4;
/// Up: loading failed.
pub const INIT_FAILED: u32 = 5;
/// Up: the child could not enter its slot.
pub const NOT_ENTERED: u32 = 6;
/// Up: the answer comes in parts, and this is the first.
pub const OPEN: u32 = 7;
/// Up: another part of the answer.
pub const PART: u32 = 8;
/// Down: the parts have been taken.
pub const ROOM: u32 = 9;

/// Down: the end is near. For those who have asked for it only.
pub const FAREWELL: u32 = 10;
/// Down: a step of becoming a stage of a chain: see [`crate::chain`].
pub const CHAIN: u32 = 11;
/// Up: that step is done.
pub const CHAINED: u32 = 12;
/// Up: it cannot be a stage, or not any more.
pub const UNCHAINED: u32 = 13;
/// By which a stage says that it is the one after it that is of no use.
pub const NEXT_STAGE: &[u8] = &[1];
/// Up: the result went to the next stage.
pub const PASSED: u32 = 14;

/// Reasons for a [`FAREWELL`]: the instance is not needed any more; its invocation has taken too long.
pub const NOT_NEEDED: &str = "spindown";
pub const TIMED_OUT: &str = "timeout";

/// By which an instance asks for a [`FAREWELL`].
pub const WITH_FAREWELL: &[u8] = &[1];

/// The processor on which the instance stays, as engines do: a number of the kernel's.
pub type Processor = [u8; 4];

/// Bytes of a part of an answer. The channel's pages for as many stay with it.
pub const PART_MAX: usize = 64 * 1024;
/// Bytes of an answer's content type.
pub const CONTENT_TYPE_MAX: usize = 1024;

/// No invocation takes so long, and no clock is set to so soon after 1970.
pub const RELATIVE_MAX_MS: u64 = 1 << 36;

/// What accompanies an event. Absent strings are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// When the invocation times out: milliseconds since 1970. Below [`RELATIVE_MAX_MS`] it is sent as milliseconds from
    /// when the instance takes it, since an instance that is only being started has first to load its function.
    pub deadline_unix_ms: u64,
    pub request_id: &'a str,
    pub function_arn: &'a str,
    pub trace_id: &'a str,
    /// JSON, as the mobile SDKs make it.
    pub client_context: &'a str,
    pub cognito_identity: &'a str,
    pub tenant_id: &'a str,
}

impl<'a> Invocation<'a> {
    /// The head of an [`INVOKE`] message.
    pub fn encode(&self) -> Vec<u8> {
        let texts = [
            self.request_id,
            self.function_arn,
            self.trace_id,
            self.client_context,
            self.cognito_identity,
            self.tenant_id,
        ];
        let mut head = Vec::with_capacity(8 + texts.iter().map(|t| t.len() + 4).sum::<usize>());
        head.extend_from_slice(&self.deadline_unix_ms.to_le_bytes());
        for text in texts {
            head.extend_from_slice(&(text.len() as u32).to_le_bytes());
            head.extend_from_slice(text.as_bytes());
        }
        head
    }

    /// Reads a head that has just been taken; nothing where it is malformed.
    pub fn decode(head: &'a [u8]) -> Option<Self> {
        let (deadline, mut rest) = head.split_at_checked(8)?;
        let mut texts = [""; 6];
        for text in &mut texts {
            let (len, tail) = rest.split_at_checked(4)?;
            let (bytes, tail) = tail.split_at_checked(u32::from_le_bytes(len.try_into().ok()?) as usize)?;
            *text = std::str::from_utf8(bytes).ok()?;
            rest = tail;
        }
        let [request_id, function_arn, trace_id, client_context, cognito_identity, tenant_id] = texts;
        let sent_deadline = u64::from_le_bytes(deadline.try_into().ok()?);
        let base = if sent_deadline < RELATIVE_MAX_MS { unix_ms() } else { 0 };
        let deadline_unix_ms = base + sent_deadline;
        Some(Self { deadline_unix_ms, request_id, function_arn, trace_id, client_context, cognito_identity, tenant_id })
    }
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// When a start passed its stations: `CLOCK_MONOTONIC`, nanoseconds. Told by the instance, so not to be billed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// First instruction of the child.
    pub forked: u64,
    /// In its slot, with nothing left to give up.
    pub entered: u64,
    /// The function's code is loaded.
    pub loaded: u64,
}

/// When an invocation passed its stations: `CLOCK_MONOTONIC`, nanoseconds. Told by the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Just before the handler's first line.
    pub begun: u64,
    /// Just after its last.
    pub ended: u64,
}

impl Started {
    pub fn encode(&self) -> [u8; 24] {
        words([self.forked, self.entered, self.loaded])
    }

    /// Malformed stamps read as zeroes: they are for reports only.
    pub fn decode(head: &[u8]) -> Self {
        let [forked, entered, loaded] = unwords(head);
        Self { forked, entered, loaded }
    }
}

impl Served {
    pub fn encode(&self) -> [u8; 16] {
        words([self.begun, self.ended])
    }

    /// Malformed stamps read as zeroes: they are for reports only.
    pub fn decode(head: &[u8]) -> Self {
        let [begun, ended] = unwords(head);
        Self { begun, ended }
    }
}

/// What precedes the answer of a pure function: told by its engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    pub served: Served,
    /// Bytes of memory that the run had at the most.
    pub memory: u64,
    /// Whether it has printed anything.
    pub printed: bool,
    pub cause: Cause,
}

/// Why a run of a pure function has no outputs, as far as it matters to who counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// It has, or the function itself is to blame.
    #[default]
    Function,
    Timeout,
    OutOfMemory,
    Cancelled,
    /// The platform is to blame.
    Engine,
    /// Some of its inputs were with an engine that has ended: it has not run. The error object has their places in `lost`.
    Gone,
    /// Its engine has ended with it, which others say.
    Ended,
}

impl Ran {
    pub fn encode(&self) -> [u8; 32] {
        words([self.served.begun, self.served.ended, self.memory, u64::from(self.printed) << 8 | self.cause as u64])
    }

    /// Malformed figures read as zeroes: they are for reports only.
    pub fn decode(head: &[u8]) -> Self {
        let [begun, ended, memory, last] = unwords(head);
        let cause = match last & 255 {
            1 => Cause::Timeout,
            2 => Cause::OutOfMemory,
            3 => Cause::Cancelled,
            4 => Cause::Engine,
            5 => Cause::Gone,
            _ => Cause::Function,
        };
        Self { served: Served { begun, ended }, memory, printed: last >> 8 == 1, cause }
    }
}

fn words<const N: usize, const B: usize>(values: [u64; N]) -> [u8; B] {
    const { assert!(N * 8 == B) };
    let mut bytes = [0; B];
    for (to, value) in bytes.chunks_exact_mut(8).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn unwords<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut values = [0; N];
    for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(8)) {
        *value = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_trip() {
        let invocation = Invocation {
            deadline_unix_ms: RELATIVE_MAX_MS,
            request_id: "r",
            client_context: "{}",
            ..Default::default()
        };
        assert_eq!(Invocation::decode(&invocation.encode()), Some(invocation));
        let started = Started { forked: 1, entered: 2, loaded: 3 };
        assert_eq!(Started::decode(&started.encode()), started);
        let served = Served { begun: 4, ended: 5 };
        assert_eq!(Served::decode(&served.encode()), served);
        let ran = Ran { served, memory: 7, printed: true, cause: Cause::Cancelled };
        assert_eq!((Ran::decode(&ran.encode()), Served::decode(&ran.encode())), (ran, served));
    }

    #[test]
    fn a_relative_deadline_counts_from_when_it_is_read() {
        let head = Invocation { deadline_unix_ms: 3000, ..Default::default() }.encode();
        let (before, read, after) = (unix_ms(), Invocation::decode(&head).unwrap().deadline_unix_ms, unix_ms());
        assert!((before + 3000..=after + 3000).contains(&read));
    }

    #[test]
    fn truncated_heads_are_refused() {
        let head = Invocation { request_id: "request", ..Default::default() }.encode();
        assert!((0..head.len()).all(|len| Invocation::decode(&head[..len]).is_none()));
        assert_eq!(Served::decode(&[1, 2]), Served::default());
    }
}
