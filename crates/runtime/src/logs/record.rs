//! One line of a log, in memory and in a file:
//!
//! ```text
//! 1793200000123 ⇥ 2026/10/28/[$LATEST]0123…cdef ⇥ 8d5c…e7 ⇥ what was printed ⏎
//! milliseconds    stream                          request    text, which may hold tabs
//! ```
//!
//! Text that is not UTF-8 is kept as it is, and shown with replacement characters.
//!
//! An event that a client put there says when that was, and when it happened: `1793200000200:1793200000123`. Its text may
//! be of several lines: a line break is written as `\\n`, a backslash as `\\\\`.

use serde::Serializer;
use std::borrow::Cow;
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
    /// When a client put it there: its text is escaped then.
    pub put_ms: Option<u64>,
    pub text: &'a [u8],
}

/// The text of an event in one line.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.as_str().starts_with('n') => plain.push('\n'),
            '\\' => plain.push('\\'),
            _ => {
                plain.push(letter);
                continue;
            }
        }
        letters.next();
    }
    plain
}

impl<'a> Line<'a> {
    /// Appends this line to `file`.
    pub fn write(&self, file: &mut Vec<u8>) {
        if let Some(put_ms) = self.put_ms {
            file.extend_from_slice(format!("{put_ms}:").as_bytes());
        }
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
        let (time, stream, request_id) = (word()?, word()?, word()?);
        let (put_ms, at_ms) = match time.split_once(':') {
            Some((put, at)) => (Some(put.parse().ok()?), at),
            None => (None, time),
        };
        Some(Self { at_ms: at_ms.parse().ok()?, stream, request_id, put_ms, text: fields.next()? })
    }

    /// When it came here.
    pub fn ingested_ms(&self) -> u64 {
        self.put_ms.unwrap_or(self.at_ms)
    }

    /// What was printed or put.
    pub fn message(&self) -> Cow<'a, str> {
        let text = String::from_utf8_lossy(self.text);
        match self.put_ms {
            Some(_) if text.contains('\\') => unescape(&text).into(),
            _ => text,
        }
    }

    pub fn record(&self) -> Record {
        Record {
            at_ms: self.at_ms,
            stream: self.stream.into(),
            request_id: self.request_id.into(),
            text: self.message().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_file() {
        let line =
            Line { at_ms: 17, stream: "2026/10/28/[$LATEST]ab", request_id: "r", put_ms: None, text: b"a\tb\xff" };
        let mut file = Vec::new();
        line.write(&mut file);
        let read = file.strip_suffix(b"\n").unwrap();
        assert_eq!(Line::parse(read), Some(line));
        assert_eq!(&*Line::parse(read).unwrap().record().text, "a\tb\u{fffd}");
        assert_eq!(Line::parse(b"17\tstream\tr"), None);
        assert_eq!(Line::parse(b""), None);
    }

    #[test]
    fn an_event_of_several_lines_is_one_line_of_a_file() {
        for text in ["a\nb", "\\n", "\\", "\\\n\\\\n\n", "plain"] {
            let escaped = escape(text);
            let line = Line { at_ms: 17, stream: "s", request_id: "", put_ms: Some(18), text: escaped.as_bytes() };
            let mut file = Vec::new();
            line.write(&mut file);
            assert!(file.starts_with(b"18:17\ts\t\t") && file.iter().filter(|byte| **byte == b'\n').count() == 1);
            let read = Line::parse(file.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!((&*read.message(), read.ingested_ms(), read), (text, 18, line));
        }
    }
}
