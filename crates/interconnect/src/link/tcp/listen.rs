//! The head's side: a thread that makes links of connections, so that no handshake holds up whoever uses the links.
//!
//! ```text
//!  connection ──▶ guest ──certificate of a member──▶ arrival ──▶ whoever asks by `take`
//!                   │ ╰──a token's secret─────▶ certificate made, sent; it connects again
//!                   ╰──anything else, or too late──▶ closed
//! ```
//!
//! Guests have proved nothing: there are [`GUESTS_MAX`] of them at most (the oldest goes first), each for [`GUEST_TIME`]
//! and with a few kilobytes. A PU has one link: a new one ends the one before. When the ledger changes, links of PUs that
//! are no longer members end.

use super::Tcp;
use super::authority::{Authority, LEDGER};
use super::guest::{Guest, Step};
use crate::doorbell;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Connections that have proved nothing.
pub const GUESTS_MAX: usize = 32;
/// How long a guest may take.
pub const GUEST_TIME: Duration = Duration::from_secs(5);
/// Links that nobody has taken yet.
const ARRIVALS_MAX: usize = 16;
/// After the process ran out of descriptors, for so long nobody is let in.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// Why the head does not listen.
#[derive(Debug, Error)]
pub enum ListenError {
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the authority's keys cannot be used")]
    Keys(#[from] rustls::Error),
    #[error("cannot watch the ledger, or start a thread")]
    System(#[from] io::Error),
}

/// A link with a PU that has proved to be it.
pub struct Arrival {
    pub pu: u8,
    pub from: SocketAddr,
    pub link: Tcp,
}

/// A place where members connect. Ends, and its guests with it, when dropped; links go on.
pub struct Listener {
    address: SocketAddr,
    arrivals: Receiver<Arrival>,
    bell: OwnedFd,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on this address; port 0 is any that is free.
    pub fn bind(address: SocketAddr, authority: Authority) -> Result<Self, ListenError> {
        let config = Arc::new(authority.config()?);
        let bound = |source| ListenError::Bind { address, source };
        let socket = TcpListener::bind(address).map_err(bound)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let watch = watch.map_err(io::Error::from)?;
        inotify::add_watch(&watch, authority.folder(), inotify::WatchFlags::MOVED_TO).map_err(io::Error::from)?;
        let (bell, stop) = (doorbell::event()?, doorbell::event()?);
        let (sender, arrivals) = sync_channel(ARRIVALS_MAX);
        let reception = Reception {
            socket,
            authority,
            config,
            watch,
            stop: stop.try_clone()?,
            bell: bell.try_clone()?,
            arrivals: sender,
            guests: Vec::new(),
            live: HashMap::new(),
            closed_until: None,
        };
        let thread = std::thread::Builder::new().name("link-listen".into()).spawn(move || reception.run())?;
        Ok(Self { address, arrivals, bell, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Readable when there may be an arrival.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The next link that was made. Where there is none, the descriptor is quiet until there is.
    pub fn take(&mut self) -> Option<Arrival> {
        doorbell::hush(&self.bell);
        let arrival = self.arrivals.try_recv().ok();
        if arrival.is_some() {
            // There may be more: the descriptor says so until this finds nothing.
            doorbell::ring(&self.bell);
        }
        arrival
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        doorbell::ring(&self.stop);
        if let Some(thread) = self.thread.take() {
            // A reception that panicked has let its guests go as well.
            let _ = thread.join();
        }
    }
}

/// A link that was made, as far as the reception can end it.
struct Live {
    certificate: Vec<u8>,
    socket: TcpStream,
}

impl Live {
    /// Ends the link, whoever uses it.
    fn end(self) {
        // One that is over already needs no end.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The thread's own.
struct Reception {
    socket: TcpListener,
    authority: Authority,
    config: Arc<ServerConfig>,
    watch: OwnedFd,
    stop: OwnedFd,
    bell: OwnedFd,
    arrivals: SyncSender<Arrival>,
    guests: Vec<Guest>,
    live: HashMap<u8, Live>,
    closed_until: Option<Instant>,
}

/// What the thread woke up for.
struct Ready {
    stop: bool,
    ledger: bool,
    socket: bool,
    over: Vec<u8>,
}

impl Reception {
    fn run(mut self) {
        loop {
            let ready = self.wait();
            if ready.stop {
                return;
            }
            ready.over.iter().for_each(|pu| drop(self.live.remove(pu)));
            if ready.ledger {
                self.reread();
            }
            if ready.socket {
                self.accept();
            }
            self.attend();
        }
    }

    fn wait(&self) -> Ready {
        let now = Instant::now();
        let open = self.closed_until.is_none_or(|until| until <= now);
        let listens = if open { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.watch, PollFlags::IN),
            PollFd::new(&self.socket, listens),
        ];
        let pus: Vec<u8> = self.live.keys().copied().collect();
        // Without flags: only that a link is over at both ends.
        fds.extend(pus.iter().map(|pu| PollFd::new(&self.live[pu].socket, PollFlags::empty())));
        fds.extend(self.guests.iter().map(|guest| PollFd::from_borrowed_fd(guest.poll_fd(), guest.wants())));
        let until = self.guests.iter().map(Guest::deadline).chain(self.closed_until.filter(|_| !open)).min();
        let timeout = until.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        // Interrupted, or out of kernel memory: looks at everything.
        let _ = poll(&mut fds, timeout.and_then(|t| t.try_into().ok()).as_ref());
        let is_ready = |at: usize| !fds[at].revents().is_empty();
        let over = pus.iter().enumerate().filter(|(at, _)| is_ready(3 + at)).map(|(_, pu)| *pu).collect();
        Ready { stop: is_ready(0), ledger: is_ready(1), socket: is_ready(2), over }
    }

    /// Ends the links of whoever is no longer a member. If the ledger cannot be read, nobody is.
    fn reread(&mut self) {
        let mut space = [MaybeUninit::uninit(); 2048];
        let mut events = inotify::Reader::new(&self.watch, &mut space);
        let mut changed = false;
        while let Ok(event) = events.next() {
            changed |= event.file_name().is_none_or(|name| name.to_bytes() == LEDGER.as_bytes());
        }
        if changed {
            let authority = &self.authority;
            let gone = |pu: &u8, live: &mut Live| authority.member(&live.certificate).ok().flatten() != Some(*pu);
            self.live.extract_if(gone).for_each(|(_, live)| live.end());
        }
    }

    fn accept(&mut self) {
        loop {
            match self.socket.accept() {
                Ok((socket, from)) => self.admit(socket, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    self.closed_until = Some(Instant::now() + OUT_OF_FILES);
                    break;
                }
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, from: SocketAddr) {
        if self.guests.len() >= GUESTS_MAX {
            self.guests.remove(0);
        }
        // A connection that is over already, or one that TLS cannot serve, is nobody's loss.
        self.guests.extend(Guest::new(socket, from, self.config.clone(), Instant::now() + GUEST_TIME).ok());
    }

    fn attend(&mut self) {
        let now = Instant::now();
        self.closed_until = self.closed_until.filter(|until| *until > now);
        for mut guest in std::mem::take(&mut self.guests) {
            match guest.step(&self.authority) {
                Step::Wait if guest.deadline() > now => self.guests.push(guest),
                Step::Wait | Step::Over => {}
                Step::Member { pu, certificate } => self.arrive(guest, pu, certificate),
            }
        }
    }

    fn arrive(&mut self, guest: Guest, pu: u8, certificate: Vec<u8>) {
        let Ok((link, socket, from)) = guest.into_link() else {
            return;
        };
        if let Some(before) = self.live.insert(pu, Live { certificate, socket }) {
            before.end();
        }
        // Nobody takes links: this one ends, and its member tries again.
        if self.arrivals.try_send(Arrival { pu, from, link }).is_ok() {
            doorbell::ring(&self.bell);
        }
    }
}
