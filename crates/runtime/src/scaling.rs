//! How many instances may be started, how many stems and slots are kept ready, and what may be in memory. Pure functions
//! of what has been seen lately; times are nanoseconds.

use crate::dispatch::ThrottleReason;
use crate::function::Isolation;
use sandbox::spec::Kind;

/// Requests that fall into one of these count as one burst.
const BURST: u64 = 100_000_000;
/// A burst counts half after this, a quarter after twice this, and so on.
const HALF_LIFE: u64 = 10_000_000_000;
/// Slots that wait for the next start even where there was none for long.
const SLOTS_MIN: u32 = 2;
const SLOTS_MAX: u32 = 64;

/// How often something was needed that was not there: starts, lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    burst_began: u64,
    in_burst: u32,
    peak: u32,
    peak_at: u64,
}

impl Demand {
    /// Notes that one more was needed at `now`.
    pub fn note(&mut self, now: u64) {
        if now.saturating_sub(self.burst_began) >= BURST {
            self.burst_began = now;
            self.in_burst = 0;
        }
        self.in_burst += 1;
        if self.in_burst >= self.burst(now) {
            (self.peak, self.peak_at) = (self.in_burst, now);
        }
    }

    /// The largest burst of late, fading with time.
    pub fn burst(&self, now: u64) -> u32 {
        self.peak.checked_shr((now.saturating_sub(self.peak_at) / HALF_LIFE) as u32).unwrap_or(0)
    }

    /// When the burst will next have halved; nothing where it has faded.
    pub fn fades(&self, now: u64) -> Option<u64> {
        let halved = now.saturating_sub(self.peak_at) / HALF_LIFE + 1;
        (self.burst(now) > 0).then(|| self.peak_at + halved * HALF_LIFE)
    }
}

/// Whether a function's next invocation may begin, with so many in flight.
pub fn admit(function: u32, reserved: Option<u32>, node: u32, limit: u32) -> Result<(), ThrottleReason> {
    if reserved.is_some_and(|reserved| function >= reserved) {
        return Err(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
    }
    if node >= limit {
        return Err(ThrottleReason::ConcurrentInvocationLimitExceeded);
    }
    Ok(())
}

/// How many stems a function should have that was last used at `used`, with `at_hand` instances that have served already,
/// idle or busy: as many as its last burst would have needed beyond those, and at least one for as long as its instances
/// would be kept.
pub fn stems(demand: &Demand, now: u64, used: Option<u64>, keep: u64, at_hand: usize, isolation: Isolation) -> u32 {
    if used.is_none_or(|used| now.saturating_sub(used) >= keep) {
        return 0;
    }
    let at_hand = match isolation {
        Isolation::Instance => at_hand as u32,
        Isolation::Request => 0,
    };
    demand.burst(now).saturating_sub(at_hand).max(1)
}

/// How many slots a template should have waiting.
pub fn slots(demand: &Demand, now: u64) -> u32 {
    demand.burst(now).saturating_add(SLOTS_MIN).min(SLOTS_MAX)
}

/// MiB that a template is taken to occupy.
pub fn template_mib(kind: Kind) -> u64 {
    match kind {
        Kind::Python => 32,
        Kind::Node => 64,
        Kind::Provided => 2,
        // A program in engines that are there for all of them.
        Kind::Wasm | Kind::Native => 1,
    }
}

/// MiB that a stem is taken to occupy beyond what it shares with its template.
pub fn stem_mib(kind: Kind) -> u64 {
    match kind {
        Kind::Python => 4,
        Kind::Node => 12,
        // The function's runtime is a program of its own, and shares nothing.
        Kind::Provided => 24,
        Kind::Wasm | Kind::Native => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_remembered_and_fades() {
        let mut demand = Demand::default();
        assert_eq!((demand.burst(S), demand.fades(S)), (0, None));
        (0..8).for_each(|i| demand.note(S + i));
        assert_eq!(demand.burst(2 * S), 8);
        demand.note(3 * S);
        assert_eq!(demand.burst(4 * S), 8, "a smaller burst does not replace it");
        assert_eq!([11, 21, 31, 41].map(|s| demand.burst(s * S + 8)), [4, 2, 1, 0]);
        assert_eq!(demand.fades(12 * S), Some(21 * S + 7));
        demand.note(100 * S);
        assert_eq!(demand.burst(100 * S), 1);
        assert_eq!(demand.burst(u64::MAX), 0);
    }

    #[test]
    fn limits_throttle_by_their_own_names() {
        use ThrottleReason::*;
        assert_eq!(admit(4, Some(5), 999, 1000), Ok(()));
        assert_eq!(admit(5, Some(5), 5, 1000), Err(ReservedFunctionConcurrentInvocationLimitExceeded));
        assert_eq!(admit(0, Some(0), 0, 1000), Err(ReservedFunctionConcurrentInvocationLimitExceeded));
        assert_eq!(admit(5, None, 1000, 1000), Err(ConcurrentInvocationLimitExceeded));
    }

    #[test]
    fn stems_follow_the_burst_and_go_when_the_function_is_idle_for_long() {
        let mut demand = Demand::default();
        let stems =
            |demand: &Demand, now, used, idle, isolation| super::stems(demand, now, used, 600 * S, idle, isolation);
        assert_eq!(stems(&demand, S, None, 0, Isolation::Instance), 0, "never used");
        (0..10).for_each(|i| demand.note(S + i));
        assert_eq!(stems(&demand, 2 * S, Some(S), 0, Isolation::Instance), 10);
        assert_eq!(stems(&demand, 2 * S, Some(S), 7, Isolation::Instance), 3, "what is there serves a burst too");
        assert_eq!(stems(&demand, 2 * S, Some(S), 7, Isolation::Request), 10);
        assert_eq!(stems(&demand, 2 * S, Some(S), 99, Isolation::Instance), 1);
        assert_eq!(stems(&demand, 500 * S, Some(S), 0, Isolation::Instance), 1);
        assert_eq!(stems(&demand, 601 * S, Some(S), 0, Isolation::Instance), 0);
    }

    #[test]
    fn slots_follow_the_starts() {
        let mut demand = Demand::default();
        assert_eq!(slots(&demand, S), 2);
        (0..3).for_each(|_| demand.note(S));
        assert_eq!(slots(&demand, S), 5);
        (0..500).for_each(|_| demand.note(S));
        assert_eq!(slots(&demand, S), 64);
    }
}
