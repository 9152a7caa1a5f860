//! Looking for something for a while, before sleeping until it comes.

use crate::env::settings;
use crate::kernel;
use socket::wait::Patience;
use std::cell::Cell;

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::new()) };
}

/// Looks between two readings of the clock.
const LOOKS: u32 = 64;

/// A wait that has begun.
pub struct Wait {
    began: u64,
}

impl Wait {
    pub fn begin() -> Self {
        Self { began: kernel::now() }
    }

    /// How long to look, in nanoseconds. Not at all if `together`: then whoever is waited for needs this processor.
    pub fn budget(together: bool) -> u64 {
        let cap = settings().look;
        if together || cap == 0 { 0 } else { with(|patience| patience.budget(cap)) }
    }

    /// Looks until `there` says yes, or the time is over: whether it did.
    pub fn look(&self, budget: u64, mut there: impl FnMut() -> bool) -> bool {
        if budget == 0 {
            return false;
        }
        loop {
            for _ in 0..LOOKS {
                if there() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if kernel::now() - self.began >= budget {
                return false;
            }
        }
    }

    /// What was waited for is there.
    pub fn end(self) {
        let waited = kernel::now() - self.began;
        with(|patience| patience.learn(waited, settings().look.max(1)));
    }
}

fn with<T>(act: impl FnOnce(&mut Patience) -> T) -> T {
    PATIENCE.with(|cell| {
        let mut patience = cell.get();
        let result = act(&mut patience);
        cell.set(patience);
        result
    })
}
