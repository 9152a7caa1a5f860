//! `multipart/form-data` (RFC 7578): the parts of a body that is here, found where they lie. Nothing is copied but names.
//!
//! Everything is bounded: parts, and each part's head. Not here: what a part means; transfer encodings, which no client
//! of HTTP uses and RFC 7578 forbids.

use bytes::Bytes;
use memchr::memmem::Finder;
use std::borrow::Cow;
use thiserror::Error;

/// Bytes of one part's head.
const HEAD_MAX: usize = 8 * 1024;
/// Bytes of a boundary (RFC 2046).
const BOUNDARY_MAX: usize = 70;

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub file_name: Option<String>,
    /// The value of the header that was asked for.
    pub extra: Option<String>,
    /// A part of the whole body.
    pub data: Bytes,
}

/// Why a body is no form.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FormError {
    #[error("the form's Content-Type names no boundary of 1 to {BOUNDARY_MAX} characters")]
    NoBoundary,
    #[error("the form does not begin with its boundary")]
    NoStart,
    #[error("the form ends within part {part}: its last boundary is not there")]
    NoEnd { part: usize },
    #[error("the head of part {part} is longer than {HEAD_MAX} bytes, or has no end")]
    Head { part: usize },
    #[error("part {part} has no Content-Disposition of form-data with a name")]
    NoName { part: usize },
    #[error("part {part} has a Content-Transfer-Encoding, {encoding:?}: send its bytes as they are")]
    Encoded { part: usize, encoding: String },
    #[error("the form has more than {limit} parts")]
    TooMany { limit: usize },
}

/// The boundary of a form; nothing where a body is no form.
pub fn boundary(content_type: &str) -> Result<Option<String>, FormError> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let boundary = Parameters(parameters).find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
    let boundary =
        boundary.map(|(_, value)| value.into_owned()).filter(|text| (1..=BOUNDARY_MAX).contains(&text.len()));
    boundary.map(Some).ok_or(FormError::NoBoundary)
}

/// The parts of a body, up to `limit`, each with the value of its header `extra`.
pub fn parts(body: &Bytes, boundary: &str, extra: &str, limit: usize) -> Result<Vec<Part>, FormError> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = Finder::new(&delimiter);
    let mut parts = Vec::new();
    // What precedes the first boundary is for readers that know no forms; the first may stand at the very beginning.
    let mut at = match body.starts_with(&delimiter.as_bytes()[2..]) {
        true => delimiter.len() - 2,
        false => finder.find(body).ok_or(FormError::NoStart)? + delimiter.len(),
    };
    loop {
        let part = parts.len() + 1;
        let line_end = memchr::memchr(b'\n', &body[at..]).map(|end| at + end);
        if body[at..].starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == limit {
            return Err(FormError::TooMany { limit });
        }
        let head = line_end.ok_or(FormError::NoEnd { part })? + 1;
        if !body[at..head].trim_ascii().is_empty() {
            return Err(FormError::NoEnd { part });
        }
        let (fields, data) = fields(body, head, part)?;
        // A part without data: its boundary's line end is that of its head.
        let end = data - 2 + finder.find(&body[data - 2..]).ok_or(FormError::NoEnd { part })?;
        parts.push(named(&fields, extra, body.slice(data..end.max(data)), part)?);
        at = end + delimiter.len();
    }
}

/// Names and values of a part's head.
type Fields<'a> = Vec<(&'a str, &'a str)>;

/// The fields of a part's head, and where its data begins.
fn fields(body: &Bytes, head: usize, part: usize) -> Result<(Fields<'_>, usize), FormError> {
    let (mut fields, mut at) = (Vec::new(), head);
    loop {
        let most = &body[at..body.len().min(head + HEAD_MAX)];
        let end = memchr::memchr(b'\n', most).ok_or(FormError::Head { part })?;
        let line = most[..end].strip_suffix(b"\r").ok_or(FormError::Head { part })?;
        at += end + 1;
        if line.is_empty() {
            return Ok((fields, at));
        }
        let line = std::str::from_utf8(line).map_err(|_| FormError::Head { part })?;
        let (name, value) = line.split_once(':').ok_or(FormError::Head { part })?;
        fields.push((name.trim(), value.trim()));
    }
}

fn named(fields: &[(&str, &str)], extra: &str, data: Bytes, part: usize) -> Result<Part, FormError> {
    let field =
        |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value);
    if let Some(encoding) = field("content-transfer-encoding")
        && !["binary", "8bit", "7bit"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain))
    {
        return Err(FormError::Encoded { part, encoding: encoding.to_owned() });
    }
    let disposition = field("content-disposition").and_then(|value| value.split_once(';'));
    let parameters =
        disposition.filter(|(kind, _)| kind.trim().eq_ignore_ascii_case("form-data")).map(|(_, rest)| rest);
    let (mut name, mut file_name, mut encoded_name) = (None, None, None);
    for (parameter, value) in Parameters(parameters.unwrap_or_default()) {
        match parameter.to_ascii_lowercase().as_str() {
            "name" => name = name.or(Some(unescaped(&value))),
            "filename" => file_name = file_name.or(Some(unescaped(&value))),
            "filename*" => encoded_name = encoded_name.or_else(|| extended(&value)),
            _ => {}
        }
    }
    let name = name.ok_or(FormError::NoName { part })?;
    Ok(Part { name, file_name: encoded_name.or(file_name), extra: field(extra).map(str::to_owned), data })
}

/// As HTML's forms write names: three characters are escaped.
fn unescaped(value: &str) -> String {
    value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// `UTF-8''…`, of RFC 8187.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then_some(())?;
    super::path::decode(text).map(Cow::into_owned)
}

/// `; name=value; name="quoted value"`.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([';', ' ', '\t']);
        let (name, rest) = text.split_once('=')?;
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            let (value, rest) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
            self.0 = rest;
            return Some((name.trim(), value.trim().into()));
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some((name.trim(), value.into()));
                }
                // Browsers on one system send paths with these in them, and mean nothing by them.
                '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                    value.extend(characters.next().map(|(_, escaped)| escaped));
                }
                _ => value.push(character),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Part>, FormError> {
        parts(&Bytes::copy_from_slice(text.as_bytes()), "b", "item-key", 3)
    }

    fn part(name: &str, file_name: Option<&str>, extra: Option<&str>, data: &'static str) -> Part {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Part {
            name: name.into(),
            file_name: owned(file_name),
            extra: owned(extra),
            data: Bytes::from_static(data.as_bytes()),
        }
    }

    #[test]
    fn forms() {
        let text = "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x.txt\"\r\nItem-Key: 7\r\n\r\none\r\n--b\r\n\
            content-disposition: form-data;name=c\r\n\r\n\r\n--b  \r\nContent-Disposition: form-data; name=\"d\"\r\n\r\n\r\ntw\r\n--x\r\no\r\n\r\n--b--\r\nrest";
        let expected = [
            part("a", Some("x.txt"), Some("7"), "one"),
            part("c", None, None, ""),
            part("d", None, None, "\r\ntw\r\n--x\r\no\r\n"),
        ];
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read(&format!("preamble\r\n{text}")).unwrap(), expected);
        assert_eq!(read("--b--").unwrap(), []);
    }

    #[test]
    fn names() {
        let name = |disposition: &str| {
            let read = read(&format!("--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--"))?;
            Ok((read[0].name.clone(), read[0].file_name.clone().unwrap_or_default()))
        };
        let known = [
            (r#"form-data; name="a\"b"; filename="c%22d""#, ("a\"b", "c\"d")),
            (r#"form-data; name="é"; filename="C:\x\y""#, ("é", r"C:\x\y")),
            (r#"form-data; name="a;b"; filename*=utf-8''%C3%A9%20x"#, ("a;b", "é x")),
            (r#"form-data; filename="f"; filename*=UTF-8''g; name=n"#, ("n", "g")),
        ];
        for (disposition, (set, item)) in known {
            assert_eq!(name(disposition), Ok((set.to_owned(), item.to_owned())), "{disposition}");
        }
        for wrong in ["form-data", "attachment; name=x", "form-data; name=\"x", "x", "form-data; filename=x"] {
            assert_eq!(name(wrong), Err(FormError::NoName { part: 1 }), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_form() {
        let head = "Content-Disposition: form-data; name=a";
        let known = [
            ("", FormError::NoStart),
            ("x", FormError::NoStart),
            ("--b", FormError::NoEnd { part: 1 }),
            ("--bc\r\n\r\n--b--", FormError::NoEnd { part: 1 }),
            ("--b\r\n", FormError::Head { part: 1 }),
            ("--b\r\nx\r\n\r\n--b--", FormError::Head { part: 1 }),
            ("--b\r\nx: y\n\r\n\r\n--b--", FormError::Head { part: 1 }),
            ("--b\r\n\r\n\r\n--b--", FormError::NoName { part: 1 }),
        ];
        for (text, error) in known {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        assert_eq!(read(&format!("--b\r\n{head}\r\n\r\nx\r\n--")), Err(FormError::NoEnd { part: 1 }));
        assert_eq!(
            read(&format!("--b\r\nx: {}\r\n\r\n\r\n--b--", "y".repeat(HEAD_MAX))),
            Err(FormError::Head { part: 1 })
        );
        let many = format!("--b\r\n{head}\r\n\r\nx\r\n").repeat(4);
        assert_eq!(read(&format!("{many}--b--")), Err(FormError::TooMany { limit: 3 }));
        let encoded = format!("--b\r\n{head}\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--b--");
        assert!(matches!(read(&encoded), Err(FormError::Encoded { part: 1, .. })));
    }

    /// Whatever comes, an answer comes; and what is a form with something cut out or changed is read within bounds.
    #[test]
    fn nothing_breaks_it() {
        let head = "Content-Disposition: form-data; name=\"a\"; filename=\"f\"";
        let whole = format!("--b\r\n{head}\r\n\r\none\r\n--b\r\n{head}\r\n\r\n\r\n--b--\r\n").into_bytes();
        for from in 0..whole.len() {
            for to in from..whole.len().min(from + 40) {
                let cut = [&whole[..from], &whole[to..]].concat();
                let _ = parts(&cut.into(), "b", "x", 9);
            }
            for byte in [0, b'\r', b'\n', b'-', b'"', b'\\', 0xff] {
                let mut changed = whole.clone();
                changed[from] = byte;
                let _ = parts(&changed.into(), "b", "x", 9);
            }
        }
    }

    /// Xorshift: enough to be different, the same in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }

        /// Bytes that are all but a boundary.
        fn data(&mut self) -> Vec<u8> {
            let pieces = [
                "\r\n",
                "--",
                "b",
                "\r\n--",
                "\r\n--c",
                "-",
                "\n--b0",
                "\0",
                "\r",
                "Content-Disposition: form-data",
                "é",
            ];
            (0..self.below(12)).flat_map(|_| pieces[self.below(pieces.len())].bytes()).collect()
        }
    }

    #[test]
    fn what_is_written_is_read_whatever_it_is_and_nothing_breaks_it() {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        // Right behind its head a part may not begin with it either.
        let has_boundary = |data: &[u8]| data.starts_with(b"--b") || data.windows(5).any(|five| five == b"\r\n--b");
        for _ in 0..5000 {
            let written: Vec<(String, Vec<u8>)> =
                (0..chance.below(4)).map(|at| ("n".repeat(at + 1), chance.data())).collect();
            let written: Vec<_> = written.into_iter().filter(|(_, data)| !has_boundary(data)).collect();
            let mut text = chance.data();
            text.retain(|byte| *byte != b'b');
            text.extend_from_slice(if text.is_empty() { b"--b" } else { b"\r\n--b" });
            for (name, data) in &written {
                let head =
                    format!("{}\r\nContent-Disposition: form-data; name={name}\r\n\r\n", " ".repeat(chance.below(3)));
                text.extend_from_slice(head.as_bytes());
                text.extend_from_slice(data);
                text.extend_from_slice(b"\r\n--b");
            }
            text.extend_from_slice(b"--");
            text.extend(chance.data());
            let read = parts(&text.clone().into(), "b", "x", 9).unwrap();
            let read: Vec<(String, Vec<u8>)> = read.into_iter().map(|part| (part.name, part.data.to_vec())).collect();
            assert_eq!(read, written, "{:?}", String::from_utf8_lossy(&text));
            for _ in 0..=chance.below(4) {
                let at = chance.below(text.len());
                match chance.below(3) {
                    0 => text.truncate(at + 1),
                    1 => text.extend(chance.data()),
                    _ => text[at] = chance.below(256) as u8,
                }
            }
            let length = text.len();
            if let Ok(read) = parts(&text.into(), "b", "x", 9) {
                assert!(read.iter().map(|part| part.data.len()).sum::<usize>() <= length);
            }
        }
    }

    #[test]
    fn boundaries() {
        let of = |text: &str| boundary(text);
        assert_eq!(of("multipart/form-data; boundary=x-y"), Ok(Some("x-y".into())));
        assert_eq!(of("Multipart/Form-Data;charset=u; Boundary=\"a b\""), Ok(Some("a b".into())));
        assert_eq!((of("application/json"), of("multipart/mixed; boundary=x")), (Ok(None), Ok(None)));
        for wrong in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"x"] {
            assert_eq!(of(wrong), Err(FormError::NoBoundary), "{wrong}");
        }
        assert_eq!(of(&format!("multipart/form-data; boundary={}", "x".repeat(71))), Err(FormError::NoBoundary));
    }
}
