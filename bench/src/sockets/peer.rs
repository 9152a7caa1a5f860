//! The programs that talk: they know of sockets, and of nothing that is measured here.
//!
//! ```text
//!   caller ──▶ what, length, count ── then `count` messages of `length` bytes ──▶ server
//!          ◀── each of them back, or one byte when all have come ──
//! ```
//!
//! The caller does what its standard input says, a line each, over a connection of its own, and tells its times.

use super::memory::{Memory, await_first};
use super::ring::Reserved;
use crate::error::{BenchError, io};
use crate::nipc::stay_on;
use socket::fixed::Rings;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the command line calls them.
pub const SERVE: &str = "socket-serve";
pub const CALL: &str = "socket-call";

/// Round trips before those that count: by then it is known how the bytes go.
const WARM: usize = 200;
const ECHO: u8 = b'e';
const SWALLOW: u8 = b's';

/// A connection, of whatever kind.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Does not let a call wait, and calls again.
struct Polled(TcpStream);

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            other => return other,
        }
    }
}

impl Read for Polled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| self.0.read(buffer))
    }
}

impl Write for Polled {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        again(|| self.0.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of an event loop that this thread has to itself.
struct Looped(tokio::net::TcpStream, std::rc::Rc<tokio::runtime::Runtime>);

impl Read for Looped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.block_on(self.0.read(buffer))
    }
}

impl Write for Looped {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.1.block_on(self.0.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How connections are made here.
struct Medium {
    name: String,
    events: Option<std::rc::Rc<tokio::runtime::Runtime>>,
    relay: Option<os::bpf::Relay>,
    memory: std::cell::OnceCell<Memory>,
}

impl Medium {
    fn new(name: &str) -> io::Result<Self> {
        let events = (name == "async").then(|| tokio::runtime::Builder::new_current_thread().enable_io().build());
        let events = events.transpose()?.map(Into::into);
        let relay = (name == super::JOINED).then(|| os::child::take(os::child::FIRST_DESCRIPTOR)).transpose()?;
        let relay = relay.map(os::bpf::Relay::of);
        Ok(Self { name: name.to_owned(), events, relay, memory: std::cell::OnceCell::new() })
    }

    fn dress(&self, mut stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        stream.set_nodelay(true)?;
        if let Some(relay) = &self.relay {
            // Nobody sends before both are in: what is on its way would be overtaken.
            relay.add(&stream)?;
            stream.write_all(&[SWALLOW])?;
            stream.read_exact(&mut [0])?;
        }
        Ok(match &self.events {
            Some(events) => {
                stream.set_nonblocking(true)?;
                let _inside = events.enter();
                Box::new(Looped(tokio::net::TcpStream::from_std(stream)?, events.clone()))
            }
            None if self.name == "polled" => {
                stream.set_nonblocking(true)?;
                Box::new(Polled(stream))
            }
            None => Box::new(stream),
        })
    }

    fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        match self.name.as_str() {
            "unix" => Ok(Box::new(UnixStream::connect(address)?)),
            ring if ring.starts_with("ring") => {
                let rings = Rings::find(address, ring_bytes(ring), 1)?;
                Ok(Box::new(Reserved(rings.open(0))))
            }
            "memory" => {
                if self.memory.get().is_none() {
                    let _ = self.memory.set(Memory::find(address)?);
                }
                let memory = self.memory.get().ok_or(ErrorKind::NotFound)?;
                Ok(Box::new(memory.open()?))
            }
            _ => self.dress(TcpStream::connect(address)?),
        }
    }
}

/// What such a process does until its orders end.
pub fn run(role: &str, place: &str, processor: usize) -> Result<(), BenchError> {
    stay_on(processor).map_err(io("the processor that was asked for cannot be had"))?;
    let (medium, address) = place.split_once(':').unwrap_or((place, ""));
    let done = match (role, medium) {
        (SERVE, medium) if medium.starts_with("many") => super::many::serve(medium),
        (SERVE, _) => serve(medium, address),
        (_, medium) if medium.starts_with("many") => super::many::call(medium, address),
        _ => Medium::new(medium).and_then(|medium| orders(|order| act(&medium, address, order))),
    };
    done.map_err(io("a connection broke"))
}

/// Says where, and serves those who come, one after the other.
fn serve(name: &str, folder: &str) -> io::Result<()> {
    let medium = Medium::new(name)?;
    if name == "unix" {
        let place = format!("{folder}/{}", std::process::id());
        let listener = UnixListener::bind(&place)?;
        println!("{place}");
        return listener.incoming().try_for_each(|stream| answer(&mut stream?));
    }
    if name.starts_with("ring") {
        let (rings, place, _file) = Rings::publish(ring_bytes(name), 1)?;
        println!("{place}");
        // Callers come one after the other, and find the ring as the last one has left it.
        let mut end = Reserved(rings.open(0));
        loop {
            await_first(&mut end);
            answer(&mut end)?;
        }
    }
    if name == "memory" {
        let (memory, place, _file) = Memory::publish()?;
        println!("{place}");
        loop {
            let mut end = memory.open()?;
            await_first(&mut end);
            answer(&mut end)?;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    listener.incoming().try_for_each(|stream| answer(&mut *medium.dress(stream?)?))
}

/// Of a medium that is named after it.
pub(super) fn ring_bytes(name: &str) -> usize {
    name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(1 << 20)
}

/// Answers one connection until its end.
fn answer(stream: &mut dyn Stream) -> io::Result<()> {
    let mut header = [0; 16];
    loop {
        match stream.read_exact(&mut header) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(());
            }
            other => other?,
        }
        let (what, length, count) = parse(header);
        let mut buffer = vec![0; length];
        if what == ECHO {
            for _ in 0..count {
                stream.read_exact(&mut buffer)?;
                stream.write_all(&buffer)?;
            }
        } else {
            let mut left = length * count;
            while left > 0 {
                let most = left.min(length);
                match stream.read(&mut buffer[..most])? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    got => left -= got,
                }
            }
            stream.write_all(&[SWALLOW])?;
        }
    }
}

fn header(what: u8, length: usize, count: usize) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = what;
    header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    header[8..].copy_from_slice(&(count as u64).to_le_bytes());
    header
}

fn parse(header: [u8; 16]) -> (u8, usize, usize) {
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let count = header[8..].iter().rev().fold(0, |count, byte| count << 8 | usize::from(*byte));
    (header[0], length as usize, count)
}

/// Does what standard input says, line by line, and tells the nanoseconds of each.
pub fn orders(act: impl Fn(&str) -> io::Result<Vec<u64>>) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let samples = act(&line?)?;
        let told: Vec<u8> = std::iter::once(samples.len() as u64).chain(samples).flat_map(u64::to_le_bytes).collect();
        io::stdout().write_all(&told)?;
        io::stdout().flush()?;
    }
    Ok(())
}

fn act(medium: &Medium, address: &str, order: &str) -> io::Result<Vec<u64>> {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(1);
    if words[0] == "connects" {
        return (0..number(1)).map(|_| timed(|| short(&mut *medium.connect(address)?, number(2)))).collect();
    }
    let mut stream = medium.connect(address)?;
    let (length, count) = (number(1), number(2));
    let (message, mut back) = (vec![7; length], vec![0; length.max(16)]);
    if words[0] == "trips" {
        stream.write_all(&header(ECHO, length, WARM + count))?;
        let mut trip = || {
            timed(|| {
                stream.write_all(&message)?;
                stream.read_exact(&mut back[..length])
            })
        };
        (0..WARM).try_for_each(|_| trip().map(drop))?;
        return (0..count).map(|_| trip()).collect();
    }
    stream.write_all(&header(ECHO, 16, WARM))?;
    for _ in 0..WARM {
        stream.write_all(&[7; 16])?;
        stream.read_exact(&mut back[..16])?;
    }
    let sent = timed(|| {
        stream.write_all(&header(SWALLOW, length, count))?;
        (0..count).try_for_each(|_| stream.write_all(&message))?;
        stream.read_exact(&mut back[..1])
    });
    Ok(vec![sent?])
}

fn short(stream: &mut dyn Stream, turns: usize) -> io::Result<()> {
    stream.write_all(&header(ECHO, 16, turns))?;
    (0..turns).try_for_each(|_| {
        stream.write_all(&[7; 16])?;
        stream.read_exact(&mut [0; 16])
    })
}

pub fn timed(act: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let began = Instant::now();
    act()?;
    Ok(began.elapsed().as_nanos() as u64)
}
