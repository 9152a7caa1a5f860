//! What near and far say to each other.
//!
//! ```text
//!  0          4              4 + header
//!  ├──────────┼──────────────┼─ … ───┤
//!  │header's  │header:       │ body  │        the body is bytes as they are: messages, what was printed, files
//!  │length    │postcard      │       │
//!  └──────────┴──────────────┴─ … ───┘
//! ```

use crate::protocol::{Command, Event};
use sandbox::spec::StartSpec;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest word: an answer of the longest kind, and its header.
pub const WORD_MAX: usize = 256 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// To far: anything but starts.
    Command(Command),
    /// To far: one start. Its channel takes bodies of so many bytes.
    Start { template: u64, start: StartSpec, body_max: u64 },
    /// To near: the folder that this path names at the head is not here.
    Want { folder: PathBuf },
    /// To far: a folder begins; its entries follow, and nothing of another folder in between.
    Folder { folder: PathBuf },
    /// To far: one of its entries, after the folder that it is in. The body begins a file.
    Entry { path: PathBuf, entry: Entry },
    /// To far: the body goes on with the file before.
    More,
    /// To far: the folder is whole; or cannot be read, for this reason.
    Whole { folder: PathBuf, failed: Option<String> },
    /// Both ways: a message of an instance's channel. The body is its head, of so many bytes, and its body.
    Message { instance: u64, kind: u32, head: u32 },
    /// To near: the body was printed.
    Log { instance: u64 },
    /// To far: a message or something printed was passed on.
    Taken { instance: u64 },
    /// To near.
    Event(Event),
    /// To far: what is the time there? It is `at` here.
    Ask { at: u64 },
    /// To near: it was `here` when that came.
    Clock { asked: u64, here: u64 },
}

/// What lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    Folder { mode: u32 },
    File { mode: u32 },
    Link { target: PathBuf },
}

impl Word {
    /// The word and its body as bytes.
    pub fn encode(&self, body: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        // Writing to memory cannot fail, and every type here can be written.
        bytes = postcard::to_extend(self, bytes).unwrap_or_default();
        let header = (bytes.len() as u32 - 4).to_le_bytes();
        bytes[..4].copy_from_slice(&header);
        body.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    /// The word, and where its body begins.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let header = u32::from_le_bytes(*length) as usize;
        let (word, left) = postcard::take_from_bytes(rest.get(..header)?).ok()?;
        left.is_empty().then_some((word, 4 + header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bodies_survive() {
        let word = Word::Message { instance: 7, kind: 3, head: 2 };
        let bytes = word.encode(&[b"he", b"body"]);
        let (read, body) = Word::decode(&bytes).unwrap();
        assert_eq!((read, &bytes[body..]), (word, &b"hebody"[..]));
        assert!((0..body).all(|len| Word::decode(&bytes[..len]).is_none()));
        assert_eq!(Word::decode(&[0xff; 64]), None);
        assert_eq!(Word::decode(&[0, 0, 0, 0]), None);
    }
}
