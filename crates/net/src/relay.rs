//! Whether this kernel can join sockets (`os::bpf::Relay`, "sockmap") so that programs do not notice.
//!
//! Joined, a message goes from the sender's call into the receiver's queue: no segments, no acknowledgements. That pays; but
//! the queue is not TCP's, and what looks at TCP's own finds nothing there. This tries what programs do with a
//! connection, on connections of its own, and tells what is different. Nothing is joined where anything is.

use os::bpf::Relay;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use thiserror::Error;

/// The most bytes that a sender may have got rid of while nobody receives: more than TCP's buffers at their largest.
const UNREAD_MAX: usize = 64 << 20;
const PIECE: usize = 256 << 10;
/// How long something may take that takes no time.
const PATIENCE: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 2, tv_nsec: 0 };

/// What is different for programs whose sockets are joined.
#[derive(Debug, Error)]
pub enum Flaw {
    #[error("sockets cannot be joined: {0}")]
    Refused(#[source] io::Error),
    #[error("no connection to try with: {0}")]
    Connection(#[source] io::Error),
    #[error("{what}: {found}")]
    Different { what: &'static str, found: String },
}

type Trial = (&'static str, fn(&mut TcpStream, &mut TcpStream) -> Result<(), String>);

const TRIALS: [Trial; 8] = [
    ("bytes arrive in order, both ways", order),
    ("the end comes behind the bytes, and only one way", half_close),
    ("who waits for bytes is woken, and can look at them", peek),
    ("the kernel says how much can be read (FIONREAD)", queued),
    ("a sender is held back by a receiver that does not read", pressure),
    ("bytes can be spliced", spliced),
    ("a sender hears that the receiver has gone", gone),
    ("the kernel counts bytes that were received (TCP_INFO)", counted),
];

/// Tries all of it, whatever comes of each: what is different.
pub fn rehearse() -> Result<(), Vec<Flaw>> {
    let relay = Relay::new(64).map_err(|error| vec![Flaw::Refused(error)])?;
    let flaws: Vec<Flaw> = TRIALS.iter().filter_map(|(what, trial)| tried(&relay, what, trial).err()).collect();
    if flaws.is_empty() { Ok(()) } else { Err(flaws) }
}

fn tried(
    relay: &Relay,
    what: &'static str,
    trial: &fn(&mut TcpStream, &mut TcpStream) -> Result<(), String>,
) -> Result<(), Flaw> {
    let (mut one, mut two) = connection().map_err(Flaw::Connection)?;
    relay.add(&one).and_then(|()| relay.add(&two)).map_err(Flaw::Refused)?;
    trial(&mut one, &mut two).map_err(|found| Flaw::Different { what, found })
}

/// Two ends, whose calls do not wait.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let two = listener.accept()?.0;
    for end in [&one, &two] {
        end.set_nodelay(true)?;
        end.set_nonblocking(true)?;
    }
    Ok((one, two))
}

/// Waits until this can be read from. False: it cannot, for as long as is waited.
fn readable(stream: &TcpStream) -> bool {
    poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&PATIENCE)) == Ok(1)
}

/// What can be received until so many bytes are there, the end has come, or nothing more comes.
fn receive(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let (mut got, mut buffer) = (Vec::new(), vec![0; PIECE]);
    while got.len() < length && readable(stream) {
        let most = buffer.len().min(length - got.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(len) => got.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    got
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).map_err(|error| format!("{} bytes could not be sent: {error}", bytes.len()))
}

fn is(so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise()) }
}

fn order(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    for turn in 0..64_usize {
        let bytes: Vec<u8> = (0..1 + turn * 257).map(|at| (at * 31 + turn) as u8).collect();
        let (first, rest) = bytes.split_at(bytes.len() / 3);
        let through = |from: &mut TcpStream, to: &mut TcpStream| {
            send(from, first)?;
            send(from, rest)?;
            is(receive(to, bytes.len()) == bytes, || format!("{} others", bytes.len()))
        };
        through(one, two)?;
        through(two, one)?;
    }
    Ok(())
}

fn half_close(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    send(one, b"last words")?;
    shutdown(&*one, Shutdown::Write).map_err(|error| error.to_string())?;
    let got = receive(two, 100);
    is(got == b"last words", || format!("{} bytes of 10", got.len()))?;
    is(two.read(&mut [0]).is_ok_and(|len| len == 0), || "no end".to_owned())?;
    send(two, b"an answer")?;
    is(receive(one, 9) == b"an answer", || "nothing comes the other way any more".to_owned())
}

fn peek(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    send(one, b"look")?;
    is(readable(two), || "nobody is woken".to_owned())?;
    let mut seen = [0; 8];
    let got = rustix::net::recv(&*two, &mut seen, RecvFlags::PEEK).map_or(0, |(len, _)| len);
    is(&seen[..got] == b"look" && receive(two, 4) == b"look", || format!("{got} bytes seen of 4"))
}

fn queued(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    send(one, &[7; 1000])?;
    is(readable(two), || "nothing comes".to_owned())?;
    let found = rustix::io::ioctl_fionread(&*two).unwrap_or(0);
    is(found == 1000, || format!("{found} of 1000 bytes"))
}

fn pressure(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    let (piece, mut sent) = (vec![9; PIECE], 0);
    while sent < UNREAD_MAX {
        match one.write(&piece) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(format!("an error after {} KiB: {error}", sent >> 10)),
        }
    }
    is(sent < UNREAD_MAX, || format!("{} MiB were taken, and more would be", sent >> 20))?;
    let got = receive(two, sent).len();
    is(got == sent, || format!("{got} bytes of {sent} arrived"))
}

fn spliced(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    let (mut out, into) = io::pipe().map_err(|error| error.to_string())?;
    send(one, b"through a pipe")?;
    is(readable(two), || "nothing comes".to_owned())?;
    match splice(&*two, None, &into, None, 100, SpliceFlags::NONBLOCK) {
        Ok(14) => {}
        Ok(len) => return Err(format!("{len} bytes of 14")),
        Err(Errno::AGAIN) => return Err("none are found".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let mut got = [0; 14];
    is(out.read_exact(&mut got).is_ok() && &got == b"through a pipe", || "others".to_owned())
}

fn gone(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    send(one, b"unread")?;
    is(readable(two), || "nothing comes".to_owned())?;
    // With bytes unread: a reset, over TCP.
    shutdown(&*two, Shutdown::Both).map_err(|error| error.to_string())?;
    let spare = std::mem::replace(two, connection().map_err(|error| error.to_string())?.0);
    drop(spare);
    let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
    let mut polled = [PollFd::new(&*one, ended)];
    let heard = poll(&mut polled, Some(&PATIENCE)) == Ok(1);
    let fails = (0..100).any(|_| one.write(b"anybody?").is_err());
    is(heard && fails, || "it goes on sending".to_owned())
}

fn counted(one: &mut TcpStream, two: &mut TcpStream) -> Result<(), String> {
    send(one, &[5; 5000])?;
    is(receive(two, 5000).len() == 5000, || "nothing comes".to_owned())?;
    let found = os::tcp::received(&*two).map_err(|error| error.to_string())?;
    is(found == 5000, || format!("{found} of 5000 bytes"))
}
