//! HTTP/1.1 as a server reads and writes it: heads, bodies, answers. Bytes in, values out; no sockets.
//!
//! Whoever sends these bytes runs the function's code: every length is bounded, and what is ambiguous is refused.

use std::fmt::Write;
use std::rc::Rc;

/// Bytes of a request's head, and of what follows a chunked body.
pub const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// The request makes no sense: it is answered with 400, and its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Other,
}

/// What precedes a request's body.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    /// Without the query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub keeps_alive: bool,
    /// The client waits for leave to send the body.
    pub asks_first: bool,
}

impl Head {
    /// The value of a header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a head from the front of `input`: it, how its body comes, and its length. Nothing where more is to come.
pub fn head(input: &[u8]) -> Result<Option<(Head, Body, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(input) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
        _ => return Err(Malformed),
    };
    let headers = owned(request.headers);
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("PUT") => Method::Put,
        _ => Method::Other,
    };
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path).to_owned();
    let body = Body { framing: framing(&headers)?, trailers: Vec::new() };
    let mut head = Head { method, path, headers, keeps_alive: request.version == Some(1), asks_first: false };
    let connection = head.header("connection").unwrap_or_default().to_ascii_lowercase();
    head.keeps_alive = if head.keeps_alive { connection != "close" } else { connection == "keep-alive" };
    head.asks_first = head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
    Ok(Some((head, body, len)))
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect()
}

fn framing(headers: &[(String, String)]) -> Result<Framing, Malformed> {
    let all = |name: &'static str| headers.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str());
    let (mut lengths, mut codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(len), None) if lengths.next().is_none() && len.bytes().all(|byte| byte.is_ascii_digit()) => {
            len.parse().map(Framing::Length).map_err(|_| Malformed)
        }
        (None, Some(coding)) if codings.next().is_none() && coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Size),
        _ => Err(Malformed),
    }
}

#[derive(Debug)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// The line that tells a chunk's size comes next.
    Size,
    /// So many bytes of the chunk, and its line's end.
    Chunk(u64),
    Trailers,
    Complete,
}

/// A body that is being received.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    trailers: Vec<(String, String)>,
}

impl Body {
    /// How long it says that it will be, where it says so.
    pub fn announced(&self) -> u64 {
        if let Framing::Length(len) = self.framing { len } else { 0 }
    }

    /// The value of a header that followed the body.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Takes what belongs to the body off the front of `input`, and hands its content to `take`. Whether it is complete.
    pub fn feed(&mut self, input: &mut Vec<u8>, mut take: impl FnMut(&[u8])) -> Result<bool, Malformed> {
        let mut at = 0;
        let result = loop {
            match self.step(&input[at..], &mut take) {
                Ok(0) if matches!(self.framing, Framing::Complete) => break Ok(true),
                Ok(0) => break Ok(false),
                Ok(used) => at += used,
                Err(malformed) => break Err(malformed),
            }
        };
        input.drain(..at);
        result
    }

    /// How many bytes were used; none where more are needed, or the body is complete.
    fn step(&mut self, input: &[u8], take: &mut impl FnMut(&[u8])) -> Result<usize, Malformed> {
        match &mut self.framing {
            Framing::Length(0) => {
                self.framing = Framing::Complete;
                Ok(0)
            }
            Framing::Length(left) => {
                let len = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                take(&input[..len]);
                *left -= len as u64;
                if *left == 0 {
                    self.framing = Framing::Complete;
                }
                Ok(len)
            }
            Framing::Size => match httparse::parse_chunk_size(input) {
                Ok(httparse::Status::Complete((used, 0))) => {
                    self.framing = Framing::Trailers;
                    Ok(used)
                }
                Ok(httparse::Status::Complete((used, size))) => {
                    self.framing = Framing::Chunk(size);
                    Ok(used)
                }
                Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => Ok(0),
                _ => Err(Malformed),
            },
            Framing::Chunk(0) => {
                match input {
                    [b'\r', b'\n', ..] => self.framing = Framing::Size,
                    [] | [b'\r'] => return Ok(0),
                    _ => return Err(Malformed),
                }
                Ok(2)
            }
            Framing::Chunk(left) => {
                let len = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                take(&input[..len]);
                *left -= len as u64;
                Ok(len)
            }
            Framing::Trailers => {
                let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
                match httparse::parse_headers(input, &mut headers) {
                    Ok(httparse::Status::Complete((used, headers))) if used <= HEAD_MAX => {
                        self.trailers = owned(headers);
                        self.framing = Framing::Complete;
                        Ok(used)
                    }
                    Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => Ok(0),
                    _ => Err(Malformed),
                }
            }
            Framing::Complete => Ok(0),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Shared, as an event may be sent more than once.
    pub body: Rc<Vec<u8>>,
}

impl Response {
    /// With a body of JSON.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type", "application/json".to_owned())], body: Rc::new(body) }
    }

    /// With a body of text.
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: Rc::new(text.into()) }
    }

    /// With one header more, unless its value is empty. A value that came from outside cannot begin another line.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.headers.push((name, value.replace(|c: char| c.is_control(), " ")));
        }
        self
    }

    /// What precedes its body on the wire.
    pub fn head(&self, keeps_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        // Writing to a String cannot fail.
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        head.push_str(if keeps_alive { "\r\n" } else { "Connection: close\r\n\r\n" });
        head.into_bytes()
    }
}

/// Leave to send a body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a client sends, in pieces of `size` bytes: path, body, the trailer `t`, what is left.
    fn receive(text: &str, size: usize) -> Result<(String, String, Option<String>, usize), Malformed> {
        let (mut input, mut got, mut found) = (Vec::new(), Vec::new(), None);
        for piece in text.as_bytes().chunks(size) {
            input.extend_from_slice(piece);
            if found.is_none()
                && let Some((head, body, len)) = head(&input)?
            {
                input.drain(..len);
                found = Some((head, body));
            }
            if let Some((head, body)) = &mut found
                && body.feed(&mut input, |bytes| got.extend_from_slice(bytes))?
            {
                let trailer = body.trailer("t").map(str::to_owned);
                return Ok((head.path.clone(), String::from_utf8(got).unwrap(), trailer, input.len()));
            }
        }
        panic!("the request does not end");
    }

    #[test]
    fn a_request_may_come_in_any_pieces() {
        let whole = "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyGET";
        let chunked =
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nbod\r\n1\r\ny\r\n0\r\nT: end\r\n\r\n";
        for size in [1, 2, 7, 1000] {
            let (path, body, trailer, _) = receive(whole, size).unwrap();
            assert_eq!((path.as_str(), body.as_str(), trailer), ("/a", "body", None));
            let (path, body, trailer, left) = receive(chunked, size).unwrap();
            assert_eq!((path.as_str(), body.as_str(), trailer.as_deref(), left), ("/a", "body", Some("end"), 0));
        }
        assert_eq!(receive(whole, 1000).unwrap().3, 3, "what follows is the next request's");
    }

    #[test]
    fn what_is_ambiguous_or_endless_is_refused() {
        for headers in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: +4",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert!(head(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n").as_bytes()).is_err(), "{headers}");
        }
        assert!(head(b"\x16\x03\x01\x02\x00 TLS").is_err());
        assert!(head(format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_MAX)).as_bytes()).is_err());
        let chunks =
            |rest: &str| receive(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"), 9000);
        assert!(chunks("xyz\r\n").is_err());
        assert!(chunks("1\r\nabc\r\n").is_err());
        assert!(chunks(&format!("1;{}", "x".repeat(2 * HEAD_MAX))).is_err());
    }

    /// Numbers that look drawn by lot, and are the same every time.
    fn lots(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    }

    #[test]
    fn whatever_comes_is_understood_or_refused() {
        let seeds = [
            "POST /a?b HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nbod\r\n1\r\ny\r\n0\r\nT: end\r\n\r\n",
        ];
        let mut draw = lots(7);
        for round in 0..20_000 {
            let mut bytes = seeds[round % 2].as_bytes().to_vec();
            for _ in 0..draw(6) {
                let at = draw(bytes.len());
                match draw(3) {
                    0 => bytes[at] = draw(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\r\n:0 fF"[draw(7)]),
                }
            }
            let (mut input, mut taken) = (bytes.clone(), 0);
            let Ok(Some((_, mut body, len))) = head(&input) else { continue };
            input.drain(..len);
            let before = input.len();
            let _ = body.feed(&mut input, |piece| taken += piece.len());
            assert!(taken + input.len() <= before, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn connections_stay_as_their_clients_say() {
        let keeps = |text: &str| head(text.as_bytes()).unwrap().unwrap().0.keeps_alive;
        assert!(keeps("GET / HTTP/1.1\r\n\r\n") && keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nConnection: close\r\n\r\n") && !keeps("GET / HTTP/1.0\r\n\r\n"));
    }

    #[test]
    fn a_header_from_outside_stays_one_line() {
        let response = Response::json(200, b"{}".to_vec()).with("X-Context", "{\r\nEvil: 1}").with("X-None", "");
        let head = String::from_utf8(response.head(true)).unwrap();
        assert_eq!(head.lines().count(), 5, "{head}");
        assert!(head.contains("X-Context: {  Evil: 1}\r\n") && !head.contains("X-None"));
    }
}
