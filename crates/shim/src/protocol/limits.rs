//! How long things may take, and how much one PU may make another keep.

use std::time::Duration;

/// Durations that all shims of a computer must agree on. The defaults hold on a machine whose cores are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a member serves after it last asked whether it is one.
    pub lease: Duration,
    /// How much longer the head waits after it last answered: clocks that drift, lanes that are being cut.
    pub margin: Duration,
    /// How often a member asks.
    pub renewal: Duration,
    /// How long what nobody waits for may wait for company.
    pub batch: Duration,
    /// How long a member may take to put a change in force before it is fenced; half of it, to end one lane.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            margin: Duration::from_millis(500),
            renewal: Duration::from_millis(500),
            batch: Duration::from_millis(50),
            patience: Duration::from_secs(2),
        }
    }
}

/// What one PU may make others keep. Processes have limits of their own ([`super::Quota`], [`super::FifoLimits`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// FIFOs whose creators are on one PU.
    pub fifos: usize,
    /// Capabilities on the FIFOs of one PU.
    pub capabilities: usize,
    /// Orders of one PU that wait.
    pub orders: usize,
    /// Children of processes of one PU that another one keeps ready.
    pub children: usize,
    /// Changes that are kept for a member that is joining.
    pub backlog: usize,
    /// Items in one message of what nobody waits for.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fifos: 65_536, capabilities: 262_144, orders: 4_096, children: 1_024, backlog: 65_536, batch: 256 }
    }
}
