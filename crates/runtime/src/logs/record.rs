//! One line of a log, in memory and in a file:
//!
//! ```text
//! 1793200000123 ⇥ 2026/10/28/[$LATEST]0123…cdef ⇥ 8d5c…e7 ⇥ what was printed ⏎
//! milliseconds    stream                          request    text, which may hold tabs
//! ```
//!
//! Text that is not UTF-8 is kept as it is, and shown with replacement characters.

use serde::Serializer;
use std::sync::Arc;

/// Whose log: log groups of different accounts and regions are apart even under one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogGroup {
    pub account: String,
    pub region: String,
    /// `/aws/lambda/NAME` unless configured otherwise.
    pub name: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// When it was read: milliseconds since 1970.
    pub at_ms: u64,
    /// Which instance, or which dedicated template's instances: `YYYY/MM/DD/[$LATEST]HEX`.
    #[serde(serialize_with = "text")]
    pub stream: Arc<str>,
    /// Which invocation.
    #[serde(serialize_with = "text")]
    pub request_id: Arc<str>,
    /// Without its line break.
    pub text: Box<str>,
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// A line of a file, taken apart without copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub at_ms: u64,
    pub stream: &'a str,
    pub request_id: &'a str,
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Appends this line to `file`.
    pub fn write(&self, file: &mut Vec<u8>) {
        file.extend_from_slice(self.at_ms.to_string().as_bytes());
        for field in [self.stream.as_bytes(), self.request_id.as_bytes(), self.text] {
            file.push(b'\t');
            file.extend_from_slice(field);
        }
        file.push(b'\n');
    }

    /// Reads a line, its line break taken off; nothing where it was not written whole.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b'\t');
        let mut word = || std::str::from_utf8(fields.next()?).ok();
        let (at_ms, stream, request_id) = (word()?.parse().ok()?, word()?, word()?);
        Some(Self { at_ms, stream, request_id, text: fields.next()? })
    }

    pub fn record(&self) -> Record {
        Record {
            at_ms: self.at_ms,
            stream: self.stream.into(),
            request_id: self.request_id.into(),
            text: String::from_utf8_lossy(self.text).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_file() {
        let line = Line { at_ms: 17, stream: "2026/10/28/[$LATEST]ab", request_id: "r", text: b"a\tb\xff" };
        let mut file = Vec::new();
        line.write(&mut file);
        let read = file.strip_suffix(b"\n").unwrap();
        assert_eq!(Line::parse(read), Some(line));
        assert_eq!(&*Line::parse(read).unwrap().record().text, "a\tb\u{fffd}");
        assert_eq!(Line::parse(b"17\tstream\tr"), None);
        assert_eq!(Line::parse(b""), None);
    }
}
