//! What a shim is told once: who it is, where it listens, and how much a process may have.

use crate::protocol::{Limits, Timing};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use xpucall::id::PuId;

/// Of one shim.
#[derive(Clone, Debug)]
pub struct Config {
    pub pu: PuId,
    /// Where processes attach. Made by the shim, and removed when it ends.
    pub socket: PathBuf,
    /// Of the head: where it writes down what its next life must know.
    pub memory: Option<PathBuf>,
    pub quotas: Quotas,
    /// How long the shim looks for calls after the last one, before it sleeps; up to twice as long where being woken takes
    /// longer.
    pub spin: Duration,
    pub timing: Timing,
    pub limits: Limits,
}

/// How much processes may have, by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Of processes of the shim's own user, and of root.
    #[serde(deserialize_with = "platform")]
    pub platform: Quota,
    /// Of everybody else.
    #[serde(deserialize_with = "guest")]
    pub guest: Quota,
    /// All guests of one user, and all of one pid namespace, have this many times together what one may have.
    pub together: u32,
}

/// How much one process may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// FIFOs that it has created.
    pub fifos: u32,
    /// Ends of FIFOs that it has connected.
    pub ends: u32,
    /// Writers of one of its FIFOs.
    pub writers: u32,
    /// Processes with rights on one of its FIFOs.
    pub capabilities: u32,
    /// Bytes of the lanes that it writes to, as if all of them were full.
    pub memory: u64,
    /// Bytes of the longest message of its FIFOs.
    pub message_max: u32,
    /// Programs that it has started on this PU and that run.
    pub children: u32,
}

/// A quota as a file has it: what it leaves out is as it is for that class.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Partial {
    fifos: Option<u32>,
    ends: Option<u32>,
    writers: Option<u32>,
    capabilities: Option<u32>,
    memory: Option<u64>,
    message_max: Option<u32>,
    children: Option<u32>,
}

impl Partial {
    fn over(self, base: Quota) -> Quota {
        Quota {
            fifos: self.fifos.unwrap_or(base.fifos),
            ends: self.ends.unwrap_or(base.ends),
            writers: self.writers.unwrap_or(base.writers),
            capabilities: self.capabilities.unwrap_or(base.capabilities),
            memory: self.memory.unwrap_or(base.memory),
            message_max: self.message_max.unwrap_or(base.message_max),
            children: self.children.unwrap_or(base.children),
        }
    }
}

fn platform<'de, D: Deserializer<'de>>(from: D) -> Result<Quota, D::Error> {
    Ok(Partial::deserialize(from)?.over(Quotas::default().platform))
}

fn guest<'de, D: Deserializer<'de>>(from: D) -> Result<Quota, D::Error> {
    Ok(Partial::deserialize(from)?.over(Quotas::default().guest))
}

/// Messages as long as Lambda's, with a header.
pub const MESSAGE_MAX: u32 = 6 * 1024 * 1024 + 1024;
/// Bytes of a lane's ring where its creator does not say.
pub const RING: u32 = 128 * 1024;

impl Default for Quotas {
    fn default() -> Self {
        let platform = Quota {
            fifos: 16_384,
            ends: 32_768,
            writers: 4_096,
            capabilities: 16_384,
            memory: 1 << 40,
            message_max: 64 << 20,
            children: 256,
        };
        let guest = Quota {
            fifos: 256,
            ends: 512,
            writers: 256,
            capabilities: 256,
            memory: 8 << 30,
            message_max: MESSAGE_MAX,
            children: 0,
        };
        Self { platform, guest, together: 8 }
    }
}

impl Config {
    /// A shim as it is by default.
    pub fn new(pu: PuId, socket: PathBuf) -> Self {
        Self {
            pu,
            socket,
            memory: None,
            quotas: Quotas::default(),
            spin: Duration::from_micros(50),
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}
