//! How many processors compute pure functions at once, where those who bring requests and take answers need processors too.
//! Pure.
//!
//! ```text
//!  requests ──▶ wait for an engine ──▶ run ──▶ answers wait for an event loop ──▶
//!                     │                 │                  │
//!                     ╰──── summed over a period: how many there were of each, on average ────╮
//!       answers wait, and the runs would fit on one processor less, several periods in a row ─┴─▶ one less
//!       requests wait far more than answers, or the runs fill the half of what there is, or hardly any answer waits ─▶ one more
//! ```
//!
//! The sum of what requests wait in a period, by its length, is how many wait on average: the queue's length, which is its
//! growth since the beginning. Where clients wait for their answers before they ask again, queues grow and shrink by
//! turns, and only their lengths say anything.
//!
//! It is asked whenever a run is over, and has no time of its own: an idle node has none either.

use std::ops::RangeInclusive;

/// Nanoseconds after which it decides.
pub const PERIOD: u64 = 20_000_000;
/// So many periods have to say that fewer would do. One is enough for more.
pub const PATIENCE: u32 = 5;
/// So many times as much as answers do requests wait where more processors would help. Less says only that a loop brings them in
/// batches, which an engine that is not full works off before the next one.
const OUTWEIGH: u128 = 6;
/// After so many periods without a run what was known is forgotten.
const FORGOTTEN: u64 = 5;

/// One run, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How long it waited for its engine.
    pub waited: u64,
    pub took: u64,
    /// How long its answer waited for an event loop.
    pub answered: u64,
}

/// The processors of one PU.
#[derive(Clone, Debug)]
pub struct Balance {
    processors: u32,
    computing: u32,
    /// Since when runs are summed.
    since: u64,
    sum: Run,
    /// Periods in a row in which fewer would have done.
    in_a_row: u32,
}

impl Balance {
    /// All of them may compute.
    pub fn new(processors: u32) -> Self {
        let processors = processors.max(1);
        Self { processors, computing: processors, since: 0, sum: Run::default(), in_a_row: 0 }
    }

    /// How many compute at once, at most.
    pub fn computing(&self) -> u32 {
        self.computing
    }

    /// A run is over, at `now`.
    pub fn note(&mut self, now: u64, run: Run) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= PERIOD {
            self.decide(elapsed);
            (self.since, self.sum) = (now, Run::default());
        }
        let Run { waited, took, answered } = &mut self.sum;
        *waited = waited.saturating_add(run.waited);
        *took = took.saturating_add(run.took);
        *answered = answered.saturating_add(run.answered);
    }

    fn decide(&mut self, elapsed: u64) {
        if elapsed >= FORGOTTEN * PERIOD {
            (self.computing, self.in_a_row) = (self.processors, 0);
            return;
        }
        match self.verdict(elapsed) {
            Verdict::More => (self.computing, self.in_a_row) = (self.processors.min(self.computing + 1), 0),
            Verdict::Same => self.in_a_row = 0,
            Verdict::Fewer => self.in_a_row += 1,
        }
        if self.in_a_row == PATIENCE {
            (self.computing, self.in_a_row) = (self.computing - 1, 0);
        }
    }

    fn verdict(&self, elapsed: u64) -> Verdict {
        // Sums of at most a few seconds each for some thousands of requests.
        let [waited, took, answered] = [self.sum.waited, self.sum.took, self.sum.answered].map(u128::from);
        let [elapsed, processors, computing] = [elapsed, self.processors.into(), self.computing.into()].map(u128::from);
        let fills_half = 2 * took > computing * elapsed;
        let few_answers = 4 * answered < processors * elapsed;
        if waited > OUTWEIGH * answered || fills_half || few_answers {
            return Verdict::More;
        }
        let for_each_loop = answered >= processors * elapsed;
        let fits = computing > 1 && 5 * took <= 2 * (computing - 1) * elapsed;
        if for_each_loop && 2 * answered > waited && fits { Verdict::Fewer } else { Verdict::Same }
    }

    /// What it may be.
    pub fn range(&self) -> RangeInclusive<u32> {
        1..=self.processors
    }
}

enum Verdict {
    More,
    Same,
    Fewer,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One period in which so many requests wait for engines, so many processors compute, and so many answers wait: in hundredths.
    fn period(balance: &mut Balance, now: &mut u64, [waited, took, answered]: [u64; 3]) -> u32 {
        let share = |hundredths: u64| hundredths * (PERIOD / 100);
        let run = Run { waited: share(waited), took: share(took), answered: share(answered) };
        balance.note(*now, run);
        *now += PERIOD;
        balance.note(*now, Run::default());
        balance.computing()
    }

    fn periods(balance: &mut Balance, now: &mut u64, count: u32, load: [u64; 3]) -> u32 {
        (0..count).map(|_| period(balance, now, load)).last().unwrap_or(balance.computing())
    }

    /// On two processors, as it was measured with the number fixed: 1×1 is better off with one, the others with both.
    #[test]
    fn loads_get_the_processors_that_serve_them_best() {
        let (mut two, mut now) = (Balance::new(2), 1_000_000_000);
        let mut after = |count, load| periods(&mut two, &mut now, count, load);
        assert_eq!(after(50, [14, 15, 20]), 2, "1×1 by one client");
        assert_eq!(after(PATIENCE, [344, 30, 468]), 1, "1×1 by 16 clients, both processors");
        assert_eq!(after(50, [391, 25, 370]), 1, "the same, one processor");
        assert_eq!(after(50, [460, 32, 230]), 1, "the same on a faster machine");
        assert_eq!(after(1, [645, 52, 395]), 2, "32×32 by 16 clients, one processor");
        assert_eq!(after(50, [347, 53, 483]), 2, "the same, both");
        assert_eq!(after(50, [1311, 176, 27]), 2, "128×128 by 16 clients");
        assert_eq!(after(50, [933, 188, 170]), 2, "1×1 in processes by 16 clients");
        assert_eq!(after(PATIENCE, [320, 26, 300]), 1, "1×1 by 16 clients on the faster machine");
    }

    #[test]
    fn whoever_computes_gets_all_processors_while_nothing_waits_for_loops() {
        let (mut balance, mut now) = (Balance::new(64), 1_000_000_000);
        let least = periods(&mut balance, &mut now, PATIENCE * 70, [100, 45, 20_000]);
        assert_eq!(least, 2, "the runs fit, and do not fill the half");
        let mut least = least;
        for _ in 0..62 {
            let more = period(&mut balance, &mut now, [3000, 100, 0]);
            assert_eq!(more, least + 1, "one in each period");
            least = more;
        }
        assert_eq!(periods(&mut balance, &mut now, 100, [3000, 6400, 0]), 64);
    }

    #[test]
    fn what_was_known_is_forgotten_after_a_pause() {
        let (mut balance, mut now) = (Balance::new(8), 1_000_000_000);
        assert!(periods(&mut balance, &mut now, PATIENCE * 8, [100, 5, 2000]) < 8);
        balance.note(now + FORGOTTEN * PERIOD, Run::default());
        assert_eq!(balance.computing(), 8);
        // Times of another machine's clock, or of an engine that lies.
        balance.note(0, Run { waited: u64::MAX, took: u64::MAX, answered: u64::MAX });
        balance.note(u64::MAX, Run { waited: u64::MAX, took: u64::MAX, answered: u64::MAX });
        assert_eq!(balance.computing(), 8);
    }

    /// Whatever the load: ten thousand periods drawn from a fixed seed, on machines of all sizes.
    #[test]
    fn it_stays_in_its_range_and_moves_step_by_step() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for processors in [1, 2, 3, 16, 128] {
            let (mut balance, mut now) = (Balance::new(processors), 1_000_000_000);
            let (mut computing, mut fewer_at) = (processors, 0);
            let mut load = [0; 3];
            for at in 1..2000_u32 {
                if draw(8) == 0 {
                    load = [draw(400), draw(u64::from(processors) * 100), draw(u64::from(processors) * 400)];
                }
                let next = period(&mut balance, &mut now, load);
                assert!(balance.range().contains(&next) && next.abs_diff(computing) <= 1);
                if next < computing {
                    assert!(at - fewer_at >= PATIENCE, "no faster than that");
                    fewer_at = at;
                    assert!(2 * load[2] > load[0], "what computes is not taken from");
                }
                if next == computing && next < processors {
                    let [waited, took, answered] = load;
                    assert!(waited <= 6 * answered && 2 * took <= 100 * u64::from(next), "work-conserving");
                }
                computing = next;
            }
        }
    }
}
