//! What is known of each socket, and which descriptor is which.
//!
//! ```text
//!   descriptor ──TABLE──► slot (memory that forked children share: counts, both directions)
//!                         HOLDS (this process: its descriptors of it, and threads at work on it)
//! ```
//!
//! Whoever holds a slot is a bit of its holders: this process and children that it has forked, each under a number that it has among
//! them. One that was killed is found out when another lets go. A slot is made when a program makes or accepts a stream socket, and lives until no process holds it. Until then it counts
//! what goes over TCP each way; that is all that a connection costs which never gets memory.

mod lives;
mod looks;
mod offers;
mod shut;

pub use lives::{depart, start};
pub use looks::{Found, any_attached, given, is_young, seen};
use offers::close_offer;

use crate::member::Held;
use crate::{env, epoll, relatives};
use socket::bells;
use socket::lock::Lock;
use socket::member::Meeting;
use socket::migration::{Incoming, Outgoing, Stretch};
use socket::stream::{Board, News};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

/// Descriptors above this one are left alone.
const DESCRIPTORS: usize = 65_536;
const SLOTS: usize = 16_384;

/// What a connection is going through.
pub mod state {
    /// TCP, counted.
    pub const COUNTED: u32 = 0;
    /// TCP, counted; the broker knows of it.
    pub const OFFERED: u32 = 1;
    /// Somebody is attaching it; for moments.
    pub const ATTACHING: u32 = 2;
    /// It has memory.
    pub const ATTACHED: u32 = 3;
    /// TCP for ever, and nobody counts.
    pub const PLAIN: u32 = 4;
}

/// Both directions of a connection that has memory.
pub struct Slot {
    /// Processes that may have descriptors of it, by their numbers among [`relatives`]; 0: nobody's.
    holders: AtomicU64,
    state: AtomicU32,
    /// Calls that sent or received something.
    pub calls: AtomicU32,
    /// Times that something was sent after something had been received, and what had been then.
    pub turns: AtomicU32,
    turned: AtomicU64,
    /// Threads in the kernel whose call may move bytes that nobody has counted yet.
    moving: AtomicU32,
    /// It could have memory by now, were it not for one of those: who waits for bytes waits before he takes them.
    pub impeded: AtomicBool,
    pub tcp_out: AtomicU64,
    pub tcp_in: AtomicU64,
    /// What the kernel has said of this socket, and the program has yet to be told: an errno.
    pub fault: AtomicI32,
    /// Sides that the program has shut.
    shut: AtomicU32,
    /// Both ends have seen each other in the memory.
    pub met: AtomicBool,
    /// Its program waits in ways that are seen here, so it need not be woken but when it does.
    pub watched: AtomicBool,
    /// Somebody waits for it in ways that are not.
    pub unwatchable: AtomicBool,
    /// Calls on it are not to wait, as far as that was seen: for what need not be exact.
    pub nonblocking: AtomicBool,
    /// Whether that was asked of the kernel, and whether it keeps a time-out, in which case the kernel is to wait.
    pub asked: AtomicBool,
    pub timeout: AtomicBool,
    /// Something was received through memory since something was last sent.
    pub heard: AtomicBool,
    /// Both ends run on one processor, as it was last found.
    pub together: AtomicBool,
    /// The kernel has something to say of this socket, and was not found to have nothing since.
    pub eventful: AtomicBool,
    /// An epoll set of the program's tells it what the kernel has to say of this socket, when it is waited for.
    pub told: AtomicBool,
    /// Calls in which the kernel was not asked, since.
    pub unasked: AtomicU32,
    /// The meeting of its ends, the connection's number in their memory, and behind that in a bit its side.
    meeting: AtomicU64,
    place: AtomicU32,
    /// No other slot has had this number.
    pub number: AtomicU64,
    /// The epoll set that it was put into last, and 1 more.
    pub set: AtomicI32,
    /// Threads that wait for it in the kernel.
    sleepers: AtomicU32,
    /// Held by who has to do with the broker about it.
    pub offering: Lock<()>,
    pub sending: Lock<Option<Outgoing>>,
    pub receiving: Lock<Option<Incoming>>,
}

static TABLE: [AtomicU32; DESCRIPTORS] = [const { AtomicU32::new(0) }; DESCRIPTORS];
static HOLDS: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
/// Connections to the broker of those that are offered, and 1 more.
static OFFERS: [AtomicI32; SLOTS] = [const { AtomicI32::new(0) }; SLOTS];
/// The memories that connections lie in, kept by this process.
static KEPT: [AtomicPtr<Held>; SLOTS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SLOTS];
/// The bells of their other ends, by number, as they were given when they met.
static TOLD: [AtomicPtr<(u64, Arc<OwnedFd>)>; SLOTS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; SLOTS];
static NUMBERS: AtomicU64 = AtomicU64::new(1);
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Connections of this process that have memory.
static ATTACHED: AtomicU32 = AtomicU32::new(0);
/// Connections of this process to which memory was ever given.
static GIVEN: AtomicU32 = AtomicU32::new(0);
/// This process was about to become another program.
static AWAY: AtomicBool = AtomicBool::new(false);
/// Whose descriptors the table speaks of.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// The slots: zeroes are slots that nobody holds.
fn slots() -> Option<&'static [Slot; SLOTS]> {
    static SLAB: OnceLock<usize> = OnceLock::new();
    let base = *SLAB.get_or_init(|| {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), size_of::<[Slot; SLOTS]>(), rights, flags) };
        base.map_or(0, |base| base as usize)
    });
    // SAFETY: the mapping is of this size, is never unmapped, and holds zeroes, of which each slot is valid: its atomics,
    // its locks, which are free, and their values, which `Slot::clear` writes before anybody looks at them.
    (base != 0).then(|| unsafe { &*(base as *const [Slot; SLOTS]) })
}

/// A socket at work: it does not go away meanwhile.
pub struct Entry {
    index: usize,
    slot: &'static Slot,
}

impl std::ops::Deref for Entry {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        self.slot
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let_go(self.index);
    }
}

fn cell(fd: RawFd) -> Option<&'static AtomicU32> {
    TABLE.get(usize::try_from(fd).ok()?)
}

/// Whether a descriptor may have a slot: one look, without holding it.
pub fn is_known(fd: RawFd) -> bool {
    cell(fd).is_some_and(|cell| cell.load(Relaxed) != 0)
}

/// The socket behind a descriptor.
pub fn entry(fd: RawFd) -> Option<Entry> {
    let cell = cell(fd)?;
    loop {
        let value = cell.load(Acquire);
        let index = (value as usize).checked_sub(1)?;
        if AWAY.load(Relaxed) {
            lives::come_back();
        }
        let held = HOLDS[index].fetch_update(AcqRel, Relaxed, |holds| (holds > 0).then_some(holds + 1));
        let entry = held.ok().and_then(|_| Some(Entry { index, slot: &slots()?[index] }));
        // Otherwise it was closed at this moment, and this number may be another socket by now.
        match entry {
            Some(entry) if cell.load(Acquire) == value => return Some(entry),
            _ if cell.load(Acquire) == value => return None,
            _ => {}
        }
    }
}

/// A connection that has memory, or may get some.
pub fn live(fd: RawFd) -> Option<Entry> {
    entry(fd).filter(|entry| entry.state() != state::PLAIN)
}

/// A connection that has memory.
pub fn attached(fd: RawFd) -> Option<Entry> {
    entry(fd).filter(|entry| entry.state() == state::ATTACHED)
}

/// A descriptor that has just been made is a new socket.
pub fn begin(fd: RawFd) {
    let Some(cell) = cell(fd) else { return };
    end(fd);
    if !env::is_on() {
        return;
    }
    let Some(slots) = slots() else { return };
    let first = NEXT.load(Relaxed) as usize;
    let mine = relatives::own();
    let take = |index: &usize| {
        HOLDS[*index].load(Relaxed) == 0 && slots[*index].holders.compare_exchange(0, mine, AcqRel, Relaxed).is_ok()
    };
    let near = (first..first + 1024).map(|index| index % SLOTS).find(take);
    let free = near.or_else(|| {
        sweep(slots);
        (0..SLOTS).find(take)
    });
    let Some(index) = free else { return };
    NEXT.store(index as u32 + 1, Relaxed);
    slots[index].clear();
    HOLDS[index].store(1, Release);
    cell.store(index as u32 + 1, Release);
}

/// Another descriptor of the same socket.
pub fn duplicate(fd: RawFd, new: RawFd) {
    end(new);
    let (Some(entry), Some(cell)) = (entry(fd), cell(new)) else { return };
    HOLDS[entry.index].fetch_add(1, AcqRel);
    cell.store(entry.index as u32 + 1, Release);
}

/// A descriptor is closed, or about to be.
pub fn end(fd: RawFd) {
    let Some(cell) = cell(fd) else { return };
    if cell.load(Relaxed) == 0 || !is_ours() {
        return;
    }
    epoll::left(fd);
    if let Some(index) = (cell.swap(0, AcqRel) as usize).checked_sub(1) {
        let_go(index);
    }
}

/// Whether this descriptor is the last of its socket in this process, and no other process holds it.
pub fn is_last(entry: &Entry) -> bool {
    HOLDS[entry.index].load(Acquire) == 2 && !relatives::any(entry.holders.load(Acquire))
}

/// Not so in a child that borrows this process's memory (vfork): what it closes stays open here.
pub fn is_ours() -> bool {
    let own = std::process::id();
    // Called before this library was told that it is loaded: by nobody's child.
    let _ = PROCESS.compare_exchange(0, own, Relaxed, Relaxed);
    PROCESS.load(Relaxed) == own
}

/// This process's number, but in a child that borrows its parent's memory.
pub fn process() -> u32 {
    PROCESS.load(Relaxed)
}

/// All descriptors from `first` to `last`.
pub fn known(first: u32, last: u32) -> impl Iterator<Item = RawFd> + Clone {
    let last = (last as usize).min(DESCRIPTORS - 1);
    (first as usize..=last).filter(|&fd| TABLE[fd].load(Relaxed) != 0).map(|fd| fd as RawFd)
}

fn let_go(index: usize) {
    if HOLDS[index].fetch_sub(1, AcqRel) > 1 {
        return;
    }
    let Some(slot) = slots().map(|slots| &slots[index]) else { return };
    close_offer(index);
    let share = KEPT[index].swap(std::ptr::null_mut(), AcqRel);
    let told = TOLD[index].swap(std::ptr::null_mut(), AcqRel);
    if !told.is_null() {
        // SAFETY: what `attach` put there; no thread is at work on this slot.
        drop(unsafe { Box::from_raw(told) });
    }
    if leave(slot) {
        if let Some(incoming) = slot.receiving.lock().as_mut() {
            incoming.leave();
        }
        *slot.receiving.lock() = None;
        *slot.sending.lock() = None;
        slot.holders.store(0, Release);
        // The next one that is begun: few slots have memory.
        NEXT.fetch_min(index as u32, Relaxed);
    }
    if !share.is_null() {
        ATTACHED.fetch_sub(1, Relaxed);
        // SAFETY: what `attach` put there. No thread of this process is at work on this slot, nor has a descriptor of it; so
        // nobody uses the ends that lie in this memory, unless another process does, which has it as well.
        drop(unsafe { Arc::from_raw(share) });
    }
}

/// A slot whose last holder is taking it apart.
const CLOSING: u64 = 1 << 62;

/// This process holds a slot no more: whether nobody else does, and this one is to take it apart. At no moment in between is it
/// nobody's: another thread would take it for a new socket.
fn leave(slot: &Slot) -> bool {
    let mine = relatives::own();
    let mut holders = slot.holders.load(Acquire);
    loop {
        let others = holders & !mine;
        let last = others & CLOSING == 0 && !relatives::any(others);
        let next = if last { CLOSING } else { others };
        match slot.holders.compare_exchange(holders, next, AcqRel, Acquire) {
            Ok(_) => return last,
            Err(now) => holders = now,
        }
    }
}

/// Frees the slots that only dead processes held.
fn sweep(slots: &[Slot; SLOTS]) {
    for (index, slot) in slots.iter().enumerate() {
        let holders = slot.holders.load(Acquire);
        let dead = holders != 0 && holders & CLOSING == 0 && HOLDS[index].load(Acquire) == 0;
        if dead && holders & relatives::own() == 0 && !relatives::any(holders) {
            // Its memory was theirs, and is gone with them.
            let _ = slot.holders.compare_exchange(holders, 0, AcqRel, Relaxed);
        }
    }
}

impl Slot {
    /// What it is for a new socket.
    fn clear(&self) {
        for count in [&self.calls, &self.turns, &self.moving, &self.sleepers, &self.unasked, &self.shut] {
            count.store(0, Relaxed);
        }
        for count in [&self.tcp_out, &self.tcp_in, &self.turned] {
            count.store(0, Relaxed);
        }
        for flag in [&self.met, &self.watched, &self.unwatchable, &self.nonblocking] {
            flag.store(false, Relaxed);
        }
        self.fault.store(0, Relaxed);
        for flag in [&self.asked, &self.timeout, &self.heard, &self.together, &self.impeded, &self.told] {
            flag.store(false, Relaxed);
        }
        self.eventful.store(true, Relaxed);
        self.number.store(NUMBERS.fetch_add(1, Relaxed), Relaxed);
        self.set.store(0, Relaxed);
        // What lies there was taken apart, or is of processes that are gone: it is not to be dropped here.
        // SAFETY: nobody else has this slot yet, and what a dead process has left there needs no drop.
        unsafe {
            std::ptr::write(std::ptr::addr_of!(self.offering).cast_mut(), Lock::new(()));
            std::ptr::write(std::ptr::addr_of!(self.sending).cast_mut(), Lock::new(None));
            std::ptr::write(std::ptr::addr_of!(self.receiving).cast_mut(), Lock::new(None));
        }
        self.state.store(state::COUNTED, Release);
    }

    /// Another process holds it.
    fn join(&self, holder: u64) {
        self.holders.fetch_or(holder, AcqRel);
    }

    /// A thread is about to wait for it in the kernel, where it can be woken by the bell of this number, or for 0 by a byte over TCP
    /// alone: whether something is there already. If several sleep, all of them wait for bytes over TCP as well.
    pub fn lie(&self, bell: u64) -> bool {
        let mut receiving = self.receiving.lock();
        let others = self.sleepers.fetch_add(1, Relaxed) > 0;
        let Some(incoming) = receiving.as_mut() else { return true };
        // A nap that was rung for is over, also for those who sleep on: each is rung for once.
        incoming.wake();
        incoming.set_bell(if others { 0 } else { bell });
        incoming.shares_processor(crate::kernel::processor());
        incoming.nap();
        incoming.has_bytes()
    }

    /// It does no more; or a thread that began to before there was memory does not.
    pub fn woke(&self) {
        let _ = self.sleepers.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
    }

    /// Somebody looks: no bell is wanted, unless others sleep.
    pub fn doze(&self) {
        if !self.is_unseen()
            && let Some(incoming) = self.receiving.lock().as_mut()
        {
            self.doze_with(incoming);
        }
    }

    /// As [`Slot::doze`], by who holds what receives.
    pub fn doze_with(&self, incoming: &mut Incoming) {
        if !self.is_unseen() && self.sleepers.load(Relaxed) == 0 {
            incoming.wake();
        }
    }

    /// A bell was heard over TCP. Whoever sleeps on is to be rung for anew.
    pub fn heard_by(&self, incoming: &mut Incoming) {
        if self.sleepers.load(Relaxed) > 0 {
            incoming.nap_again();
        } else {
            incoming.wake();
        }
    }

    /// Where its sender says that something has come.
    pub fn board(&self) -> Option<Board> {
        self.receiving.lock().as_ref().and_then(Incoming::board)
    }

    /// Whoever waits for it is not seen: a byte over TCP wakes him.
    pub fn nap(&self) {
        if let Some(incoming) = self.receiving.lock().as_mut() {
            incoming.set_bell(0);
            incoming.nap();
        }
    }

    /// Whether calls that receive wait, and what bounds that is nothing but the program's signals.
    pub fn waits_freely(&self, fd: RawFd) -> bool {
        if !self.asked.swap(true, Relaxed) {
            self.nonblocking.store(!crate::kernel::waits(fd), Relaxed);
            self.timeout.store(crate::kernel::has_timeout(fd), Relaxed);
        }
        !self.nonblocking.load(Relaxed) && !self.timeout.load(Relaxed)
    }

    /// Whether somebody may wait for it in ways that are not seen.
    pub fn is_unseen(&self) -> bool {
        !self.watched.load(Relaxed) || self.unwatchable.load(Relaxed)
    }

    /// Whether something lies in memory: one look, not at all while somebody takes from it.
    pub fn has_bytes(&self) -> bool {
        self.receiving.try_lock().is_some_and(|mut held| held.as_mut().is_some_and(Incoming::has_bytes))
    }

    /// Whether something can be sent through memory at once.
    pub fn is_roomy(&self) -> bool {
        self.meets() && self.sending.try_lock().is_some_and(|mut held| held.as_mut().is_some_and(Outgoing::is_roomy))
    }

    /// Where to look for more of it.
    pub fn news(&self) -> Option<News> {
        self.receiving.lock().as_ref().map(Incoming::news)
    }

    /// Bytes that ever came through memory.
    pub fn arrived(&self) -> u64 {
        self.receiving.lock().as_ref().map_or(0, Incoming::arrived)
    }

    /// Bytes that can be received at once.
    pub fn waiting(&self, fd: RawFd) -> u64 {
        let mut receiving = self.receiving.lock();
        let Some(incoming) = receiving.as_mut() else { return 0 };
        // All that can be received is here: the kernel need not be asked, and some ask before each call.
        if let Ok(Stretch::Memory { ready, then: None }) = incoming.look() {
            return ready as u64;
        }
        let queued = crate::kernel::queued(fd);
        match incoming.look() {
            Ok(Stretch::Memory { ready, then }) => {
                let behind = if then.is_some() { queued.saturating_sub(incoming.bells()) } else { 0 };
                ready as u64 + behind
            }
            Ok(Stretch::Tcp { left: Some(left) }) if left <= queued => left + incoming.beyond() as u64,
            Ok(Stretch::Tcp { .. }) => queued,
            Err(_) => 0,
        }
    }

    /// Whether both ends run on one processor, as far as they have said.
    pub fn shares_processor(&self) -> bool {
        let own = crate::kernel::processor();
        let incoming = self.receiving.lock().as_ref().is_some_and(|incoming| incoming.shares_processor(own));
        let together = incoming | self.sending.lock().as_ref().is_some_and(|outgoing| outgoing.shares_processor(own));
        self.together.store(together, Relaxed);
        together
    }

    /// Something is about to be sent over TCP.
    pub fn count_turn(&self) {
        let heard = self.tcp_in.load(Relaxed);
        if self.turned.load(Relaxed) != heard {
            self.turned.store(heard, Relaxed);
            self.turns.fetch_add(1, Relaxed);
        }
    }

    pub fn state(&self) -> u32 {
        self.state.load(Acquire)
    }

    /// From now on nobody counts, so it can have no memory. Not for one that has some.
    pub fn give_up(&self) {
        for from in [state::COUNTED, state::OFFERED] {
            let _ = self.state.compare_exchange(from, state::PLAIN, SeqCst, Relaxed);
        }
    }

    /// A call that moves bytes over TCP, uncounted as yet. None if the connection has memory: then the call is another one.
    pub fn counted(&self, call: impl FnOnce() -> isize, count: &AtomicU64, counts: bool) -> Result<isize, ()> {
        loop {
            self.moving.fetch_add(1, SeqCst);
            match self.state.load(SeqCst) {
                state::ATTACHING => {
                    self.moving.fetch_sub(1, SeqCst);
                    std::thread::yield_now();
                }
                state::ATTACHED => {
                    self.moving.fetch_sub(1, SeqCst);
                    return Err(());
                }
                _ => break,
            }
        }
        let moved = call();
        if counts && moved > 0 {
            count.fetch_add(moved as u64, SeqCst);
        }
        self.moving.fetch_sub(1, SeqCst);
        Ok(moved)
    }

    /// Whether the other end has the same memory.
    pub fn meets(&self) -> bool {
        if self.met.load(Relaxed) {
            return true;
        }
        let met = self.sending.lock().as_mut().is_some_and(Outgoing::meets);
        self.met.store(met, Relaxed);
        met
    }
}

/// What has become of giving memory to a connection.
pub enum Attached {
    Yes,
    /// Not now: bytes are on their way.
    Later,
    Never,
}

impl Entry {
    /// Rings the bell of this number at the other end: whether it is heard.
    pub fn ring(&self, number: u64) -> bool {
        let told = TOLD[self.index].load(Acquire);
        // SAFETY: what `attach` put there, and is not taken away while a thread is at work on this slot.
        unsafe { told.as_ref() }.is_some_and(|(given, bell)| *given == number && bells::ring(&**bell))
    }

    /// As [`Entry::ring`], for who has slept on this processor; 0: a byte over TCP is to wake him.
    pub fn wake(&self, number: u64, processor: Option<u32>) -> bool {
        processor.into_iter().for_each(crate::turn::woken);
        number != 0 && self.ring(number)
    }

    /// Gives it memory, if nobody else holds this socket, and nobody is moving bytes.
    pub fn attach(&self, share: Arc<Held>, meeting: Meeting, bell: Option<Arc<OwnedFd>>) -> Attached {
        if self.slot.state.compare_exchange(state::OFFERED, state::ATTACHING, SeqCst, Relaxed).is_err() {
            return Attached::Later;
        }
        if self.moving.load(SeqCst) != 0 || self.holders.load(SeqCst) != relatives::own() {
            self.impeded.store(true, Relaxed);
            self.slot.state.store(state::OFFERED, SeqCst);
            return Attached::Later;
        }
        let [_, peer] = meeting.stores;
        // SAFETY: this process keeps the share until it lets go of the slot, by which time the ends were dropped or are another's.
        let Ok((sender, receiver)) =
            (unsafe { share.open_kept(meeting.connection.into(), meeting.side.into(), peer.into()) })
        else {
            self.slot.state.store(state::OFFERED, SeqCst);
            return Attached::Never;
        };
        self.meeting.store(meeting.number, Relaxed);
        self.place.store(u32::from(meeting.connection) << 1 | u32::from(meeting.side), Relaxed);
        KEPT[self.index].store(Arc::into_raw(share).cast_mut(), Release);
        if let Some(bell) = bell {
            TOLD[self.index].store(Box::into_raw(Box::new((meeting.bell, bell))), Release);
        }
        let incoming = Incoming::new(receiver, meeting.number, self.tcp_in.load(SeqCst));
        let outgoing = Outgoing::new(sender, meeting.number, self.tcp_out.load(SeqCst));
        incoming.tell();
        outgoing.tell();
        *self.receiving.lock() = Some(incoming);
        self.obey();
        *self.sending.lock() = Some(outgoing);
        ATTACHED.fetch_add(1, Relaxed);
        self.slot.state.store(state::ATTACHED, SeqCst);
        GIVEN.fetch_add(1, Release);
        Attached::Yes
    }
}
