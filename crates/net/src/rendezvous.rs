//! The broker: brings together the two ends of a TCP connection that want memory between them.
//!
//! An end connects, and sends its socket. The broker asks the kernel what that socket is: whose namespace, which addresses. Whoever has
//! an end of a connection in his hands can have its bytes anyway, so that is all the right it takes; nobody can name a connection
//! that is not his. When both ends have come, both are given the same memory, which nobody else has, and the broker forgets
//! them.
//!
//! It answers nobody else, keeps no socket, and holds a connection to each end that waits until that end gives up. What goes
//! through the memory it does not see.

use rustix::event::{PollFd, PollFlags, poll};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Ends that may wait; more are turned away.
const WAITING_MAX: usize = 4096;

/// A connection, as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Network namespace.
    net: u64,
    own: SocketAddr,
    peer: SocketAddr,
}

impl Key {
    /// Of a socket; nothing if it is no connection over TCP.
    fn of(socket: BorrowedFd<'_>) -> Option<Self> {
        use rustix::net::{getpeername, getsockname, ipproto, sockopt};
        if sockopt::socket_protocol(socket).ok()? != Some(ipproto::TCP) {
            return None;
        }
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Some(Self {
            net: os::netlink::namespace_of(socket).ok()?,
            own: plain(SocketAddr::try_from(getsockname(socket).ok()?).ok()?),
            peer: plain(SocketAddr::try_from(getpeername(socket).ok()??).ok()?),
        })
    }

    fn reversed(self) -> Self {
        Self { net: self.net, own: self.peer, peer: self.own }
    }
}

/// An end that has connected.
#[derive(Debug)]
struct End {
    socket: OwnedFd,
    key: Option<Key>,
}

/// The broker, at its place.
#[derive(Debug)]
pub struct Broker {
    listener: OwnedFd,
    ends: Vec<End>,
    waiting: HashMap<Key, usize>,
    met: u64,
}

impl Broker {
    /// One that listens at `path`, for this user's processes.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let listener = os::seqpacket::listen(path)?;
        Ok(Self { listener, ends: Vec::new(), waiting: HashMap::new(), met: 0 })
    }

    /// Connections that have got memory.
    pub fn met(&self) -> u64 {
        self.met
    }

    /// Serves until `stop` can be read, or has hung up.
    pub fn serve(&mut self, stop: impl AsFd) -> io::Result<()> {
        loop {
            let mut polls = vec![PollFd::new(&stop, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
            polls.extend(self.ends.iter().map(|end| PollFd::new(&end.socket, PollFlags::IN)));
            match poll(&mut polls, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let said: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
            if said[0] {
                return Ok(());
            }
            // From the last on, so that those before stay where they are.
            for at in (0..self.ends.len()).rev().filter(|at| said[at + 2]) {
                if at < self.ends.len() {
                    self.hear(at);
                }
            }
            if said[1] {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        while let Ok(Some(socket)) = os::seqpacket::accept(&self.listener) {
            if self.ends.len() < WAITING_MAX {
                self.ends.push(End { socket, key: None });
            }
        }
    }

    /// An end has said something, or is gone.
    fn hear(&mut self, at: usize) {
        let (mut word, mut sockets) = ([0; 8], Vec::new());
        let heard = os::seqpacket::receive(&self.ends[at].socket, &mut word, &mut sockets);
        let key = match (heard, self.ends[at].key) {
            // It has moved here from another place, where it said something.
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return,
            (Ok(1..), None) => sockets.first().and_then(|socket| Key::of(socket.as_fd())),
            _ => None,
        };
        // At once: while it is held here, the connection cannot end.
        drop(sockets);
        match key {
            Some(key) => self.introduce(at, key),
            None => self.forget(at),
        }
    }

    fn introduce(&mut self, at: usize, key: Key) {
        self.ends[at].key = Some(key);
        match self.waiting.get(&key.reversed()).copied() {
            Some(other) => {
                if self.give(at, other).is_ok() {
                    self.met += 1;
                }
                self.forget(at.max(other));
                self.forget(at.min(other));
            }
            None => {
                if let Some(before) = self.waiting.insert(key, at) {
                    // The same end twice: the later one is at work.
                    self.ends[before].key = None;
                    self.forget(before);
                }
            }
        }
    }

    fn give(&self, one: usize, other: usize) -> io::Result<()> {
        let memory = socket::memory::create()?;
        for (end, side) in [(one, b"0"), (other, b"1")] {
            os::seqpacket::send(&self.ends[end].socket, &[IoSlice::new(side)], &[memory.as_fd()])?;
        }
        Ok(())
    }

    fn forget(&mut self, at: usize) {
        let end = self.ends.swap_remove(at);
        if let Some(key) = end.key {
            self.waiting.remove(&key);
        }
        // The last one is here now.
        if let Some(key) = self.ends.get(at).and_then(|end| end.key) {
            self.waiting.insert(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    fn show(path: &Path, socket: impl AsFd) -> OwnedFd {
        let broker = os::seqpacket::connect(path).unwrap();
        os::seqpacket::send(&broker, &[IoSlice::new(b"1")], &[socket.as_fd()]).unwrap();
        broker
    }

    fn answer(broker: &OwnedFd) -> (usize, Vec<OwnedFd>) {
        rustix::event::poll(&mut [PollFd::new(broker, PollFlags::IN)], None).unwrap();
        let (mut word, mut files) = ([0; 8], Vec::new());
        (os::seqpacket::receive(broker, &mut word, &mut files).unwrap_or(0), files)
    }

    #[test]
    fn two_ends_get_one_memory_and_others_get_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker");
        let mut broker = Broker::listen(&path).unwrap();
        let (stop, end) = io::pipe().unwrap();
        let serving = thread::spawn(move || broker.serve(stop).map(|()| broker.met()));
        let (one, two) = ends();
        let (alone, gone) = ends();
        drop(show(&path, &gone));
        let lonely = show(&path, &alone);
        let nothing = show(&path, io::pipe().unwrap().0);
        let (first, second) = (show(&path, &one), show(&path, &two));
        let (a, b) = (answer(&first), answer(&second));
        assert_eq!((a.0, b.0), (1, 1));
        let number = |file: &OwnedFd| rustix::fs::fstat(file).unwrap().st_ino;
        assert_eq!(number(&a.1[0]), number(&b.1[0]));
        assert_eq!(answer(&nothing).0, 0, "a pipe is no end of a connection");
        drop(end);
        assert_eq!(serving.join().unwrap().unwrap(), 1);
        drop(lonely);
    }
}
