//! What the control plane and a worker say to each other: postcard over a socket that keeps message boundaries.
//!
//! Commands are not answered one by one: what becomes of each arrives as an [`Event`] that names the template or the
//! instance. Every instance that was asked for ends in exactly one [`Event::NotSpawned`] or [`Event::Ended`].

use sandbox::spec::{Code, End, Kind, StartSpec, TemplateSpec, Version};
use serde::{Deserialize, Serialize};
use xpucall::id::{FifoId, XpuPid};

/// The most instances that one [`Order`] starts, and kits that one [`Command::Kits`] brings.
pub const VECTOR_MAX: usize = 16;
/// Descriptors of each kit, in this order: region, down, up, log.
pub const DESCRIPTORS_PER_KIT: usize = 4;

/// Instances to start from a template: a vector, at most [`VECTOR_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub template: u64,
    pub starts: Vec<Ordered>,
}

impl Order {
    /// As it goes through a FIFO.
    pub fn encode(&self) -> Vec<u8> {
        // Writing to memory cannot fail, and every type here can be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// What was encoded so.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The number of the kit that it is given.
    pub kit: u64,
    pub spec: StartSpec,
}

/// From the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make a template. Ends in `Prepared` or `NotPrepared`.
    Prepare { template: u64, spec: TemplateSpec },
    /// Keep this many slots ready for a template (64 at most).
    Reserve { template: u64, slots: u32 },
    /// Drop a template. Instances that came from it end.
    Discard { template: u64 },
    /// Kits for starts to come, numbered from `first` on: [`DESCRIPTORS_PER_KIT`] descriptors accompany each.
    Kits { first: u64 },
    /// Start instances.
    Spawn(Order),
    /// Take orders through a FIFO too, from this process. Ends in `OrdersClosed`, as does what was open before.
    OpenOrders { life: u32, caller: XpuPid },
    /// Take no more orders through the FIFO of this life.
    CloseOrders { life: u32 },
    /// End an instance, whatever it does.
    Retire { instance: u64 },
    /// Items that engines hold for a run of a flow are wanted no more, each by its engine and its id; none: no item of the run.
    Release { run: [u8; 16], items: Option<Vec<(u32, u64)>> },
    /// Look at new code as far as that is possible before its first use. Ends in `Checked`.
    Check { check: u64, kind: Kind, code: Code },
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// First of all: what this worker runs, and what it cannot enforce here (sentences for people).
    Hello { languages: Vec<(Kind, Version)>, missing: Vec<String> },
    /// The template waits at its fork point. `report` is the runtime's JSON: see `lang/README.md`.
    Prepared { template: u64, report: String, prepare_us: u64 },
    /// There will be no such template; `lasting` if another attempt would end in the same way.
    NotPrepared { template: u64, reason: String, lasting: bool },
    /// A template is gone that had been prepared. Its instances are reported one by one.
    TemplateEnded { template: u64 },
    /// Orders may be written to this FIFO.
    OrdersOpen { life: u32, fifo: FifoId },
    /// No more orders are taken from the FIFO of this life; so many were.
    OrdersClosed { life: u32, taken: u64 },
    /// The instance runs. Accompanied by a descriptor of its peak memory use in bytes (text), where the host has one.
    Spawned { instance: u64 },
    /// The instance could not be started.
    NotSpawned { instance: u64, reason: String },
    /// The instance has ended; `memory_peak` in bytes, 0 where unknown.
    Ended { instance: u64, end: End, memory_peak: u64 },
    /// What there is to say against the code; `refusal` is for the one who has deployed it.
    Checked { check: u64, refusal: Option<String> },
}
