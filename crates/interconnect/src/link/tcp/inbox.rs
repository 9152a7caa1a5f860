//! Bytes as they come, messages as they were sent.
//!
//! ```text
//!  ┄┄┬──────┬─────────────┬──────┬───────┄┄
//!    │length│ message     │length│ mess…          a length of more than MESSAGE_MAX ends the link before a byte is kept
//!  ┄┄┴──────┴─────────────┴──────┴───────┄┄
//! ```

use super::super::MESSAGE_MAX;
use super::LENGTH;
use std::io;

/// A length that no shim sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What has come and was not yet taken.
pub struct Inbox {
    bytes: Vec<u8>,
    read: usize,
}

impl Inbox {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), read: 0 }
    }

    /// Appends `len` bytes, which `read` writes.
    pub fn fill(&mut self, len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        let old = self.bytes.len();
        self.bytes.resize(old + len, 0);
        read(&mut self.bytes[old..])
    }

    /// Whether [`Inbox::take`] has something to say.
    pub fn has_message(&self) -> bool {
        self.next() != Ok(None)
    }

    /// Takes the next message, if it is whole.
    pub fn take(&mut self, message: &mut Vec<u8>) -> Result<bool, TooLong> {
        let Some(len) = self.next()? else {
            return Ok(false);
        };
        let begin = self.read + LENGTH;
        message.clear();
        message.extend_from_slice(&self.bytes[begin..begin + len]);
        self.read = begin + len;
        Ok(true)
    }

    /// The length of the next message, if it is whole.
    fn next(&self) -> Result<Option<usize>, TooLong> {
        let Some((length, rest)) = self.bytes[self.read..].split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*length) as usize;
        if len > MESSAGE_MAX {
            return Err(TooLong);
        }
        Ok((rest.len() >= len).then_some(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(inbox: &mut Inbox, bytes: &[u8]) {
        let mut bytes = bytes;
        inbox.fill(bytes.len(), |space| io::Read::read_exact(&mut bytes, space)).unwrap();
    }

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let mut bytes = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            bytes.extend((message.len() as u32).to_le_bytes());
            bytes.extend(message);
        }
        for step in 1..=bytes.len() {
            let (mut inbox, mut got, mut message) = (Inbox::new(), Vec::new(), Vec::new());
            for part in bytes.chunks(step) {
                fill(&mut inbox, part);
                while inbox.take(&mut message).unwrap() {
                    got.push(message.clone());
                }
            }
            assert_eq!(got, [&b"one"[..], b"", b"three"], "in steps of {step}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        let mut inbox = Inbox::new();
        fill(&mut inbox, &(MESSAGE_MAX as u32 + 1).to_le_bytes());
        assert_eq!(inbox.take(&mut Vec::new()), Err(TooLong));
        assert!(inbox.has_message(), "there is something to look at");
    }
}
