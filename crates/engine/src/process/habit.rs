//! How much of its heap a program touches, by how long its inputs are: pages that are had all at once, before it begins, need
//! no fault each.
//!
//! What it touches the kernel counts: a run's faults, less those by which pages were had ahead. Now and then one has no pages
//! beforehand, so that a program that has come to need less is seen to.

use crate::native::layout::PAGE;

/// Powers of two of bytes.
const CLASSES: usize = 64;
/// Faults that every run has: its program, its stack, what it was given.
const USUAL: u64 = 8;
/// Fewer are not worth a system call, more wait to be touched.
const PAGES_LEAST: u64 = 8;
const PAGES_MOST: u64 = 1024;
/// One run in so many begins without.
const ANEW: u32 = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Habit {
    runs: u32,
    /// Pages at the heap's beginning.
    pages: u64,
    /// Faults of a run that had none beforehand.
    bare: u64,
    /// It touches others than the first.
    elsewhere: bool,
}

/// Those of one program.
#[derive(Debug)]
pub struct Habits([Habit; CLASSES]);

impl Default for Habits {
    fn default() -> Self {
        Self([Habit::default(); CLASSES])
    }
}

impl Habits {
    fn of(&mut self, inputs: u64) -> &mut Habit {
        &mut self.0[inputs.max(1).ilog2() as usize]
    }

    /// Bytes at the heap's beginning that a run with so many bytes of inputs is to find there.
    pub fn expected(&mut self, inputs: u64) -> u64 {
        let habit = self.of(inputs);
        if habit.elsewhere || habit.runs.is_multiple_of(ANEW) { 0 } else { habit.pages * PAGE }
    }

    /// A run that found so many bytes there has had so many faults, without those for these.
    pub fn learn(&mut self, inputs: u64, found: u64, faults: u64) {
        let habit = self.of(inputs);
        habit.elsewhere &= !habit.runs.is_multiple_of(ANEW);
        habit.runs = habit.runs.wrapping_add(1);
        let beyond = faults.saturating_sub(USUAL);
        if found == 0 {
            (habit.bare, habit.pages) = (faults, beyond);
        } else if faults > habit.bare / 4 * 3 {
            habit.elsewhere = true;
        } else {
            habit.pages = (found / PAGE + beyond).max(habit.pages);
        }
        habit.pages = if habit.pages < PAGES_LEAST { 0 } else { habit.pages.min(PAGES_MOST) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of a program that touches so many pages of its heap.
    fn run(habits: &mut Habits, inputs: u64, touches: u64) -> u64 {
        let found = habits.expected(inputs);
        let faults = 6 + touches.saturating_sub(found / PAGE);
        habits.learn(inputs, found, faults);
        faults
    }

    #[test]
    fn faults_become_few() {
        let mut habits = Habits::default();
        assert_eq!(run(&mut habits, 1000, 100), 106);
        assert!(run(&mut habits, 600, 100) <= USUAL);
        assert_eq!(run(&mut habits, 2000, 100), 106, "of other lengths nothing is known");
        assert!(run(&mut habits, 1000, 120) > USUAL);
        assert!(run(&mut habits, 1000, 120) <= USUAL);
        assert_eq!(habits.expected(0), 0);
        run(&mut habits, u64::MAX, 1 << 20);
        assert_eq!(habits.expected(u64::MAX), PAGES_MOST * PAGE);
    }

    #[test]
    fn what_is_needed_no_more_is_forgotten() {
        let mut habits = Habits::default();
        run(&mut habits, 1, 100);
        (0..ANEW).for_each(|_| _ = run(&mut habits, 1, 1));
        assert_eq!(habits.expected(1), 0);
    }

    #[test]
    fn pages_that_are_not_touched_are_not_had() {
        let mut habits = Habits::default();
        // It uses its heap from behind.
        habits.learn(1, 0, 200);
        let found = habits.expected(1);
        assert!(found > 0);
        habits.learn(1, found, 200);
        assert_eq!(habits.expected(1), 0);
        habits.learn(1, 0, 200);
        assert_eq!(habits.expected(1), 0, "for a while");
    }
}
