//! By what others wake this process: a pipe for each epoll set, and for each thread that waits for one connection.
//!
//! A bell's reading end is in an epoll set, by edges: it is heard by whatever waits for that set, and need not be read but when many
//! have come. Who is to be woken by which bell, each connection's receiver says; one that the other end was not given is replaced by
//! a byte over TCP. A forked child has no bells until it makes its own.

use crate::{kernel, member, real, slot};
use libc::{c_int, epoll_event};
use socket::bells;
use socket::family::Family;
use socket::layout::SETS;
use socket::lock::{Held, Lock};
use socket::migration::set_of;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};

/// What epoll says of a bell: no program's data is the address of this.
static MARK: u8 = 0;
/// Rings after which a pipe is emptied: far fewer than it holds.
const MANY: u32 = 4096;
const _: () = assert!(SETS == 64);

/// A bell of this process.
#[derive(Debug)]
pub struct Bell {
    /// Never 0, and never used again.
    number: u64,
    process: u32,
    ear: RawFd,
    pipe: RawFd,
    heard: Cell<u32>,
}

// SAFETY: the count alone is changed, by who has the set that the bell is of, or the thread.
unsafe impl Send for Bell {}

static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn is_mark(event: &epoll_event) -> bool {
    event.u64 == mark() || member::ears::is_mark(event)
}

fn mark() -> u64 {
    std::ptr::from_ref(&MARK) as u64
}

/// Which of the numbers of sets are taken, by this process and those that it has been forked from or has forked: they share
/// memory in which a set has the word of its number.
fn taken() -> Option<&'static AtomicU64> {
    static TAKEN: OnceLock<Option<Family<AtomicU64>>> = OnceLock::new();
    // SAFETY: of zeroes there is an atomic.
    TAKEN.get_or_init(|| unsafe { Family::zeroed() }.ok()).as_deref()
}

/// A number that no other set has, from 1 on; 0: there is none left.
fn take_number() -> u64 {
    let Some(taken) = taken() else { return 0 };
    let next = |taken: u64| (taken != u64::MAX).then(|| taken | 1 | (taken | 1).wrapping_add(1));
    let before = taken.fetch_update(Relaxed, Relaxed, next);
    before.map_or(0, |before| u64::from((before | 1).trailing_ones())) % SETS as u64
}

impl Bell {
    /// One whose reading end is in this set, which is the program's.
    pub fn in_set(set: RawFd) -> Option<Self> {
        Self::new(set, take_number())
    }

    fn new(set: RawFd, of: u64) -> Option<Self> {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (ear, pipe) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let [ear, pipe] = [ear, pipe].map(|end| member::raised(end).into_raw_fd());
        [ear, pipe].into_iter().for_each(member::protect);
        let (number, process) = (NEXT.fetch_add(1, Relaxed) * SETS as u64 + of, slot::process());
        let bell = Self { number, process, ear, pipe, heard: Cell::new(0) };
        let mut event = epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: mark() };
        // SAFETY: one structure of this frame.
        let added = unsafe { real::epoll_ctl(set, libc::EPOLL_CTL_ADD, ear, &mut event) };
        (added == 0).then(|| {
            member::ears::hear_in(set);
            bell
        })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// Not so in a child that has it from its parent.
    pub fn is_own(&self) -> bool {
        self.process == slot::process()
    }

    /// What another process is to be given.
    pub fn pipe(&self) -> BorrowedFd<'_> {
        // SAFETY: open for as long as the bell.
        unsafe { BorrowedFd::borrow_raw(self.pipe) }
    }

    /// It has rung.
    pub fn hear(&self) {
        self.heard.set(self.heard.get() + 1);
        if self.heard.get() == MANY {
            self.heard.set(0);
            kernel::drain(self.ear);
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let of = set_of(self.number);
        if let (true, Some(taken)) = (of > 0 && self.is_own(), taken()) {
            taken.fetch_and(!(1 << of), Relaxed);
        }
        for end in [self.ear, self.pipe] {
            member::unprotect(end);
            // SAFETY: this library's, and nobody uses it any more.
            unsafe { real::close(end) };
        }
    }
}

/// A pipe, by what the kernel says of it, and an end of it.
type Known = ((u64, u64), Weak<OwnedFd>);

/// Other processes' bells: connections share them.
static OTHERS: Lock<Vec<Known>> = Lock::new(Vec::new());

/// Before a fork: no other thread is at work here, and numbers of sets are shared with the child.
pub fn hold() {
    if crate::env::is_on() {
        taken();
    }
    let _until_released = ManuallyDrop::new(others());
}

/// After it, in the parent and in the child.
pub fn release() {
    OTHERS.release();
}

/// In the child: what it numbers from now on, its parent does not.
pub fn forked() {
    NEXT.store(u64::from(std::process::id()) << 32, Relaxed);
}

fn others() -> Held<'static, Vec<Known>> {
    OTHERS.lock()
}

/// A bell that another process has given.
pub fn of_another(pipe: &OwnedFd) -> Option<Arc<OwnedFd>> {
    let stat = rustix::fs::fstat(pipe).ok()?;
    let identity = (stat.st_dev, stat.st_ino);
    let mut others = others();
    let known = others.iter().find(|(pipe, _)| *pipe == identity);
    if let Some(bell) = known.and_then(|(_, bell)| bell.upgrade()) {
        return Some(bell);
    }
    let bell = Arc::new(member::raised(bells::reopened(pipe).ok()?));
    others.retain(|(_, bell)| bell.strong_count() > 0);
    others.push((identity, Arc::downgrade(&bell)));
    Some(bell)
}

/// Where a thread waits for one connection: its bell, and the connection's socket.
struct Couch {
    set: OwnedFd,
    bell: Bell,
    /// A socket, and the number by which it is told from others that have had this descriptor.
    watched: Cell<(RawFd, u64)>,
}

/// A thread's, and the process that has made it, or could not.
type Place = (u32, Option<Rc<Couch>>);

thread_local! {
    static MINE: RefCell<Place> = const { RefCell::new((0, None)) };
}

/// Of this thread, unless it ends. A child has what its parent has, and makes its own. (A signal's handler may come in between.)
fn couch<T>(act: impl FnOnce(&Couch) -> T) -> Option<T> {
    let mine = |place: &RefCell<Place>| {
        let mut place = place.try_borrow_mut().ok()?;
        let process = slot::process();
        if place.0 != process {
            *place = (process, Couch::new().map(Rc::new));
        }
        place.1.clone()
    };
    MINE.try_with(mine).ok().flatten().map(|couch| act(&couch))
}

impl Couch {
    fn new() -> Option<Self> {
        let set = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).ok()?;
        let set = member::raised(set);
        member::protect(set.as_raw_fd());
        // No set of the program's: who has it is always rung for.
        let bell = Bell::new(set.as_raw_fd(), 0)?;
        Some(Self { set, bell, watched: Cell::new((-1, 0)) })
    }

    /// Watches this socket, and no other. None: not possible; else whether it did so before.
    fn watch(&self, socket: (RawFd, u64)) -> Option<bool> {
        let before = self.watched.get();
        if before == socket {
            return Some(true);
        }
        if before.0 >= 0 {
            self.change(libc::EPOLL_CTL_DEL, before.0);
        }
        self.watched.set((-1, 0));
        self.change(libc::EPOLL_CTL_ADD, socket.0).then(|| {
            self.watched.set(socket);
            false
        })
    }

    /// Watches no socket any more: what comes to one would wake who waits for others.
    fn forget(&self) {
        let (fd, _) = self.watched.replace((-1, 0));
        if fd >= 0 {
            self.change(libc::EPOLL_CTL_DEL, fd);
        }
    }

    /// Looks what has come, waiting for it or not: the events of a socket that is watched, and how many there were in all.
    fn listen(&self, timeout: c_int) -> (c_int, bool) {
        let mut events = [epoll_event { events: 0, u64: 0 }; 3];
        // SAFETY: an array of this frame.
        let found = unsafe { real::epoll_wait(self.set.as_raw_fd(), events.as_mut_ptr(), 3, timeout) };
        let events = &events[..found.max(0) as usize];
        // All of them: a broker's call is heard by that.
        if events.iter().filter(|event| is_mark(event)).count() > 0 {
            self.bell.hear();
        }
        (found, events.iter().any(|event| !is_mark(event)))
    }

    fn change(&self, what: c_int, fd: RawFd) -> bool {
        let events = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = epoll_event { events, u64: 0 };
        // SAFETY: one structure of this frame.
        unsafe { real::epoll_ctl(self.set.as_raw_fd(), what, fd, &mut event) == 0 }
    }
}

impl Drop for Couch {
    fn drop(&mut self) {
        member::unprotect(self.set.as_raw_fd());
    }
}

/// The number of this thread's bell, and the bell for who is to be given it.
pub fn of_thread<T>(act: impl FnOnce(u64, BorrowedFd<'_>) -> T) -> Option<T> {
    couch(|couch| act(couch.bell.number(), couch.bell.pipe()))
}

/// Whether this thread hears of whatever comes to this socket from now on, and did so before.
pub fn hears(socket: (RawFd, u64)) -> bool {
    couch(|couch| couch.watched.get() == socket).unwrap_or(false)
}

/// What has ended a wait.
pub enum Woken {
    /// Something has come to the socket.
    Event,
    /// The bell, or nothing that is known.
    Bell,
    Fault,
}

/// Waits for what comes to a socket, or for this thread's bell. None: not possible.
pub fn wait(socket: (RawFd, u64)) -> Option<Woken> {
    couch(|couch| {
        if !couch.watch(socket)? {
            // What came before is said at once.
            return Some(Woken::Event);
        }
        Some(match couch.listen(-1) {
            (..0, _) => Woken::Fault,
            (_, true) => Woken::Event,
            _ => Woken::Bell,
        })
    })
    .flatten()
}

/// The number of this thread's bell, and the descriptor by which it is heard, and a broker's call, among others that are polled.
pub fn beside() -> Option<(u64, RawFd)> {
    couch(|couch| {
        couch.forget();
        (couch.bell.number(), couch.set.as_raw_fd())
    })
}

/// That descriptor can be read: until something else comes, it cannot any more.
pub fn heard_beside() {
    couch(|couch| couch.listen(0));
}

/// Whether a call that a signal has interrupted is begun anew: so it is if all of the program's handlers say so.
pub fn restarts() -> bool {
    (1..=64).all(|signal| {
        // SAFETY: zeroes are an action; asked for only.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: one structure of this frame.
        let known = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } == 0;
        let plain = matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        !known || plain || action.sa_flags & libc::SA_RESTART != 0
    })
}
