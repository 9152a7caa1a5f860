//! HTTP/1.1 as a measuring client needs it: requests made once and sent again and again over one connection, answers cut
//! out of the stream with as little work as possible.
//!
//! Not here: anything but bodies by length or in chunks, which is all that the measured servers send.

mod answer;
mod crowd;

pub use answer::Answer;
pub use crowd::{Crowd, Load};

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A measured server that is silent for so long is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request, ready to be sent as it is.
#[derive(Clone, Debug)]
pub struct Request {
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Request {
    pub fn new(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if method != "GET" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        Self { to, bytes: [head.as_bytes(), body].concat() }
    }
}

/// A connection that is kept, and made anew when the server has closed it.
pub struct Connection {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// One that is made at its first use.
    pub fn new() -> Self {
        Self { stream: None, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, request: &Request) -> io::Result<Answer> {
        let kept = self.stream.is_some();
        match self.exchange(request) {
            // The server has closed a kept connection, as it may.
            Err(_) if kept && self.buffer.is_empty() => {
                self.stream = None;
                self.exchange(request)
            }
            other => other,
        }
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        self.buffer.clear();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connect(request.to)?),
        };
        stream.write_all(&request.bytes)?;
        let answer = loop {
            if read_some(stream, &mut self.buffer)? == 0 {
                self.stream = None;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = Answer::parse(&self.buffer)? {
                break answer;
            }
        };
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(answer)
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_some(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let old = buffer.len();
    buffer.resize(old + 64 * 1024, 0);
    let got = stream.read(&mut buffer[old..]);
    buffer.truncate(old + got.as_ref().copied().unwrap_or(0));
    got
}

#[cfg(test)]
mod tests;
