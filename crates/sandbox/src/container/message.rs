//! What the worker, its nursery and the inits of its sandboxes say to each other.

use crate::spec::End;
use serde::{Deserialize, Serialize};

/// Worker to nursery: make a sandbox with a template in it. Accompanied by: the init's socket, the template's control
/// socket, its log, its code if `has_code`, its layers if `has_layers`, and the entrances of its cgroup.
#[derive(Debug, Serialize, Deserialize)]
pub struct MakeSandbox {
    pub id: u64,
    pub ids: Ids,
    /// Bytes of `/tmp`.
    pub tmp: u64,
    pub has_code: bool,
    pub has_layers: bool,
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Processes per user, where no cgroup limits them.
    pub processes: Option<u32>,
}

/// Which users a sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// 65,536 of its own, from this one of the worker's on.
    Range(u32),
    /// The worker's only one: an ordinary user's.
    Single,
}

/// Worker to init.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// Make a slot. Accompanied by the entrances of its cgroup.
    MakeSlot { slot: u64, tmp: u64 },
}

/// Init to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The sandbox could not be completed.
    Failed {
        step: String,
        error: String,
    },
    /// A slot is ready. Accompanied by a descriptor of its own init.
    SlotMade {
        slot: u64,
    },
    SlotNotMade {
        slot: u64,
        reason: String,
    },
    /// A slot is gone, with all that ran in it.
    SlotEnded {
        slot: u64,
    },
    TemplateEnded {
        end: End,
    },
    /// An instance has ended. `pid` as the sandbox's pid namespace counts it, which is how the template told it.
    InstanceEnded {
        pid: i32,
        end: End,
    },
}
