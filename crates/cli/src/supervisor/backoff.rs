//! When to start a daemon again that has ended: at once the first time, then after longer and longer pauses, and not at
//! all where it has never worked.

use std::time::Duration;

/// The pause after the second end in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause: well below the time for which invocations wait for a worker (`worker_wait_s`).
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest pause of one that is never given up: it may be that it cannot run here at all.
const PATIENT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A daemon that has lived this long was well: what came before is forgotten.
const WELL: Duration = Duration::from_secs(2);
/// Ends in a row that a daemon of a node that was never ready may have.
const ATTEMPTS: u32 = 4;

/// What to do about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    StartAfter(Duration),
    GiveUp,
}

/// The ends of one daemon.
#[derive(Debug, Default)]
pub struct Backoff {
    in_a_row: u32,
    patient: bool,
}

impl Backoff {
    /// Of one that is never given up.
    pub fn patient() -> Self {
        Self { in_a_row: 0, patient: true }
    }

    /// The daemon has ended after so long. `was_ready`: whether the node as a whole has ever been.
    pub fn ended(&mut self, after: Duration, was_ready: bool) -> Next {
        self.in_a_row = if after >= WELL { 1 } else { self.in_a_row + 1 };
        match self.in_a_row {
            n if !self.patient && !was_ready && n >= ATTEMPTS => Next::GiveUp,
            1 => Next::StartAfter(Duration::ZERO),
            n => Next::StartAfter(self.pause_max().min(PAUSE_MIN * 2u32.saturating_pow((n - 2).min(16)))),
        }
    }

    fn pause_max(&self) -> Duration {
        if self.patient { PATIENT_PAUSE_MAX } else { PAUSE_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(3);

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Next> = (0..9).map(|_| backoff.ended(SHORT, true)).collect();
        let ms = [0, 100, 200, 400, 800, 1600, 2000, 2000, 2000];
        assert_eq!(pauses, ms.map(|ms| Next::StartAfter(Duration::from_millis(ms))));
        assert_eq!(backoff.ended(WELL, true), Next::StartAfter(Duration::ZERO));
    }

    #[test]
    fn one_that_is_never_given_up_is_tried_less_and_less_often() {
        let mut backoff = Backoff::patient();
        let last = (0..20).map(|_| backoff.ended(SHORT, false)).last();
        assert_eq!(last, Some(Next::StartAfter(PATIENT_PAUSE_MAX)));
    }

    #[test]
    fn what_never_worked_is_given_up() {
        let mut backoff = Backoff::default();
        let last = (0..ATTEMPTS).map(|_| backoff.ended(SHORT, false)).last();
        assert_eq!(last, Some(Next::GiveUp));
    }
}
