//! How long the runs of a pure function take by habit, and so which engine they are for.
//!
//! Each processor has an engine for short runs and, where there are some, one for long runs: an engine runs one request after
//! the other, each to its end, and whoever is done in microseconds would wait for milliseconds. The kernel lets the engine of
//! short runs go first. A function whose runs were in the way of others' long ones has an engine of its own ([`super::aside`]).
//!
//! What a run takes is known by what those before have taken, of the same function and of requests of about the same size. One
//! run alone says nothing: its engine may have waited for its processor.

use super::engines::learn;
use sandbox::spec::EngineClass;

/// Nanoseconds from which on runs are long ones, and below which long ones have become short.
const LONG: u64 = 1_000_000;
const SHORT: u64 = 500_000;
/// And below which those that had engines of their own go to the others' again.
const SHARED: u64 = 50_000_000;
/// So many in a row say that something has changed.
const RUNS: u8 = 8;

/// Which engines runs are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Length {
    #[default]
    Short,
    Long,
    /// The function's own.
    Own,
}

impl Length {
    pub const ALL: [Self; 3] = [Self::Short, Self::Long, Self::Own];

    pub fn of(class: EngineClass) -> Self {
        match class {
            EngineClass::Short => Self::Short,
            EngineClass::Long => Self::Long,
            EngineClass::Own(_) => Self::Own,
        }
    }

    /// What is nearest to it and not as long.
    pub fn less(self) -> Self {
        match self {
            Self::Short | Self::Long => Self::Short,
            Self::Own => Self::Long,
        }
    }
}

/// Of one function.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// By how many bits it takes to write the request's length. There are few: a program is asked much the same as a rule.
    by_size: Vec<(u32, Habit)>,
}

/// Of requests of about one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Habit {
    /// What a run takes of an engine, in nanoseconds, as the last few did.
    pub typical: u64,
    pub length: Length,
    /// Runs in a row that say otherwise.
    against: u8,
}

fn size(bytes: usize) -> u32 {
    usize::BITS - bytes.leading_zeros()
}

impl Habits {
    /// What is expected of a request of so many bytes: what those of the nearest size did.
    pub fn of(&self, bytes: usize) -> Habit {
        let wanted = size(bytes);
        let nearest = self.by_size.iter().min_by_key(|(size, _)| size.abs_diff(wanted));
        nearest.map_or_else(Habit::default, |(_, habit)| *habit)
    }

    /// A run on a request of so many bytes takes so many nanoseconds at least, and was in the way: it is for those engines
    /// without seven others like it.
    pub fn learn_length(&mut self, bytes: usize, takes: u64, length: Length) {
        let habit = self.known(bytes);
        habit.typical = habit.typical.max(takes);
        (habit.length, habit.against) = (length, 0);
    }

    /// A run on a request of so many bytes took so many nanoseconds. What is expected of the next one.
    pub fn learn(&mut self, bytes: usize, took: u64) -> Habit {
        let habit = self.known(bytes);
        habit.learn(took);
        *habit
    }

    fn known(&mut self, bytes: usize) -> &mut Habit {
        let size = size(bytes);
        let at = self.by_size.iter().position(|(known, _)| *known == size).unwrap_or_else(|| {
            self.by_size.push((size, Habit::default()));
            self.by_size.len() - 1
        });
        &mut self.by_size[at].1
    }
}

impl Habit {
    fn learn(&mut self, took: u64) {
        self.typical = learn(self.typical, took);
        let (differs, else_for) = match self.length {
            Length::Short => (took >= LONG, Length::Long),
            Length::Long => (took < SHORT, Length::Short),
            Length::Own => (took < SHARED, Length::Long),
        };
        self.against = if differs { self.against + 1 } else { 0 };
        if self.against == RUNS {
            (self.length, self.against) = (else_for, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_is_no_habit() {
        let mut habits = Habits::default();
        assert_eq!(habits.of(100), Habit::default());
        let nearly = [9 * LONG; RUNS as usize - 1];
        for took in nearly.into_iter().chain([20_000]).chain(nearly) {
            assert_eq!(habits.learn(100, took).length, Length::Short);
        }
        assert_eq!(habits.learn(100, LONG).length, Length::Long);
        for took in [SHORT - 1; RUNS as usize - 1].into_iter().chain([SHORT]) {
            assert_eq!(habits.learn(100, took).length, Length::Long, "what is neither long nor short stays as it was");
        }
        let mut after = |took, runs| (0..runs).map(|_| habits.learn(100, took).length).last();
        assert_eq!([after(1, RUNS - 1), after(1, 1)], [Some(Length::Long), Some(Length::Short)]);
    }

    #[test]
    fn one_that_was_in_the_way_is_enough() {
        let mut habits = Habits::default();
        habits.learn_length(100, 50 * LONG, Length::Long);
        assert_eq!(habits.of(100), Habit { typical: 50 * LONG, length: Length::Long, against: 0 });
        habits.learn_length(100, 200 * LONG, Length::Own);
        let mut after = |took, runs| (0..runs).map(|_| habits.learn(100, took).length).last();
        assert_eq!(after(SHARED, 2 * RUNS), Some(Length::Own));
        assert_eq!([after(SHARED - 1, RUNS - 1), after(SHARED - 1, 1)], [Some(Length::Own), Some(Length::Long)]);
        assert_eq!(after(SHARED - 1, 2 * RUNS), Some(Length::Long), "and there it stays");
        assert_eq!(after(1, RUNS), Some(Length::Short));
        assert_eq!(after(u64::MAX, 3 * RUNS), Some(Length::Long), "by habit alone nobody has an engine of his own");
    }

    #[test]
    fn large_requests_take_as_long_as_those_of_about_their_size() {
        let mut habits = Habits::default();
        (0..RUNS).for_each(|_| _ = habits.learn(200_000, 3 * LONG));
        assert_eq!(habits.of(0).length, Length::Long, "nothing else is known");
        habits.learn(8, 10_000);
        let long = |bytes| habits.of(bytes).length == Length::Long;
        assert_eq!([0, 8, 500, 180_000, 262_143, 10 << 20].map(long), [false, false, false, true, true, true]);
        assert!(habits.of(9).typical <= 10_000 && habits.of(250_000).typical > LONG);
    }
}
