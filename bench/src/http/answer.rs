//! An answer, cut out of the bytes received so far.

use std::io;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The answer at the beginning of `bytes`; nothing while it is not complete.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(head_end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| invalid("a head that is not text"))?;
        let digits = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| invalid("no status line"))?;
        let rest = &bytes[head_end + 4..];
        let body = match (field(head, "content-length"), field(head, "transfer-encoding")) {
            (Some(length), _) => {
                let length: usize = length.parse().map_err(|_| invalid("a length that is no number"))?;
                rest.get(..length).map(<[u8]>::to_vec)
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => chunks(rest)?,
            _ if status == 204 => Some(Vec::new()),
            _ => return Err(invalid("a body that tells neither its length nor its chunks")),
        };
        Ok(body.map(|body| Self { status, head: head.to_owned(), body }))
    }

    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn chunks(mut rest: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = find(rest, b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&rest[..line_end]).map_err(|_| invalid("a chunk without a size"))?;
        let size = digits.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a size"))?;
        let Some(chunk) = rest.get(line_end + 2..line_end + 2 + size + 2) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[line_end + 2 + size + 2..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
