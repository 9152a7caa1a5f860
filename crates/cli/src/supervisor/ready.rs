//! Asks the gateway whether the node is ready, without ever waiting for the answer.

use rustix::event::Timespec;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(5);
/// Enough for the status line of an answer.
const HEAD: usize = 12;

/// The question, asked again and again until the answer is yes.
pub struct Probe {
    address: SocketAddr,
    asked: Option<TcpStream>,
    again_at: Instant,
}

impl Probe {
    /// Of the gateway that listens there.
    pub fn new(address: SocketAddr) -> Self {
        let reachable = super::listen::endpoint(address);
        let address = reachable.trim_start_matches("http://").parse().unwrap_or(address);
        Self { address, asked: None, again_at: Instant::now() }
    }

    /// Polls readable when there is an answer.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.asked.as_ref().map(|stream| stream.as_fd())
    }

    /// When to call [`Self::ask`].
    pub fn deadline(&self) -> Option<Instant> {
        self.asked.is_none().then_some(self.again_at)
    }

    /// Asks, if it is time. The kernel accepts connections for a gateway that is not there yet.
    pub fn ask(&mut self, now: Instant) {
        if self.asked.is_some() || now < self.again_at {
            return;
        }
        self.again_at = now + PAUSE;
        let asked = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_nonblocking(true)?;
            write!(stream, "GET /readyz HTTP/1.1\r\nhost: lichen\r\nconnection: close\r\n\r\n")?;
            Ok(stream)
        });
        // A refusal is an answer, too: not yet.
        self.asked = asked.ok();
    }

    /// Whether the answer, if there is one, is yes.
    pub fn hear(&mut self) -> bool {
        let Some(stream) = &mut self.asked else { return false };
        let mut head = [0; HEAD];
        match stream.read(&mut head) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Ok(HEAD) if &head == b"HTTP/1.1 200" => true,
            _ => {
                self.asked = None;
                self.again_at = Instant::now() + PAUSE;
                false
            }
        }
    }
}

/// How long to poll until the next of these.
pub fn until(now: Instant, deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Timespec> {
    let next = deadlines.into_iter().flatten().min()?;
    let left = next.saturating_duration_since(now);
    Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() })
}
