//! What an invocation costs: one record each, by the millisecond. Who keeps the records is not known here.

use crate::dispatch::StartKind;
use crate::function::FunctionKey;
use api::pu::Price;
use std::sync::Arc;
use std::time::Duration;

/// One invocation's bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    pub function: Arc<FunctionKey>,
    pub request_id: String,
    pub start: StartKind,
    /// When it ended: milliseconds since 1970.
    pub at_unix_ms: u64,
    /// From the function's being loaded to its answer.
    pub duration: Duration,
    /// What is paid for: loading and running, rounded up.
    pub billed_ms: u64,
    /// The number of the PU on which it ran, and what a GB-second costs there.
    pub pu: u8,
    pub price: Price,
    /// What was reserved.
    pub memory_mib: u32,
    /// Bytes used at most so far by the instance; 0 where unknown.
    pub memory_peak: u64,
    /// Loading, where this invocation waited for it.
    pub init: Option<Duration>,
    /// Whether it ended as an error of the function.
    pub failed: bool,
}

impl Bill {
    /// What is to be paid, in millionths of the price's unit, rounded up: GB-seconds times the price of one.
    pub fn cost_micros(&self) -> u64 {
        let gb_s =
            |micros: u128| (micros * u128::from(self.memory_mib) * u128::from(self.billed_ms)).div_ceil(1024 * 1000);
        gb_s(self.price.micros().into()).min(u64::MAX.into()) as u64
    }
}

/// Where bills go.
pub trait BillSink: Send + Sync + 'static {
    /// Takes one record. Called on the path of every invocation: must not wait.
    fn record(&self, bill: Bill);
}

/// Milliseconds to pay for: each begun millisecond counts, and one at least.
pub fn billed_ms(time: Duration) -> u64 {
    (time.as_nanos().div_ceil(1_000_000) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_millisecond_counts() {
        let billed = [0, 1, 1_000_000, 1_000_001, 2_500_000].map(|ns| billed_ms(Duration::from_nanos(ns)));
        assert_eq!(billed, [1, 1, 1, 2, 3]);
    }
}
