//! Orders through a FIFO: neighbour IPC between the control plane and a worker, wherever their PUs share memory.
//!
//! ```text
//!  control plane                                    worker
//!    OpenOrders { life, caller } ──── socket ────▶  attaches to its shim, makes a FIFO, lets the caller, and nobody else, write
//!    connects          ◀──── socket ────            OrdersOpen { life, fifo }
//!    orders 0, 1, 2 …  ════  FIFO   ════▶           taken, counted
//!    the rest again, over the socket  ◀── socket ── OrdersClosed { life, taken }: shim gone, caller gone, or CloseOrders
//! ```
//! After `OrdersClosed` nothing more is taken from that FIFO, so every order is taken once, whatever ends when.

use crate::protocol::Order;
use sandbox::conversation::MESSAGE_MAX;
use std::io;
use std::path::Path;
use thiserror::Error;
use xpucall::error::{AttachError, ConnectError, CreateError, GrantError};
use xpucall::evented::EventedReader;
use xpucall::id::{FifoId, Rights, XpuPid};
use xpucall::wire::Transport;
use xpucall::{Event, Fifo, Limits, Process, Reader};

/// Why orders cannot be taken through a FIFO.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the FIFO cannot be watched")]
    Watch(#[source] io::Error),
    #[error("the worker ends")]
    Ending,
}

/// Where orders of one caller arrive.
#[derive(Debug)]
pub struct Desk {
    /// Nothing once it is closed.
    open: Option<(EventedReader, Fifo)>,
    caller: XpuPid,
    taken: u64,
}

/// Attaches, and makes the FIFO. Waits for all PUs to know of it.
fn make(shim: &Path, caller: XpuPid) -> Result<(Reader, Fifo), OpenError> {
    let process = Process::attach(shim, Transport::Adaptive)?;
    let fifo = Fifo::create(&process, Limits { message_max: MESSAGE_MAX as u64, ring: 0 })?;
    let reader = fifo.reader()?;
    fifo.grant(caller, Rights::WRITE)?;
    Ok((reader, fifo))
}

impl Desk {
    /// Opens one for `caller`, at the shim that listens at this path.
    pub async fn open(shim: &Path, caller: XpuPid) -> Result<Self, OpenError> {
        let shim = shim.to_owned();
        let made = tokio::task::spawn_blocking(move || make(&shim, caller)).await;
        let (reader, fifo) = made.map_err(|_| OpenError::Ending)??;
        let reader = EventedReader::new(reader).map_err(OpenError::Watch)?;
        Ok(Self { open: Some((reader, fifo)), caller, taken: 0 })
    }

    /// The FIFO that the caller is to write to.
    pub fn fifo(&self) -> Option<FifoId> {
        self.open.as_ref().map(|(_, fifo)| fifo.id())
    }

    /// How many orders have been taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The next order; nothing when there will be no more. Dropping it loses none.
    pub async fn next(&mut self) -> Option<Order> {
        loop {
            let (reader, _) = self.open.as_mut()?;
            let event = reader.event().await.ok()?;
            if let Some(order) = self.take(event)? {
                return Some(order);
            }
        }
    }

    /// What has been written by now, if there is anything.
    pub fn left(&mut self) -> Option<Order> {
        loop {
            let (reader, _) = self.open.as_mut()?;
            let event = reader.get().try_event().ok()??;
            if let Some(order) = self.take(event)? {
                return Some(order);
            }
        }
    }

    /// An order, if it is one and can be read; nothing at all once the caller is gone.
    fn take(&mut self, event: Event) -> Option<Option<Order>> {
        match event {
            Event::Message(message) if message.from == self.caller => {
                self.taken += 1;
                let order = Order::decode(&message.bytes);
                if order.is_none() {
                    tracing::error!("an order cannot be understood: the control plane is of another version");
                }
                Some(order)
            }
            // The shim lets nobody else write.
            Event::Message(_) => Some(None),
            Event::Ended { .. } => None,
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Releasing the FIFO waits for other PUs.
        if let Some(open) = self.open.take() {
            tokio::task::spawn_blocking(move || drop(open));
        }
    }
}
