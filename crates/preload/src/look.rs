//! Looking for something for a while, before sleeping until it comes.

use crate::env::settings;
use crate::kernel;
use crate::turn::{self, Turn};
use interconnect::turns::Turns;
use interconnect::waking;
use socket::wait::{Look, Patience};
use std::cell::Cell;

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::new()) };
    /// Of those who send and wait for receivers to keep up.
    static PACE: Cell<Patience> = const { Cell::new(Patience::new()) };
    static TURNS: Cell<Turns> = const { Cell::new(Turns::new()) };
}

/// Looks between two readings of the clock, at so many things at once.
fn looks(things: usize) -> usize {
    (64 / things.max(1)).max(1)
}

/// How long to look at most: what the program's user says, or what being woken is seen to take.
fn most() -> u64 {
    settings().look.unwrap_or_else(waking::limit)
}

/// A wait that has begun.
pub struct Wait {
    /// Or since the other end was last seen at work.
    began: u64,
    /// This thread sleeps, or was not told yet why it does no more.
    sleep: Option<waking::Sleep>,
    /// What it took to be woken.
    waking: u64,
}

impl Wait {
    pub fn begin() -> Self {
        Self { began: kernel::now(), sleep: None, waking: 0 }
    }

    /// Whether this thread's waits are short, so that a first look at one costs less than to ask the clock, and who is where.
    pub fn is_short() -> bool {
        let cap = most();
        cap > 0 && with(|patience| patience.is_short(cap))
    }

    /// The first looks of a wait, at so many things, without a clock: whether it was there.
    pub fn glance(things: usize, mut there: impl FnMut() -> bool) -> bool {
        (0..looks(things)).any(|_| {
            std::hint::spin_loop();
            there()
        })
    }

    /// How long to look, in nanoseconds. Not at all if `together`: then whoever is waited for needs this processor.
    pub fn budget(together: bool) -> u64 {
        let cap = most();
        if together || cap == 0 || !turn::may_look() { 0 } else { with(|patience| patience.budget(cap)) }
    }

    /// The same where the other end has much to do before it can answer: who sleeps then stops it to be woken, and both take turns.
    pub fn long_budget(together: bool) -> u64 {
        if together || !turn::may_look() { 0 } else { most() }
    }

    /// Looks at so many things until `there` says yes, or the time is over: whether it did. `work` is a number that changes
    /// while the other end goes on with what it was sent. Whoever was woken and needs this processor goes first ([`turn`]).
    pub fn look(
        &mut self,
        budget: u64,
        things: usize,
        mut work: impl FnMut() -> u64,
        mut there: impl FnMut() -> bool,
    ) -> bool {
        if budget == 0 {
            return false;
        }
        let mut look = Look::new(self.began, work());
        let mut given = 0;
        loop {
            for _ in 0..looks(things) {
                if there() {
                    return true;
                }
                std::hint::spin_loop();
            }
            match turn::give() {
                Turn::Ours => {}
                // By whom what is looked for was brought on its way, perhaps.
                Turn::Given => given += 1,
                Turn::Theirs => return there(),
            }
            let goes_on = look.goes_on(kernel::now(), work().wrapping_add(given), budget);
            self.began = look.since;
            if !goes_on {
                return false;
            }
        }
    }

    /// Looks, and lets whoever is waited for run before this thread sleeps, if he shares this processor, as `together` says.
    pub fn seek(&mut self, budget: u64, together: bool, things: usize, mut there: impl FnMut() -> bool) -> bool {
        self.look(budget, things, || 0, &mut there) || Self::give_turn(together, || there().then_some(0))
    }

    /// Lets whoever is waited for run, if he shares this processor, and this thread's waits are short: whether something has come then. When it was
    /// sent `come` says, in the processor's ticks; 0: that is not known.
    pub fn give_turn(together: bool, come: impl FnOnce() -> Option<u64>) -> bool {
        let mut turns = TURNS.get();
        let due = together && Self::is_short() && turns.is_due();
        let came = due && turns.give(come).came;
        TURNS.set(turns);
        came
    }

    /// The thread sleeps now.
    pub fn sleep(&mut self) {
        self.sleep = Some(waking::Sleep::begin());
    }

    /// It does no more: what has come was sent at `sent_at`, in the processor's ticks, as the other end says; 0: that is not known.
    pub fn wake(&mut self, sent_at: u64) {
        let Some(sleep) = self.sleep.take() else { return };
        self.waking += match sleep.end(sent_at) {
            Some(woken) => {
                waking::learn(woken.took);
                woken.took
            }
            None => most() / 2,
        };
    }

    /// What was waited for is there.
    pub fn end(mut self) {
        self.wake(0);
        let cap = most().max(1);
        // Who had to be woken would not have had to look for as long as he has waited.
        let waited = (kernel::now() - self.began).saturating_sub(self.waking);
        with(|patience| patience.learn(waited, cap));
    }
}

/// Looks until a receiver has caught up, while that pays: whether it has. Not at all if it needs this processor.
pub fn pace(together: bool, waits: bool, mut there: impl FnMut() -> bool) -> bool {
    let cap = most();
    if together || cap == 0 {
        return false;
    }
    let mut patience = PACE.get();
    let budget = patience.budget(cap) / if waits { 1 } else { 4 };
    let mut caught_up = false;
    if budget > 0 {
        let mut wait = Wait::begin();
        caught_up = wait.look(budget, 1, || 0, &mut there);
        // Who does not keep up may not be at work at all.
        let took = if caught_up { kernel::now() - wait.began } else { u64::MAX };
        patience.learn(took, cap);
    }
    PACE.set(patience);
    caught_up
}

fn with<T>(act: impl FnOnce(&mut Patience) -> T) -> T {
    PATIENCE.with(|cell| {
        let mut patience = cell.get();
        let result = act(&mut patience);
        cell.set(patience);
        result
    })
}
