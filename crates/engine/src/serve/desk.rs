//! What an engine is told to do, from its process's other thread: orders, and that a run is not wanted any more.
//!
//! Orders are followed between runs. Detaching an instance ends its run as well, at once: whoever gives that order sees the
//! run that goes on, or whoever is about to begin it sees the order.

use super::lane::Terms;
use crate::{Artefact, Stop};
use interconnect::channel::Channel;
use rustix::event::{EventfdFlags, eventfd};
use sets::wire::RunId;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Orders that may wait while a run goes on.
const WAITING_MAX: usize = 8192;

/// One thing to do.
pub enum Order {
    /// Take code in. Ends in [`Told::Loaded`](super::Told::Loaded).
    Load { program: u64, artefact: Artefact },
    /// Let go of it.
    Unload { program: u64 },
    /// Serve requests of this channel. Ends in [`Told::Ended`](super::Told::Ended).
    Attach(Box<Attachment>),
    /// Serve them no more.
    Detach { instance: u64 },
    /// An engine for long runs is on the same processor from now on, or none.
    BesideLong { there: bool },
    /// This engine has a name, by which others know what it holds. It is to meet these, and all of higher numbers.
    Name { number: u32, others: Vec<u32> },
    /// Another engine of the unit. Ends in [`Told::Watches`](super::Told::Watches).
    Watch { number: u32, board: OwnedFd },
    /// The arena of one that watches this one.
    Lend { number: u32, arena: OwnedFd },
    /// It has ended.
    Part { number: u32 },
    /// Hold these items of a run no more.
    Release { run: RunId, items: Vec<u64> },
    /// The run is over.
    Forget { run: RunId },
    /// Return, unless something is held.
    Leave,
    /// Return.
    Close,
}

/// An instance of a pure function: a channel to an engine.
pub struct Attachment {
    pub instance: u64,
    /// One that is loaded, or will be before this.
    pub program: u64,
    pub channel: Channel,
    /// Where it prints. Its reader may be slow, and never makes the engine wait for long.
    pub log: OwnedFd,
    pub terms: Terms,
}

/// Too many orders wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_MAX} orders wait for this engine already")]
pub struct Crowded;

fn makes_room(order: &Order) -> bool {
    use Order::{Close, Detach, Forget, Part, Release, Unload};
    matches!(order, Detach { .. } | Unload { .. } | Release { .. } | Forget { .. } | Part { .. } | Close)
}

/// What both threads see.
pub struct Desk {
    orders: Mutex<VecDeque<Order>>,
    /// Whether there are any: to be looked at often.
    waiting: AtomicBool,
    bell: OwnedFd,
    /// The instance whose run goes on, and the run's number; zeroes for none.
    running: Mutex<(u64, u64)>,
    pub stop: Stop,
}

impl Desk {
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (orders, running) = (Mutex::default(), Mutex::default());
        Ok(Self { orders, waiting: AtomicBool::new(false), bell, running, stop: Stop::new()? })
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, (u64, u64)> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order, to be followed after those before it.
    pub fn give(&self, order: Order) -> Result<(), Crowded> {
        let detached = if let Order::Detach { instance } = order { instance } else { 0 };
        let mut orders = self.orders();
        // What makes room is never refused.
        if orders.len() >= WAITING_MAX && !makes_room(&order) {
            return Err(Crowded);
        }
        orders.push_back(order);
        self.waiting.store(true, Ordering::SeqCst);
        drop(orders);
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        let running = self.running();
        if detached != 0 && running.0 == detached {
            self.stop.cancel(running.1);
        }
        Ok(())
    }

    /// Readable when there are orders.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn has_orders(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The next order.
    pub(super) fn next(&self) -> Option<Order> {
        let mut orders = self.orders();
        let next = orders.pop_front();
        if orders.is_empty() {
            self.waiting.store(false, Ordering::SeqCst);
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        }
        next
    }

    /// A run of this instance begins. False: it is to be detached, and nothing is to be run.
    pub(super) fn begin(&self, instance: u64) -> bool {
        *self.running() = (instance, self.stop.begin());
        let detached = |order: &Order| matches!(order, Order::Detach { instance: of } if *of == instance);
        let unwanted = self.has_orders() && self.orders().iter().any(detached);
        if unwanted {
            self.end();
        }
        !unwanted
    }

    pub(super) fn end(&self) {
        *self.running() = (0, 0);
    }
}
