//! One client's connection: what it sends becomes requests, one after the other, and answers become bytes.
//!
//! ```text
//!   Head ──► Asked ──► Body ──► Given ──► Head …        Given: somebody owes it an answer
//!              ╰─ refuse ─► Waste ─► Head …             Waste: the rest of a body that nobody wants
//! ```
//!
//! It decides nothing: whether a body is wanted, and how long it may be, is told by whoever knows what it is for.

use crate::http::{self, Body, CONTINUE, HEAD_MAX, Head, Malformed, Response};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes taken from the socket at a time, and for one connection before it is another's turn.
const PIECE: usize = 16 * 1024;
const TURN: usize = 256 * 1024;
/// Room for input that is kept for the next request.
const KEPT: usize = 2 * HEAD_MAX;

enum Stage {
    Head,
    Asked(Head, Body),
    Body { head: Head, body: Body, received: Vec<u8>, limit: usize },
    Waste { body: Body, then: Response },
    Given,
    Over,
}

/// What a connection has come to.
pub enum Step {
    /// Nothing more, until more is received or answered.
    Starved,
    /// A request's head: [`Connection::accept`] or [`Connection::refuse`] comes next.
    Asked(Head, Body),
    /// A whole request: [`Connection::answer`] comes next, some time.
    Request(Head, Body, Vec<u8>),
    /// The body is longer than its limit: [`Connection::refuse`] comes next.
    TooLong(Head, Body),
}

/// How a socket was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Open,
    Closed,
}

pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    stage: Stage,
    keeps_alive: bool,
    output: Vec<u8>,
    /// What follows `output`.
    tail: Vec<u8>,
    sent: usize,
    /// When it last began something: the larger, the later.
    pub turn: u64,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (input, output, tail) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { stream, input, stage: Stage::Head, keeps_alive: true, output, tail, sent: 0, turn: 0 })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether it can be closed without anybody's losing something that had begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head | Stage::Waste { .. } | Stage::Over)
    }

    /// Whether bytes wait to be sent.
    pub fn has_output(&self) -> bool {
        self.sent < self.output.len() + self.tail.len()
    }

    /// Receives as much as is there, and not more than is of use.
    pub fn receive(&mut self) -> Found {
        let mut piece = [0; PIECE];
        let mut taken = 0;
        while taken < TURN && self.input.len() < KEPT {
            match self.stream.read(&mut piece) {
                Ok(0) => return Found::Closed,
                Ok(len) => {
                    self.input.extend_from_slice(&piece[..len]);
                    taken += len;
                    if self.is_receiving() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Found::Closed,
            }
        }
        Found::Open
    }

    /// Whether what was received is to be looked at before more is.
    fn is_receiving(&self) -> bool {
        matches!(self.stage, Stage::Body { .. } | Stage::Waste { .. })
    }

    /// Goes on with what was received.
    pub fn step(&mut self) -> Result<Step, Malformed> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Head => {
                let Some((head, body, len)) = http::head(&self.input)? else {
                    self.stage = Stage::Head;
                    return Ok(Step::Starved);
                };
                self.input.drain(..len);
                self.keeps_alive = head.keeps_alive;
                Ok(Step::Asked(head, body))
            }
            Stage::Asked(head, body) => Ok(Step::Asked(head, body)),
            Stage::Body { head, mut body, mut received, limit } => {
                let mut over = false;
                let complete = body.feed(&mut self.input, |bytes| {
                    over |= received.len() + bytes.len() > limit;
                    if !over {
                        received.extend_from_slice(bytes);
                    }
                })?;
                if over {
                    return Ok(Step::TooLong(head, body));
                }
                if complete {
                    self.stage = Stage::Given;
                    return Ok(Step::Request(head, body, received));
                }
                self.stage = Stage::Body { head, body, received, limit };
                Ok(Step::Starved)
            }
            Stage::Waste { mut body, then } => {
                if body.feed(&mut self.input, |_| ())? {
                    self.stage = Stage::Given;
                    self.answer(then);
                    return self.step();
                }
                self.stage = Stage::Waste { body, then };
                Ok(Step::Starved)
            }
            stage => {
                self.stage = stage;
                Ok(Step::Starved)
            }
        }
    }

    /// Takes the body of the request whose head was just told, up to `limit` bytes.
    pub fn accept(&mut self, head: Head, body: Body, limit: usize) {
        if head.asks_first {
            self.output.extend_from_slice(CONTINUE);
        }
        let received = Vec::with_capacity((body.announced() as usize).min(limit));
        self.stage = Stage::Body { head, body, received, limit };
    }

    /// Lets the rest of the request pass, and answers it then.
    pub fn refuse(&mut self, body: Body, then: Response) {
        self.stage = Stage::Waste { body, then };
    }

    /// Answers the request that was given.
    pub fn answer(&mut self, response: Response) {
        self.output.extend(response.head(self.keeps_alive));
        self.tail = response.body;
        self.stage = if self.keeps_alive { Stage::Head } else { Stage::Over };
    }

    /// Answers what cannot be understood, and ends.
    pub fn give_up(&mut self) {
        self.keeps_alive = false;
        self.answer(Response::text(400, "400 Bad Request"));
    }

    /// Sends what waits, as far as possible. Closed also when all is said.
    pub fn send(&mut self) -> Found {
        while self.has_output() {
            let rest = match self.output.get(self.sent..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &self.tail[self.sent - self.output.len()..],
            };
            match self.stream.write(rest) {
                Ok(0) => return Found::Closed,
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Found::Open,
                Err(_) => return Found::Closed,
            }
        }
        self.output.clear();
        self.tail = Vec::new();
        self.sent = 0;
        if matches!(self.stage, Stage::Over) { Found::Closed } else { Found::Open }
    }
}
