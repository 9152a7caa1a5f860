//! Requests at a given rate, whether or not those before have been answered: what a client sees waits in queues as well.
//!
//! One thread with many connections. Each request counts from when it could have been sent: when it was due, or when the
//! thread came to it if it had overslept, whose own lateness is none of the server's; but not from when a connection was
//! free at last.

use crate::error::BenchError;
use crate::http::{Answer, Request};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;
/// Requests that are due more closely than this are sent together: who wakes up for each has nothing left for the server.
const CLOSE: Duration = Duration::from_micros(100);
/// What is left in the queue after twice the time is not waited for: what was seen until then says enough.
const PATIENCE: u32 = 2;

struct Line {
    stream: TcpStream,
    /// What is still to be written of the request.
    unsent: usize,
    buffer: Vec<u8>,
    /// Since when the request that is under way counts.
    since: Option<Instant>,
}

struct Lines<'a> {
    request: &'a Request,
    epoll: OwnedFd,
    all: Vec<Line>,
    free: Vec<usize>,
    taken: Vec<f64>,
}

/// Microseconds that each request took.
pub fn run(request: &Request, per_second: f64, time: Duration) -> Result<Vec<f64>, BenchError> {
    let silent = |source| BenchError::Silent { who: "a server under load".into(), source };
    let mut lines = Lines::connect(request).map_err(silent)?;
    let every = Duration::from_secs_f64(1.0 / per_second.max(1.0));
    let begin = Instant::now();
    let (end, too_late) = (begin + time, begin + time * PATIENCE);
    let (mut due, mut waiting) = (begin, VecDeque::new());
    loop {
        let now = Instant::now();
        while due <= now && due < end {
            waiting.push_back(now);
            due += every;
        }
        while let Some(since) = waiting.front().copied() {
            let Some(free) = lines.free.pop() else { break };
            lines.send(free, since).map_err(silent)?;
            waiting.pop_front();
        }
        let is_over = due >= end && waiting.is_empty() && lines.free.len() == CONNECTIONS;
        if is_over || now > too_late {
            return Ok(lines.taken);
        }
        let left = if due < end { due.saturating_duration_since(now).max(CLOSE) } else { Duration::from_millis(10) };
        lines.hear(left)?;
    }
}

impl<'a> Lines<'a> {
    fn connect(request: &'a Request) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let stream = TcpStream::connect(request.to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            all.push(Line { stream, unsent: 0, buffer: Vec::with_capacity(64 << 10), since: None });
        }
        Ok(Self { request, epoll, all, free: (0..CONNECTIONS).collect(), taken: Vec::new() })
    }

    fn send(&mut self, number: usize, since: Instant) -> io::Result<()> {
        let line = &mut self.all[number];
        (line.since, line.unsent) = (Some(since), self.request.bytes.len());
        self.send_on(number)
    }

    /// Writes what there is room for; the rest when there is more.
    fn send_on(&mut self, number: usize) -> io::Result<()> {
        let line = &mut self.all[number];
        let had_all = line.unsent == self.request.bytes.len();
        while line.unsent > 0 {
            match line.stream.write(&self.request.bytes[self.request.bytes.len() - line.unsent..]) {
                Ok(written) => line.unsent -= written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wanted = EventFlags::IN | EventFlags::OUT;
                    return Ok(epoll::modify(&self.epoll, &line.stream, EventData::new_u64(number as u64), wanted)?);
                }
                Err(error) => return Err(error),
            }
        }
        if !had_all {
            epoll::modify(&self.epoll, &line.stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        }
        Ok(())
    }

    /// Takes the answers that come until something was heard, or this time is over.
    fn hear(&mut self, limit: Duration) -> Result<(), BenchError> {
        let silent = |source| BenchError::Silent { who: "a server under load".into(), source };
        let mut events: Vec<epoll::Event> = Vec::with_capacity(CONNECTIONS);
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(silent(error.into())),
        }
        for event in events {
            let data = event.data;
            let number = data.u64() as usize;
            if self.all[number].unsent > 0 {
                self.send_on(number).map_err(silent)?;
            }
            let Some(answer) = self.all[number].take().map_err(silent)? else { continue };
            if answer.status != 200 {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(BenchError::Refused { who: "a server under load".into(), status: answer.status, body });
            }
            let since = self.all[number].since.take();
            self.taken.extend(since.map(|since| since.elapsed().as_nanos() as f64 / 1000.0));
            self.free.push(number);
        }
        Ok(())
    }
}

impl Line {
    /// The answer, once it is whole.
    fn take(&mut self) -> io::Result<Option<Answer>> {
        let old = self.buffer.len();
        self.buffer.resize(old + (64 << 10), 0);
        let got = self.stream.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + got.as_ref().copied().unwrap_or(0));
        match got {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let answer = Answer::parse(&self.buffer)?;
        if answer.is_some() {
            self.buffer.clear();
        }
        Ok(answer)
    }
}
