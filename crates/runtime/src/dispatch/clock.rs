//! Deadlines of invocations: cheap for the many that are met.
//!
//! Setting a deadline usually costs one store: the clock already looks at the instance at some earlier time, sees then
//! that the deadline has moved, and looks again when it is due. So each instance is in the clock at most once or twice,
//! however many invocations it serves, and no timer of the runtime is made on the main path.

use super::shared::Shared;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The deadlines of a node.
#[derive(Debug, Default)]
pub(super) struct Clock {
    entries: Mutex<Entries>,
    changed: Notify,
}

#[derive(Debug)]
struct Entries {
    /// By time and instance.
    looks: BTreeMap<(u64, u64), Arc<Shared>>,
    /// Until when the clock sleeps.
    asleep_until: u64,
}

impl Default for Entries {
    fn default() -> Self {
        Self { looks: BTreeMap::new(), asleep_until: u64::MAX }
    }
}

impl Clock {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an instance's deadline: `CLOCK_MONOTONIC`, nanoseconds.
    pub fn set(&self, shared: &Arc<Shared>, due: u64) {
        if !shared.set_due(due) {
            return;
        }
        let mut entries = self.entries();
        entries.looks.insert((due, shared.id), shared.clone());
        if due < entries.asleep_until {
            entries.asleep_until = due;
            drop(entries);
            self.changed.notify_one();
        }
    }

    /// Forgets an instance that has ended.
    pub fn forget(&self, shared: &Shared) {
        if let Some(at) = shared.looked_at() {
            self.entries().looks.remove(&(at, shared.id));
        }
    }

    /// Ends invocations that are due at `now`; answers when to come again.
    fn tick(&self, now: u64) -> Option<u64> {
        let mut entries = self.entries();
        let later = entries.looks.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut entries.looks, later);
        for ((at, id), shared) in due {
            if let Some(again) = shared.look(at, now) {
                entries.looks.insert((again, id), shared);
            }
        }
        let next = entries.looks.keys().next().map(|(at, _)| *at);
        entries.asleep_until = next.unwrap_or(u64::MAX);
        next
    }

    /// Runs for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let now = os::monotonic_ns();
            match self.tick(now) {
                None => self.changed.notified().await,
                Some(next) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(Duration::from_nanos(next.saturating_sub(now))) => {}
                },
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries().looks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::Verdict;
    use super::*;
    use crate::placement::Terms;
    use std::task::{Context, Waker};

    fn is_timed_out(shared: &Shared) -> bool {
        shared.poll(&mut Context::from_waker(Waker::noop())) == Some(Verdict::TimedOut)
    }

    #[test]
    fn a_thousand_deadlines_that_are_met_are_one_entry() {
        let (clock, shared) = (Clock::default(), Arc::new(Shared::new(1, 1, Terms::default())));
        for now in 0..1000 {
            clock.set(&shared, now + 500);
            if now == 700 {
                assert_eq!(clock.tick(now), Some(now + 500));
            }
            shared.clear_due();
        }
        assert_eq!((clock.len(), clock.tick(1200), clock.len()), (1, None, 0));
        assert!(!is_timed_out(&shared));
    }

    #[test]
    fn those_that_are_due_time_out_and_the_others_do_not() {
        let clock = Clock::default();
        let [a, b] = [1, 2].map(|id| Arc::new(Shared::new(id, 1, Terms::default())));
        clock.set(&a, 10);
        clock.set(&b, 11);
        assert_eq!(clock.tick(10), Some(11));
        assert_eq!((is_timed_out(&a), is_timed_out(&b)), (true, false));
        clock.forget(&b);
        assert_eq!((clock.len(), clock.tick(11)), (0, None));
    }

    #[tokio::test]
    async fn time_passes() {
        let (clock, shared) = (Arc::new(Clock::default()), Arc::new(Shared::new(1, 1, Terms::default())));
        let running = tokio::spawn(clock.clone().run());
        clock.set(&shared, os::monotonic_ns() + 2_000_000);
        let verdict = std::future::poll_fn(|cx| shared.poll(cx).map_or(std::task::Poll::Pending, Into::into)).await;
        assert_eq!(verdict, Verdict::TimedOut);
        running.abort();
    }
}
