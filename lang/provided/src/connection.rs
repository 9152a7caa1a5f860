//! One client's connection: what it sends becomes requests, one after the other, and answers become bytes.
//!
//! ```text
//!   Head ──► (asked) ─┬─ accept ───────► Body ──► Given ──► Head …     Given: somebody owes it an answer
//!                     ├─ accept_parts ─► Parts ─► Given ──► Head …
//!                     ╰─ refuse ───────► Waste ───────────► Head …     Waste: a body that nobody wants
//! ```
//!
//! It decides nothing: whether a body is wanted, and how long it may be, is told by whoever knows what it is for.

use crate::http::{self, Body, CONTINUE, HEAD_MAX, Head, Malformed, Response};
use cfork::invocation::PART_MAX;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// Bytes taken from the socket at a time, and for one connection before it is another's turn.
const PIECE: usize = 16 * 1024;
const TURN: usize = 256 * 1024;
/// Room for input that is kept for the next request.
const KEPT: usize = 2 * HEAD_MAX;

enum Stage {
    Head,
    Body { head: Head, body: Body, received: Vec<u8>, limit: usize },
    Parts { body: Body, received: Vec<u8>, complete: bool },
    Waste { body: Body, then: Response },
    Given,
    Over,
}

/// What a connection has come to.
pub enum Step {
    /// Nothing more, until more is received or answered.
    Starved,
    /// A request's head: [`Connection::accept`], [`Connection::accept_parts`] or [`Connection::refuse`] comes next.
    Asked(Head, Body),
    /// A whole request: [`Connection::answer`] comes next, some time.
    Request(Head, Vec<u8>),
    /// More of a body that comes in parts lies in [`Connection::parts`].
    More,
    /// A body that came in parts is complete, and all of it was taken: [`Connection::answer`] comes next.
    PartsEnded(Body),
    /// The body is longer than its limit: [`Connection::refuse`] comes next.
    TooLong(Body),
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
    tail: Rc<Vec<u8>>,
    sent: usize,
    /// Whether it has ever been answered.
    is_known: bool,
}

impl Connection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (input, output, tail) = (Vec::new(), Vec::new(), Rc::default());
        Ok(Self { stream, input, stage: Stage::Head, keeps_alive: true, output, tail, sent: 0, is_known: false })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether it can be closed without anybody's losing something that had begun: those first that never said anything of
    /// use. Nothing where it cannot.
    pub fn worth(&self) -> Option<bool> {
        matches!(self.stage, Stage::Head | Stage::Waste { .. } | Stage::Over).then_some(self.is_known)
    }

    /// Whether bytes wait to be sent.
    pub fn has_output(&self) -> bool {
        self.sent < self.output.len() + self.tail.len()
    }

    /// Whether there is room for more of what its client sends.
    pub fn wants_input(&self) -> bool {
        let parts = if let Stage::Parts { received, .. } = &self.stage { received.len() } else { 0 };
        self.input.len() < KEPT && parts < PART_MAX
    }

    /// Receives as much as is there, and not more than is of use.
    pub fn receive(&mut self) -> Found {
        let mut piece = [0; PIECE];
        let mut taken = 0;
        while taken < TURN && self.wants_input() {
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
        matches!(self.stage, Stage::Body { .. } | Stage::Parts { .. } | Stage::Waste { .. })
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
            Stage::Body { head, mut body, mut received, limit } => {
                let mut over = false;
                let complete = body.feed(&mut self.input, |bytes| {
                    over |= received.len() + bytes.len() > limit;
                    if !over {
                        received.extend_from_slice(bytes);
                    }
                })?;
                if over {
                    return Ok(Step::TooLong(body));
                }
                if complete {
                    self.stage = Stage::Given;
                    return Ok(Step::Request(head, received));
                }
                self.stage = Stage::Body { head, body, received, limit };
                Ok(Step::Starved)
            }
            Stage::Parts { mut body, mut received, mut complete } => {
                if !complete && received.len() < PART_MAX {
                    complete = body.feed(&mut self.input, |bytes| received.extend_from_slice(bytes))?;
                }
                if complete && received.is_empty() {
                    self.stage = Stage::Given;
                    return Ok(Step::PartsEnded(body));
                }
                let step = if received.is_empty() { Step::Starved } else { Step::More };
                self.stage = Stage::Parts { body, received, complete };
                Ok(step)
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

    /// Takes the body of the request whose head was just told in parts.
    pub fn accept_parts(&mut self, head: &Head, body: Body) {
        if head.asks_first {
            self.output.extend_from_slice(CONTINUE);
        }
        self.stage = Stage::Parts { body, received: Vec::new(), complete: false };
    }

    /// What was received of a body that comes in parts: whoever passes it on takes it out of here.
    pub fn parts(&mut self) -> Option<&mut Vec<u8>> {
        if let Stage::Parts { received, .. } = &mut self.stage { Some(received) } else { None }
    }

    /// Lets the rest of the request pass, and answers it then.
    pub fn refuse(&mut self, body: Body, then: Response) {
        self.stage = Stage::Waste { body, then };
    }

    /// Answers the request that was given.
    pub fn answer(&mut self, response: Response) {
        self.output.extend(response.head(self.keeps_alive));
        self.tail = response.body;
        self.is_known |= response.status < 400;
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
        self.tail = Rc::default();
        self.sent = 0;
        if matches!(self.stage, Stage::Over) { Found::Closed } else { Found::Open }
    }
}
