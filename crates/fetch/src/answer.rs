//! Answers as items, in the sets that whoever runs a function takes of it.

use crate::exchange::Answer;
use crate::failure::Failure;
use crate::function::{Function, STATUS};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use sets::{Item, Set, Sets};

/// Which sets are taken. The others are not made.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    function: Function,
    bits: u8,
}

impl Taken {
    pub fn of(function: Function, names: &[&str]) -> Self {
        let taken = function.outputs().iter().enumerate().filter(|(_, output)| names.contains(output));
        Self { function, bits: taken.fold(0, |bits, (at, _)| bits | 1 << at) }
    }

    pub fn has(self, set: &str) -> bool {
        let at = self.function.outputs().iter().position(|output| *output == set);
        at.is_some_and(|at| self.bits & 1 << at != 0)
    }

    /// Whether failures are handed on.
    pub fn has_status(self) -> bool {
        self.has(STATUS)
    }

    fn sets(self) -> Sets<Bytes> {
        let taken = self.function.outputs().iter().filter(|output| self.has(output));
        taken.map(|output| Set::new(*output, Vec::new())).collect()
    }
}

/// What one input item came to: output items, each for a set.
pub type Made = Vec<(&'static str, Item<Bytes>)>;

/// What is said of an item in `status`.
#[derive(Serialize)]
pub struct Status<'a> {
    ok: bool,
    /// Of HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Where the answer came from, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirects: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transient: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl Status<'_> {
    pub fn ok() -> Self {
        Self { ok: true, status: None, url: None, redirects: None, error: None, transient: None, message: None }
    }

    /// Of an answer over HTTP.
    pub fn answered(status: u16, url: String, redirects: u32) -> Self {
        Self { status: Some(status), url: Some(url), redirects: Some(redirects), ..Self::ok() }
    }

    pub fn item(&self, name: &str, key: u64) -> (&'static str, Item<Bytes>) {
        let text = serde_json::to_vec(self).unwrap_or_default();
        (STATUS, Item::new(name, key, text.into()))
    }
}

/// What is said of an item that came to nothing.
pub fn failed(failure: &Failure, name: &str, key: u64) -> Made {
    let message = failure.to_string();
    let status = Status {
        ok: false,
        error: Some(failure.kind()),
        transient: Some(failure.is_transient()),
        message: Some(&message),
        ..Status::ok()
    };
    vec![status.item(name, key)]
}

/// The sets that are taken, of what all items came to, in the order of these.
pub fn gathered(taken: Taken, made: Vec<Made>) -> Sets<Bytes> {
    let mut sets = taken.sets();
    for (set, item) in made.into_iter().flatten() {
        if let Some(set) = sets.iter_mut().find(|known| known.name == set) {
            set.items.push(item);
        }
    }
    sets
}

/// Status line and headers, each on a line, and an empty line.
pub fn head(answer: &Answer) -> BytesMut {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let first = format!("{:?} {} {reason}", answer.version, answer.status.as_u16());
    let mut text = BytesMut::from(first.trim_end());
    text.put_u8(b'\n');
    for (name, value) in &answer.headers {
        text.put_slice(name.as_str().as_bytes());
        text.put_slice(b": ");
        text.put_slice(value.as_bytes());
        text.put_u8(b'\n');
    }
    text.put_u8(b'\n');
    text
}
