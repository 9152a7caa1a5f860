//! What the control plane and a worker say to each other: postcard over a socket that keeps message boundaries.
//!
//! Commands are not answered one by one: what becomes of each arrives as an [`Event`] that names the template or the
//! instance. Every instance that was asked for ends in exactly one [`Event::NotSpawned`] or [`Event::Ended`].

use sandbox::spec::{End, Kind, StartSpec, TemplateSpec, Version};
use serde::{Deserialize, Serialize};

/// The most instances that one [`Command::Spawn`] starts.
pub const VECTOR_MAX: usize = 16;
/// Descriptors that accompany each element of a [`Command::Spawn`], in this order: region, down, up, log.
pub const DESCRIPTORS_PER_START: usize = 4;

/// From the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make a template. Ends in `Prepared` or `NotPrepared`.
    Prepare { template: u64, spec: TemplateSpec },
    /// Keep this many slots ready for a template (64 at most).
    Reserve { template: u64, slots: u32 },
    /// Drop a template. Instances that came from it end.
    Discard { template: u64 },
    /// Start instances from a template: a vector, at most [`VECTOR_MAX`].
    Spawn { template: u64, starts: Vec<StartSpec> },
    /// End an instance, whatever it does.
    Retire { instance: u64 },
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
    /// The instance runs. Accompanied by a descriptor of its peak memory use in bytes (text), where the host has one.
    Spawned { instance: u64 },
    /// The instance could not be started.
    NotSpawned { instance: u64, reason: String },
    /// The instance has ended; `memory_peak` in bytes, 0 where unknown.
    Ended { instance: u64, end: End, memory_peak: u64 },
}
