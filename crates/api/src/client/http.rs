//! HTTP/1.1 over one TCP connection: a request out, an answer in. Bodies by length, by chunks, or until the end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The longest head of an answer, in bytes.
const HEAD_MAX: u64 = 64 * 1024;

/// A request; its path and query already encoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, headers: &[], body: &[] }
    }

    pub fn with_body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    pub fn with_headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }
}

/// An answer, its body still to be read.
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body)?;
        Ok(body)
    }
}

/// How a body tells its end.
enum Framing {
    Length(u64),
    /// Bytes left of the chunk at hand; the first has not begun when `started` is false.
    Chunks {
        left: u64,
        started: bool,
    },
    UntilClose,
    Ended,
}

/// A body, read as it comes.
pub struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
}

pub(super) fn connect(authority: &str, patience: Option<Duration>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn exchange(
    mut stream: TcpStream,
    authority: &str,
    prefix: &str,
    request: &Request<'_>,
) -> io::Result<Response> {
    let Request { method, path, headers, body } = request;
    let mut head = format!("{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in *headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut message = head.into_bytes();
    message.extend_from_slice(body);
    let sent = stream.write_all(&message);
    // A node that refuses a long body answers before it has read all of it: the answer counts, if there is one.
    match (read_head(BufReader::new(stream), method), sent) {
        (Err(_), Err(error)) => Err(error),
        (answer, _) => answer,
    }
}

fn read_head(mut stream: BufReader<TcpStream>, method: &str) -> io::Result<Response> {
    loop {
        let (status, headers) = read_one_head(&mut stream)?;
        // 100 Continue and its like only announce the answer.
        if status >= 200 {
            let framing = framing(method, status, &headers)?;
            return Ok(Response { status, headers, body: Body { stream, framing } });
        }
    }
}

fn read_one_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut head = stream.by_ref().take(HEAD_MAX);
    let first = read_line(&mut head)?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| invalid("no status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut head)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn framing(method: &str, status: u16, headers: &[(String, String)]) -> io::Result<Framing> {
    let header = |name: &str| headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    if method == "HEAD" || matches!(status, 204 | 304) {
        return Ok(Framing::Ended);
    }
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Framing::Chunks { left: 0, started: false });
    }
    match header("content-length") {
        Some(length) => length.parse().map(Framing::Length).map_err(|_| invalid("a length that is no number")),
        None => Ok(Framing::UntilClose),
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.trim_end_matches('\r').to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid("a line that does not end")),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Body {
    /// Reads up to the next chunk that has bytes; nothing is left after the last one.
    fn next_chunk(&mut self, started: bool) -> io::Result<u64> {
        let mut line = self.stream.by_ref().take(HEAD_MAX);
        if started {
            read_line(&mut line)?;
        }
        let size = read_line(&mut line)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let left = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without a size"))?;
        if left == 0 {
            while !read_line(&mut line)?.is_empty() {}
        }
        Ok(left)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunks { left: 0, started } = self.framing {
            let left = self.next_chunk(started)?;
            self.framing = if left == 0 { Framing::Ended } else { Framing::Chunks { left, started: true } };
        }
        let limit = match self.framing {
            Framing::Length(left) | Framing::Chunks { left, .. } => left,
            Framing::UntilClose => u64::MAX,
            Framing::Ended => 0,
        };
        let wanted = buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let got = self.stream.read(&mut buffer[..wanted])?;
        match &mut self.framing {
            Framing::Length(left) | Framing::Chunks { left, .. } if got > 0 => *left -= got as u64,
            Framing::Length(_) | Framing::Chunks { .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::UntilClose | Framing::Ended => {}
        }
        Ok(got)
    }
}
