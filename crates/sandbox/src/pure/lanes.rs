//! Whose turn it is to compile: one at a time, but what takes long goes out of the others' way.
//!
//! There is a place for what is done soon and one for what is not. Everybody begins in the first. Who is not done after
//! [`SOON`] moves on to the second; if somebody is there already, he is to stop, wait for it, and begin again.

use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Most programs are compiled in a fraction of it.
const SOON: Duration = Duration::from_secs(2);
/// How long who is in the second place may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Lanes {
    soon: Semaphore,
    long: Semaphore,
}

/// Somebody's turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    lanes: &'a Lanes,
    place: SemaphorePermit<'a>,
    is_long: bool,
}

/// Why a turn is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Others are to go first: [`Lanes::long`] is the next turn.
    InTheWay,
    TooLong,
}

async fn enter(place: &Semaphore) -> SemaphorePermit<'_> {
    place.acquire().await.expect("places are never closed")
}

impl Default for Lanes {
    fn default() -> Self {
        Self { soon: Semaphore::new(1), long: Semaphore::new(1) }
    }
}

impl Lanes {
    /// The first turn.
    pub async fn soon(&self) -> Turn<'_> {
        Turn { lanes: self, place: enter(&self.soon).await, is_long: false }
    }

    /// The turn of who was in the way.
    pub async fn long(&self) -> Turn<'_> {
        Turn { lanes: self, place: enter(&self.long).await, is_long: true }
    }
}

impl Turn<'_> {
    /// Waits until the turn is over.
    pub async fn over(&mut self) -> Over {
        if !self.is_long {
            tokio::time::sleep(SOON).await;
            let Ok(place) = self.lanes.long.try_acquire() else { return Over::InTheWay };
            self.place = place;
            self.is_long = true;
        }
        tokio::time::sleep(PATIENCE).await;
        Over::TooLong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// Compiles for so long, as `compile` does it; when it was done, or given up.
    async fn compile(lanes: &Lanes, takes: Duration) -> (bool, Duration) {
        let begun = Instant::now();
        let mut turn = lanes.soon().await;
        loop {
            let over = tokio::select! {
                over = turn.over() => over,
                () = tokio::time::sleep(takes) => return (true, begun.elapsed()),
            };
            drop(turn);
            if over == Over::TooLong {
                return (false, begun.elapsed());
            }
            turn = lanes.long().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_holds_up_its_like_alone() {
        let (lanes, short, long) = (Lanes::default(), Duration::from_millis(100), Duration::from_secs(60));
        let work = async |takes| compile(&lanes, takes).await;
        let (endless, first, second, third) =
            tokio::join!(work(Duration::MAX), work(long), work(short), work(Duration::from_secs(1)));
        assert_eq!(endless, (false, SOON + PATIENCE));
        assert_eq!(second, (true, SOON + SOON + short), "each of those before it was in its way for a moment");
        assert_eq!(third, (true, SOON + SOON + short + Duration::from_secs(1)));
        assert_eq!(first, (true, SOON + PATIENCE + long), "begun again when the endless one had ended");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_is_not_interrupted() {
        let lanes = Lanes::default();
        assert_eq!(compile(&lanes, PATIENCE).await, (true, PATIENCE));
    }
}
