//! The memory of a pair: two processes, and no third, that have connections to each other. Or of a pod: several.
//!
//! Of a pair, the one that makes it is side 0, who joins is side 1. Each opens the connections that both have agreed on, by number; a
//! number is free again once both ends of both ways have left ([`Pair::is_quiet`]). One process may be both sides.

use crate::bytes::{self, Counted, End, Kept};
use crate::layout::{self, CONNECTIONS, Calls, Claim, Header, STORES_MAX, StoreLine, Way};
use crate::records::{Quota, Store};
use crate::stream;
use crate::sync::Ordering;
use os::mapping::Mapping;
use os::memfd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use thiserror::Error;

/// Sends on one connection.
pub type Sender = stream::Sender<End<Counted>>;
/// Receives on one connection.
pub type Receiver = stream::Receiver<End<Counted>>;
/// The same, whose pair somebody else keeps: they may lie in memory that forked children share.
pub type KeptSender = stream::Sender<End<Kept>>;
pub type KeptReceiver = stream::Receiver<End<Kept>>;

/// Why memory could not be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    #[error("the memory could not be mapped, or its size is not fixed")]
    Memory(#[source] io::Error),
    #[error("this is no such memory, or of another version, or has no place for this process")]
    Foreign,
}

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    #[error("there is no connection {0} of that kind: they are numbered from 0 to {max}, and have the sides 0 and 1", max = CONNECTIONS - 1)]
    Unknown(usize),
    #[error("connection {0} is open here")]
    Busy(usize),
}

type Ends<H> = (stream::Sender<End<H>>, stream::Receiver<End<H>>);

/// The mapped memory, and who in this process uses what of it.
pub struct Region {
    mapping: Mapping,
    stores: usize,
    /// Of each connection: the ends that are open here, a bit each.
    open: Box<[AtomicU8]>,
}

impl Region {
    fn new(mapping: Mapping, stores: usize) -> Arc<Self> {
        Arc::new(Self { mapping, stores, open: (0..CONNECTIONS).map(|_| AtomicU8::new(0)).collect() })
    }

    /// Maps memory that another process has made, checked.
    pub(crate) fn map(file: impl AsFd) -> Result<Arc<Self>, JoinError> {
        let len = memfd::sealed_len(&file).map_err(JoinError::Memory)?;
        let len = usize::try_from(len).map_err(|_| JoinError::Foreign)?;
        let stores = (2..=STORES_MAX).find(|&stores| layout::whole(stores) == len).ok_or(JoinError::Foreign)?;
        let mapping = Mapping::shared(file, len).map_err(JoinError::Memory)?;
        // SAFETY: the mapping is longer than a header, and page-aligned. Read once: what is checked is what is used.
        let header = unsafe { mapping.at(0).cast::<Header>().read_volatile() };
        if header != layout::header(stores) {
            return Err(JoinError::Foreign);
        }
        Ok(Self::new(mapping, stores))
    }

    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        self.mapping.at(offset)
    }

    pub(crate) fn way(&self, connection: usize, side: usize) -> &Way {
        assert!(connection < CONNECTIONS && side < 2, "a way of the memory");
        // SAFETY: it lies in the mapping, aligned, and is made of atomics, for which every value is one.
        unsafe { &*self.at(layout::way(connection, side)).cast() }
    }

    /// Whether both sides have left a connection, or never opened it.
    pub(crate) fn is_quiet(&self, connection: usize) -> bool {
        connection < CONNECTIONS
            && [0, 1].into_iter().all(|side| {
                let way = self.way(connection, side);
                way.sender.open.load(Ordering::Acquire) == 0 && way.receiver.open.load(Ordering::Acquire) == 0
            })
    }

    pub(crate) fn stores(&self) -> usize {
        self.stores
    }

    pub(crate) fn store_line(&self, store: usize) -> &StoreLine {
        assert!(store < self.stores, "a store of the memory");
        // SAFETY: as in `way`.
        unsafe { &*self.at(layout::store_line(store)).cast() }
    }

    pub(crate) fn calls(&self, store: usize) -> &Calls {
        assert!(store < self.stores, "a store of the memory");
        // SAFETY: as in `way`.
        unsafe { &*self.at(layout::calls(store)).cast() }
    }

    pub(crate) fn claim(&self, store: usize, record: usize) -> &Claim {
        assert!(store < self.stores && record < layout::RECORDS, "a record of the memory");
        // SAFETY: as in `way`.
        unsafe { &*self.at(layout::claim(store, record)).cast() }
    }

    pub(crate) fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        self.mapping.punch(offset, len)
    }

    pub(crate) fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.mapping.populate(offset, len)
    }

    /// Takes both ends of a connection that `side` has, for this process.
    fn enter(&self, connection: usize, side: usize) -> bool {
        let ends = bit(side, true) | bit(1 - side, false);
        let taken = |open: u8| (open & ends == 0).then_some(open | ends);
        self.open[connection].fetch_update(Ordering::AcqRel, Ordering::Relaxed, taken).is_ok()
    }

    pub(crate) fn leave(&self, connection: usize, side: usize, sends: bool) {
        self.open[connection].fetch_and(!bit(side, sends), Ordering::AcqRel);
    }
}

/// The bit of the end that sends, or receives, in the direction in which `side` sends.
fn bit(side: usize, sends: bool) -> u8 {
    1 << (side * 2 + usize::from(sends))
}

/// A process's part in a memory: its number, which is that of its store.
struct Part {
    region: Arc<Region>,
    store: Arc<Store>,
    number: usize,
}

impl Part {
    /// Makes memory with so many stores, of which this process has the first.
    fn create(stores: usize, quota: &Arc<Quota>) -> io::Result<(Self, OwnedFd)> {
        let (mapping, file) = publish(stores)?;
        Ok((Self::new(Region::new(mapping, stores), 0, quota)?, file))
    }

    fn new(region: Arc<Region>, number: usize, quota: &Arc<Quota>) -> io::Result<Self> {
        let store = Arc::new(Store::new(region.clone(), number, quota.clone())?);
        Ok(Self { region, store, number })
    }

    /// Opens the ends of a connection that are its `side`'s, whose other side is the process `peer`.
    fn open<H: Clone + bytes::Hold>(
        &self,
        (connection, side): (usize, usize),
        peer: usize,
        hold: H,
    ) -> Result<Ends<H>, OpenError> {
        if connection >= CONNECTIONS {
            return Err(OpenError::Unknown(connection));
        }
        if !self.region.enter(connection, side) {
            return Err(OpenError::Busy(connection));
        }
        let opened = &self.region.store_line(self.number).opened;
        opened.store(opened.load(Ordering::Relaxed).max(connection as u32 + 1), Ordering::Relaxed);
        self.region.way(connection, side).sender.store.store(self.number as u32, Ordering::Relaxed);
        let sends = End::new(hold.clone(), (connection, side), [self.number, peer], true);
        let receives = End::new(hold, (connection, 1 - side), [peer, self.number], false);
        Ok((stream::Sender::new(sends), stream::Receiver::new(receives)))
    }

    fn kept(&self) -> Kept {
        Kept { region: NonNull::from(&*self.region), store: NonNull::from(&*self.store) }
    }

    fn counted(&self) -> Counted {
        Counted { region: self.region.clone(), store: self.store.clone() }
    }
}

/// Makes memory with so many stores, that nobody has a part in yet.
fn publish(stores: usize) -> io::Result<(Mapping, OwnedFd)> {
    let name = if stores == 2 { "lichen-pair" } else { "lichen-pod" };
    let file = memfd::sealed(name, layout::whole(stores) as u64)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    let mapping = Mapping::shared(&file, layout::whole(stores))?;
    // SAFETY: the mapping begins with room for a header, page-aligned; nobody else has the file yet.
    unsafe { mapping.at(0).cast::<Header>().write(layout::header(stores)) };
    Ok((mapping, file))
}

/// Makes the memory of a pair for two others, who join it as its stores 0 and 1.
pub fn publish_pair() -> io::Result<OwnedFd> {
    Ok(publish(2)?.1)
}

/// Makes the memory of a pod for others, up to 16 of them.
pub fn publish_pod() -> io::Result<OwnedFd> {
    Ok(publish(STORES_MAX)?.1)
}

/// A process's part in memory that somebody else has made, of a pair or of a pod.
pub struct Share(Part);

impl Share {
    /// Joins it as the process that has this store, and no other process has. The descriptor may be closed afterwards.
    pub fn join(file: impl AsFd, store: usize, quota: &Arc<Quota>) -> Result<Self, JoinError> {
        let region = Region::map(file)?;
        if store >= region.stores {
            return Err(JoinError::Foreign);
        }
        Part::new(region, store, quota).map(Self).map_err(JoinError::Memory)
    }

    /// Whether more than two processes share it.
    pub fn is_pod(&self) -> bool {
        self.0.region.stores > 2
    }

    /// Opens one side's ends of a connection, 0 or 1, whose other side the process with the store `peer` opens: ends that are of
    /// use for as long as somebody keeps this share, in each process that has them.
    ///
    /// # Safety
    /// They are dropped, or forgotten, before this share is.
    pub unsafe fn open_kept(
        &self,
        connection: usize,
        side: usize,
        peer: usize,
    ) -> Result<(KeptSender, KeptReceiver), OpenError> {
        if side > 1 || peer >= self.0.region.stores {
            return Err(OpenError::Unknown(connection));
        }
        self.0.open((connection, side), peer, self.0.kept())
    }
}

/// One side of a pair.
pub struct Pair(Part);

impl Pair {
    /// Makes the memory of a pair, for this process and the one that is given the descriptor: no other user can open it,
    /// nobody can resize it. Its memory is taken when it is used.
    pub fn create(quota: &Arc<Quota>) -> io::Result<(Self, OwnedFd)> {
        let (part, file) = Part::create(2, quota)?;
        Ok((Self(part), file))
    }

    /// Joins the pair whose memory another process has made. The descriptor may be closed afterwards.
    pub fn join(file: impl AsFd, quota: &Arc<Quota>) -> Result<Self, JoinError> {
        let region = Region::map(file)?;
        if region.stores != 2 {
            return Err(JoinError::Foreign);
        }
        Part::new(region, 1, quota).map(Self).map_err(JoinError::Memory)
    }

    /// Opens this side's ends of a connection that the other side opens too.
    pub fn open(&self, connection: usize) -> Result<(Sender, Receiver), OpenError> {
        self.0.open((connection, self.0.number), 1 - self.0.number, self.0.counted())
    }

    /// As [`Pair::open`]: ends that are of use for as long as somebody keeps this pair, in each process that has them.
    ///
    /// # Safety
    /// They are dropped, or forgotten, before this pair is.
    pub unsafe fn open_kept(&self, connection: usize) -> Result<(KeptSender, KeptReceiver), OpenError> {
        self.0.open((connection, self.0.number), 1 - self.0.number, self.0.kept())
    }

    /// Whether both sides have left a connection, or never opened it: so that its number can be given to another.
    pub fn is_quiet(&self, connection: usize) -> bool {
        self.0.region.is_quiet(connection)
    }

    /// This side's records.
    pub fn store(&self) -> &Store {
        &self.0.store
    }
}

/// A process's part in the memory of a pod: all of its processes share one, and trust each other with what goes through
/// it. A connection then costs a number, not a memory; and a process can read and spoil what is others'.
pub struct Pod(Part);

impl Pod {
    /// Makes the memory of a pod of up to 16 processes, of which this one is number 0.
    pub fn create(quota: &Arc<Quota>) -> io::Result<(Self, OwnedFd)> {
        let (part, file) = Part::create(STORES_MAX, quota)?;
        Ok((Self(part), file))
    }

    /// Joins a pod, as the process of that number, which no other has.
    pub fn join(file: impl AsFd, number: usize, quota: &Arc<Quota>) -> Result<Self, JoinError> {
        let region = Region::map(file)?;
        if number >= region.stores {
            return Err(JoinError::Foreign);
        }
        Part::new(region, number, quota).map(Self).map_err(JoinError::Memory)
    }

    /// Opens one side's ends of a connection, 0 or 1, whose other side the process of the number `peer` opens.
    pub fn open(&self, connection: usize, side: usize, peer: usize) -> Result<(Sender, Receiver), OpenError> {
        if side > 1 || peer >= self.0.region.stores {
            return Err(OpenError::Unknown(connection));
        }
        self.0.open((connection, side), peer, self.0.counted())
    }

    /// As [`Pair::is_quiet`].
    pub fn is_quiet(&self, connection: usize) -> bool {
        self.0.region.is_quiet(connection)
    }

    /// This process's records.
    pub fn store(&self) -> &Store {
        &self.0.store
    }
}
