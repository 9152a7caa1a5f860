//! Receiving on a connection that has memory, or may get some.
//!
//! What there is comes from where the sender has put it, in order. When there is nothing, the kernel is asked: its answer (not
//! yet, the end, a reset, a time-out, a signal) is the answer, and a call that waits, waits there.

use crate::bell::{self, Woken};
use crate::kernel::{self, Queue};
use crate::look::Wait;
use crate::slot::{Entry, Slot, state};
use crate::{member, offer, real, send, turn};
use socket::migration::{Incoming, Stretch};
use socket::parts::Part;
use socket::stream::News;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

/// A call that receives into `parts`; `original` makes it as the program did.
pub fn receive(entry: &Entry, fd: RawFd, parts: &[Part], flags: i32, original: impl Fn() -> isize) -> isize {
    let room: usize = parts.iter().map(|part| part.len).sum();
    if flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0 || room == 0 {
        return original();
    }
    if entry.state() != state::ATTACHED {
        offer::step(entry, fd, false);
        if entry.impeded.load(Relaxed) && flags & libc::MSG_DONTWAIT == 0 && awaits(fd) < 0 {
            return -1;
        }
        let counts = flags & libc::MSG_PEEK == 0;
        if let Ok(got) = entry.counted(&original, &entry.tcp_in, counts) {
            return got;
        }
    }
    entry.meets();
    if flags & libc::MSG_DONTWAIT == 0 && !entry.nonblocking.load(Relaxed) && !entry.watched.load(Relaxed) {
        // It waits in this call.
        entry.watched.store(true, Relaxed);
    }
    Call { entry, fd, room, flags, got: 0, wait: None, news: None, glanced: false }.run(parts)
}

/// Waits for a byte, or the end, as a call that receives does, and takes nothing.
fn awaits(fd: RawFd) -> isize {
    let mut byte = 0u8;
    let place: *mut u8 = &mut byte;
    // SAFETY: one byte of this frame. The program's own call would wait here, with the same time-out and for the same signals.
    unsafe { real::recv(fd, place.cast(), 1, libc::MSG_PEEK) }
}

/// One call on its way.
struct Call<'a> {
    entry: &'a Entry,
    fd: RawFd,
    room: usize,
    flags: i32,
    got: usize,
    wait: Option<Wait>,
    /// What is to be waited for.
    news: Option<News>,
    /// The first looks have led to nothing.
    glanced: bool,
}

/// What one look has come to.
enum Step {
    Again,
    /// The call is over, with this answer.
    Done(isize),
    /// Memory is empty; the kernel was not asked.
    Empty,
    /// Nothing is there, the kernel says so.
    Nothing,
    /// Bytes that nobody has spoken of.
    Foreign,
}

impl Call<'_> {
    fn run(mut self, parts: &[Part]) -> isize {
        loop {
            let step = match self.step(parts) {
                Step::Empty if self.is_enough() => Step::Done(self.got as isize),
                // The kernel is asked when looking has led to nothing.
                Step::Empty if self.may_wait() && self.look() => Step::Again,
                // This thread will hear of whatever comes to the socket.
                Step::Empty if self.may_wait() && self.hears() => Step::Nothing,
                Step::Empty => self.quiet(parts),
                step => step,
            };
            match step {
                Step::Again | Step::Foreign | Step::Empty => {}
                Step::Done(answer) => return self.finish(answer),
                Step::Nothing if self.is_enough() => {
                    let got = self.got as isize;
                    return self.finish(got);
                }
                Step::Nothing => {
                    if let Some(answer) = self.sleep() {
                        return self.finish(answer);
                    }
                }
            }
        }
    }

    /// Whether the call need not go on where there is nothing.
    fn is_enough(&self) -> bool {
        self.got > 0 && self.flags & libc::MSG_WAITALL == 0
    }

    fn hears(&self) -> bool {
        let entry = self.entry;
        !entry.eventful.load(Relaxed) && entry.fault.load(Relaxed) == 0 && bell::hears(self.socket())
    }

    fn socket(&self) -> (RawFd, u64) {
        (self.fd, self.entry.number.load(Relaxed))
    }

    /// Whether the program lets it wait, as far as that was seen.
    fn may_wait(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT == 0 && !self.entry.nonblocking.load(Relaxed)
    }

    fn finish(&mut self, answer: isize) -> isize {
        if let Some(wait) = self.wait.take() {
            let error = real::errno();
            wait.end();
            real::set_errno(error);
        }
        answer
    }

    fn peeks(&self) -> bool {
        self.flags & libc::MSG_PEEK != 0
    }

    /// Looks once, and takes what is there.
    fn step(&mut self, parts: &[Part]) -> Step {
        let mut receiving = self.entry.receiving.lock();
        let Some(incoming) = receiving.as_mut() else { return Step::Done(self.fault(libc::ECONNRESET)) };
        match incoming.look() {
            Err(_) => Step::Done(self.fault(libc::ECONNRESET)),
            Ok(Stretch::Memory { ready: 0, then: None }) if incoming.bells() == 0 => {
                self.entry.doze_with(incoming);
                self.news = Some(incoming.news());
                Step::Empty
            }
            Ok(Stretch::Memory { ready: 0, .. }) if strip(self.entry, self.fd, incoming) > 0 => {
                drop(receiving);
                send::serve_recall(self.entry, self.fd);
                Step::Again
            }
            Ok(Stretch::Memory { ready: 0, .. }) => Step::Empty,
            Ok(Stretch::Memory { ready, then }) => {
                // SAFETY: the program's buffers.
                self.got += unsafe { incoming.take(ready, parts, self.got, self.peeks()) };
                self.entry.heard.store(true, Relaxed);
                if self.peeks() {
                    if then.is_some() && self.got < self.room {
                        strip(self.entry, self.fd, incoming);
                        // Bells that are on their way yet would be taken for what is behind them.
                        if incoming.bells() == 0 {
                            self.peek_tcp(parts, usize::MAX);
                        }
                    }
                    return Step::Done(self.got as isize);
                }
                let more = self.vigil(incoming);
                // Nothing may be left that is there: whoever waits for edges takes a call that does not fill its room for the last.
                if (more || then.is_some()) && self.got < self.room { Step::Again } else { self.so_far() }
            }
            Ok(Stretch::Tcp { left }) => self.take_tcp(incoming, parts, left),
        }
    }

    /// Over, unless the call is to fill all of its room.
    fn so_far(&self) -> Step {
        if self.got == self.room || self.flags & libc::MSG_WAITALL == 0 {
            Step::Done(self.got as isize)
        } else {
            Step::Again
        }
    }

    /// When memory is empty, its bells have been heard: left in the socket, they would reset the connection at its end. And those
    /// who wait in ways that are not seen here are to find the kernel's socket as this one is: readable, or not.
    /// Whether something has come meanwhile, for which nobody was rung.
    fn vigil(&self, incoming: &mut Incoming) -> bool {
        if incoming.has_bytes() {
            return true;
        }
        let (bells, unseen) = (strip(self.entry, self.fd, incoming), self.entry.is_unseen());
        if unseen {
            incoming.set_bell(0);
            incoming.nap();
        }
        (bells > 0 || unseen) && incoming.has_bytes()
    }

    /// Memory is empty: what the kernel says.
    fn quiet(&mut self, parts: &[Part]) -> Step {
        let answer = match self.entry.receiving.lock().as_mut() {
            Some(incoming) => self.ask(incoming),
            None => Step::Again,
        };
        match answer {
            Step::Foreign => self.foreign(parts),
            other => other,
        }
    }

    /// Bytes that the other program has sent by a way that its library does not see: they come when they are found, uncounted.
    fn foreign(&mut self, parts: &[Part]) -> Step {
        let got = self.ask_kernel(parts, usize::MAX, self.flags & libc::MSG_PEEK | libc::MSG_DONTWAIT);
        self.got += got.max(0) as usize;
        if got > 0 { Step::Done(self.got as isize) } else { Step::Again }
    }

    /// What the kernel says, now that nothing is there.
    fn ask(&mut self, incoming: &mut Incoming) -> Step {
        if let Some(answer) = self.told() {
            return answer;
        }
        if self.is_told_of(incoming) {
            return Step::Nothing;
        }
        let front = kept_front(self.entry, self.fd);
        // What was put into memory before the end came is there by now.
        let more = incoming.has_bytes();
        match front {
            Queue::Fault(_) => Step::Again,
            Queue::Some if is_foreign(incoming) => Step::Foreign,
            Queue::Some => Step::Again,
            _ if more => Step::Again,
            Queue::Empty => Step::Nothing,
            Queue::End
                if matches!(
                    incoming.look(),
                    Ok(Stretch::Tcp { left: None } | Stretch::Memory { ready: 0, then: None })
                ) =>
            {
                Step::Done(self.got as isize)
            }
            Queue::End => Step::Again,
        }
    }

    /// Whether the program's set would have told of whatever the kernel has to say, so that it need not be asked: but for each so-many-th
    /// call. (The end of a socket that is full of bells, which nobody takes meanwhile, would be behind them.)
    fn is_told_of(&self, incoming: &mut Incoming) -> bool {
        const ASKED: u32 = 16;
        let entry = self.entry;
        let told = !self.may_wait()
            && entry.told.load(Relaxed)
            && !entry.eventful.load(Relaxed)
            && !entry.is_unseen()
            && matches!(incoming.look(), Ok(Stretch::Memory { ready: 0, then: None }))
            && incoming.bells() == 0;
        told && !entry.unasked.fetch_add(1, Relaxed).is_multiple_of(ASKED)
    }

    /// The fault that the kernel has spoken of before, once all is taken that came before it.
    fn told(&mut self) -> Option<Step> {
        if self.entry.fault.load(Relaxed) == 0 {
            return None;
        }
        if self.got > 0 {
            return Some(Step::Done(self.got as isize));
        }
        let error = self.entry.fault.swap(0, Relaxed);
        Some(Step::Done(self.fault(error)))
    }

    fn fault(&self, error: i32) -> isize {
        real::set_errno(error);
        if self.got > 0 { self.got as isize } else { -1 }
    }

    /// The next bytes are TCP's.
    fn take_tcp(&mut self, incoming: &mut Incoming, parts: &[Part], left: Option<u64>) -> Step {
        let queued = kernel::queued(self.fd);
        let most = match (queued, left) {
            // As the kernel has it, whose calls do not take what is before an urgent byte with what is behind it.
            (0, None) if kernel::is_at_mark(self.fd) => match self.got {
                0 => usize::MAX as u64,
                got => return Step::Done(got as isize),
            },
            (0, _) => return self.ask_tcp(incoming),
            (_, Some(left)) => queued.min(left),
            // The look comes after the question: what is queued is of this stretch unless that has ended.
            (_, None) => match incoming.look() {
                Ok(Stretch::Tcp { left: None }) => queued,
                _ => return Step::Again,
            },
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if self.peeks() {
            self.peek_tcp(parts, most);
            let beyond = if left == Some(most as u64) { incoming.beyond() } else { 0 };
            // SAFETY: the program's buffers.
            self.got += unsafe { incoming.take(beyond, parts, self.got, true) };
            return Step::Done(self.got as isize);
        }
        let got = self.ask_kernel(parts, most, libc::MSG_DONTWAIT);
        if got > 0 {
            incoming.took(got as u64);
            self.got += got as usize;
        }
        match got {
            1.. if left == Some(got as u64) && self.got < self.room => Step::Again,
            1.. => self.so_far(),
            // Somebody else has been quicker.
            _ => self.ask_tcp(incoming),
        }
    }

    fn ask_tcp(&mut self, incoming: &mut Incoming) -> Step {
        match self.ask(incoming) {
            // Something has come since.
            Step::Again if self.got > 0 => Step::Done(self.got as isize),
            other => other,
        }
    }

    fn peek_tcp(&mut self, parts: &[Part], most: usize) {
        let got = self.ask_kernel(parts, most, libc::MSG_DONTWAIT | libc::MSG_PEEK);
        self.got += got.max(0) as usize;
    }

    /// Receives from the kernel behind what was got, `most` bytes at most.
    fn ask_kernel(&self, parts: &[Part], most: usize, flags: i32) -> isize {
        let drops = self.flags & libc::MSG_TRUNC;
        kernel::with_rest(parts, self.got, most, |message| {
            // SAFETY: the parts are the caller's buffers.
            unsafe { real::recvmsg(self.fd, message, flags | drops) }
        })
    }

    /// Nothing is there: an answer, or something has come.
    fn sleep(&mut self) -> Option<isize> {
        let free = self.entry.waits_freely(self.fd);
        if self.flags & libc::MSG_DONTWAIT != 0 || self.entry.nonblocking.load(Relaxed) {
            if self.entry.is_unseen() {
                self.entry.nap();
            }
            return if self.entry.has_bytes() { None } else { Some(self.fault(libc::EAGAIN)) };
        }
        self.entry.watched.store(true, Relaxed);
        member::heed();
        // A time-out is the kernel's to keep, where the program has set one.
        let bell = if free { bell::of_thread(|number, _| number) } else { None };
        let processor = kernel::processor();
        if self.entry.lie(bell.unwrap_or(0)) {
            self.entry.woke();
            return None;
        }
        if let Some(wait) = &mut self.wait {
            wait.sleep();
        }
        let woken = bell.and_then(|_| bell::wait(self.socket()));
        turn::rises(processor);
        let answer = match woken {
            Some(Woken::Bell) => None,
            Some(Woken::Event) => {
                self.entry.eventful.store(true, Relaxed);
                None
            }
            // Whether calls are begun anew after a signal depends on the handler.
            Some(Woken::Fault) if bell::restarts() => None,
            Some(Woken::Fault) => Some(self.fault(libc::EINTR)),
            None => self.sleep_in_tcp(),
        };
        if let (Some(wait), Some(news)) = (&mut self.wait, self.news) {
            // SAFETY: the memory beneath a connection is there while a thread is at work on it, as this one is.
            wait.wake(unsafe { news.sent_at() });
        }
        self.entry.woke();
        let came = answer.is_some() && self.entry.receiving.lock().as_mut().is_some_and(Incoming::has_bytes);
        if came { None } else { answer }
    }

    /// Waits where the program's own call would.
    fn sleep_in_tcp(&mut self) -> Option<isize> {
        // The bell may be another's by now: bytes over TCP are heard in any case.
        self.entry.nap();
        if self.entry.has_bytes() {
            return None;
        }
        if awaits(self.fd) >= 0 {
            // A byte, or the end: the next look tells which, and of what.
            return None;
        }
        let error = real::errno();
        if matches!(error, libc::EAGAIN | libc::EINTR) {
            return Some(self.fault(error));
        }
        self.entry.fault.store(error, Relaxed);
        None
    }

    /// Looks for a while: whether something has come.
    fn look(&mut self) -> bool {
        let Some(news) = self.news else { return false };
        member::heed_at_times();
        // SAFETY: the memory beneath a connection is there while a thread is at work on it, as this one is.
        let there = || unsafe { news.is_there() };
        let glances = !self.glanced && !self.entry.together.load(Relaxed) && Wait::is_short();
        self.glanced = true;
        if glances && Wait::glance(1, there) {
            return true;
        }
        let together = self.entry.shares_processor();
        let (taken, long) = match self.entry.sending.lock().as_mut() {
            Some(out) => (Some(out.taken()), out.is_long()),
            None => (None, false),
        };
        // SAFETY: as above.
        let work = || taken.map_or(0, |taken| unsafe { taken.number() });
        let wait = self.wait.get_or_insert_with(Wait::begin);
        let budget = if long { Wait::long_budget(together) } else { Wait::budget(together) };
        // SAFETY: as above.
        let come = || there().then(|| unsafe { news.sent_at() });
        wait.look(budget, 1, work, there) || Wait::give_turn(together, come)
    }
}

/// What lies in the socket, and whether the kernel has something to say of it. That is asked after it was said not to have: of what it
/// tells another thread meanwhile, the next call hears.
fn front(entry: &Slot, fd: RawFd) -> Queue {
    entry.eventful.store(false, Relaxed);
    let front = kernel::front(fd);
    if front != Queue::Empty {
        entry.eventful.store(true, Relaxed);
    }
    front
}

/// The same; a fault, of which the kernel speaks once, is kept for the call that is to tell it.
fn kept_front(entry: &Slot, fd: RawFd) -> Queue {
    let front = front(entry, fd);
    if let Queue::Fault(error) = front {
        entry.fault.store(error, Relaxed);
    }
    front
}

/// Whether the bytes that lie in the socket are such as nobody has spoken of, while the stream goes through memory.
fn is_foreign(incoming: &mut Incoming) -> bool {
    matches!(incoming.look(), Ok(Stretch::Memory { ready: 0, then: None })) && incoming.bells() == 0
}

/// Throws the bells away that lie in the socket: how many.
pub fn strip(entry: &Slot, fd: RawFd, incoming: &mut Incoming) -> u64 {
    let stripped = kernel::discard(fd, incoming.bells()).unwrap_or_else(|error| {
        // It says so once.
        entry.fault.store(error, Relaxed);
        0
    });
    if stripped > 0 {
        incoming.took(stripped);
        entry.heard_by(incoming);
    }
    stripped
}

/// Whether a socket that the kernel calls readable is so for the program: bells are thrown away.
pub fn is_readable(entry: &Slot, fd: RawFd) -> bool {
    let mut receiving = entry.receiving.lock();
    let Some(incoming) = receiving.as_mut() else { return true };
    for _ in 0..64 {
        match incoming.look() {
            Ok(Stretch::Memory { ready: 0, .. }) => {
                if strip(entry, fd, incoming) > 0 {
                    continue;
                }
                match kept_front(entry, fd) {
                    Queue::Some if !is_foreign(incoming) => continue,
                    front => return front != Queue::Empty,
                }
            }
            Ok(Stretch::Tcp { .. }) => return kept_front(entry, fd) != Queue::Empty,
            _ => return true,
        }
    }
    true
}
