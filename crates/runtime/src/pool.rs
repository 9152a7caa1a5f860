//! The instances of one function, and the requests that wait for one: who serves next.
//!
//! ```text
//!            ╭── stem ──╮                        requests that find none of these wait in a queue, first come first
//!  start ────┤          ├──► busy ──► idle       served; an instance that becomes free goes to the first of them
//!            ╰──────────╯      ▲        │
//!                              ╰────────╯
//! ```
//!
//! Idle instances are used last in, first out: those not needed stay unused, and so are known by their age. Pure: what an
//! instance and a waiting request are is the caller's business, and so is ending what is taken out.

use crate::dispatch::StartKind;
use std::collections::VecDeque;

/// So many kinds of instances are told apart where one is chosen of many.
const KINDS: usize = 8;
/// A queue so short is not swept.
const SHORT: usize = 64;

/// A request that waits.
pub trait Waiting {
    /// Whether nobody wants its answer any more.
    fn is_gone(&self) -> bool;
}

/// `I` is an instance, `W` a waiting request; instances of the same `K` are alike to whoever chooses.
#[derive(Debug)]
pub struct Pool<I, W, K = ()> {
    /// By the time since when they are idle, ascending.
    idle: VecDeque<Idle<I, K>>,
    stems: VecDeque<I>,
    queue: VecDeque<W>,
    /// How long the queue becomes before those who have gone are taken out of it.
    swept_at: usize,
    busy: u32,
}

#[derive(Debug)]
struct Idle<I, K> {
    instance: I,
    since: u64,
    kind: K,
}

impl<I, W, K> Default for Pool<I, W, K> {
    fn default() -> Self {
        Self { idle: VecDeque::new(), stems: VecDeque::new(), queue: VecDeque::new(), swept_at: SHORT, busy: 0 }
    }
}

impl<I, W: Waiting, K: Copy + PartialEq> Pool<I, W, K> {
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    pub fn stems(&self) -> usize {
        self.stems.len()
    }

    pub fn busy(&self) -> u32 {
        self.busy
    }

    /// Requests that wait; of those that have gone, some may be counted.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether a request waits.
    pub fn is_awaited(&mut self) -> bool {
        while self.queue.front().is_some_and(Waiting::is_gone) {
            self.queue.pop_front();
        }
        !self.queue.is_empty()
    }

    /// Since when instances are idle, the oldest first.
    pub fn idle_since(&self) -> impl Iterator<Item = u64> {
        self.idle.iter().map(|idle| idle.since)
    }

    /// Since when the instance is idle that has been so for longest.
    pub fn oldest_idle(&self) -> Option<u64> {
        self.idle_since().next()
    }

    /// An instance for a request: it counts as busy until it is put back or gone.
    pub fn take(&mut self) -> Option<(I, StartKind)> {
        let warm = self.idle.pop_back().map(|idle| (idle.instance, StartKind::Warm));
        let taken = warm.or_else(|| Some((self.stems.pop_front()?, StartKind::Stem)))?;
        self.busy += 1;
        Some(taken)
    }

    /// The same among those of which `is` holds: idle ones.
    pub fn take_idle(&mut self, is: impl Fn(&I) -> bool) -> Option<(I, StartKind)> {
        let at = self.idle.iter().rposition(|idle| is(&idle.instance))?;
        self.take_at(at)
    }

    /// The idle one for which this is least, if there is one for which it is something; of those that are alike, the last in.
    /// Of each kind it is asked for one: there are many, and few kinds.
    pub fn take_nearest(&mut self, distance: impl Fn(&I) -> Option<u64>) -> Option<(I, StartKind)> {
        let (mut seen, mut kinds) = ([None; KINDS], 0);
        let mut nearest: Option<(u64, usize)> = None;
        for (at, idle) in self.idle.iter().enumerate().rev() {
            if seen[..kinds].contains(&Some(idle.kind)) {
                continue;
            }
            if kinds < KINDS {
                seen[kinds] = Some(idle.kind);
                kinds += 1;
            }
            if let Some(distance) = distance(&idle.instance)
                && nearest.is_none_or(|(least, _)| distance < least)
            {
                nearest = Some((distance, at));
            }
        }
        self.take_at(nearest?.1)
    }

    fn take_at(&mut self, at: usize) -> Option<(I, StartKind)> {
        let idle = self.idle.remove(at)?;
        self.busy += 1;
        Some((idle.instance, StartKind::Warm))
    }

    /// The same among those of which `is` holds: stems.
    pub fn take_stem(&mut self, is: impl Fn(&I) -> bool) -> Option<(I, StartKind)> {
        let stem = self.stems.remove(self.stems.iter().position(is)?)?;
        self.busy += 1;
        Some((stem, StartKind::Stem))
    }

    /// Instances that have served and wait, the one that has waited for longest first.
    pub fn idle_ones(&self) -> impl Iterator<Item = &I> {
        self.idle.iter().map(|idle| &idle.instance)
    }

    /// Instances that have served nobody and wait.
    pub fn stem_ones(&self) -> impl Iterator<Item = &I> {
        self.stems.iter()
    }

    /// Appends a request to the queue.
    pub fn enqueue(&mut self, request: W) {
        if self.queue.len() >= self.swept_at {
            self.queue.retain(|request| !request.is_gone());
            self.swept_at = SHORT.max(2 * self.queue.len());
        }
        self.queue.push_back(request);
    }

    /// The request that has waited for longest.
    pub fn dequeue(&mut self) -> Option<W> {
        self.is_awaited().then(|| self.queue.pop_front()).flatten()
    }

    /// An instance that was started for a request has become busy.
    pub fn adopt(&mut self) {
        self.busy += 1;
    }

    /// A busy instance has ended.
    pub fn gone(&mut self) {
        self.busy -= 1;
    }

    /// A busy instance is free at `now`: it is idle from now on, or stays busy for the request that is returned with it.
    pub fn put(&mut self, instance: I, since: u64, kind: K) -> Option<(W, I)> {
        if let Some(request) = self.dequeue() {
            return Some((request, instance));
        }
        self.busy -= 1;
        self.idle.push_back(Idle { instance, since, kind });
        None
    }

    /// A stem is ready: kept, or busy from now on for the request that is returned with it.
    pub fn put_stem(&mut self, instance: I) -> Option<(W, I)> {
        if let Some(request) = self.dequeue() {
            self.busy += 1;
            return Some((request, instance));
        }
        self.stems.push_back(instance);
        None
    }

    /// Takes out what has been idle for longest.
    pub fn retire_idle(&mut self) -> Option<I> {
        self.idle.pop_front().map(|idle| idle.instance)
    }

    /// Takes out the oldest stem.
    pub fn retire_stem(&mut self) -> Option<I> {
        self.stems.pop_front()
    }

    /// Takes out the first waiting instance, idle or stem, of which `is` holds.
    pub fn remove(&mut self, is: impl Fn(&I) -> bool) -> Option<I> {
        if let Some(at) = self.idle.iter().position(|idle| is(&idle.instance)) {
            return self.idle.remove(at).map(|idle| idle.instance);
        }
        let at = self.stems.iter().position(is)?;
        self.stems.remove(at)
    }

    /// Takes out all waiting instances, idle ones and stems, of which `is` holds.
    pub fn clear_where(&mut self, is: impl Fn(&I) -> bool) -> Vec<I> {
        let mut cleared = Vec::new();
        let (idle, stems) = (std::mem::take(&mut self.idle), std::mem::take(&mut self.stems));
        for idle in idle {
            match is(&idle.instance) {
                true => cleared.push(idle.instance),
                false => self.idle.push_back(idle),
            }
        }
        for instance in stems {
            match is(&instance) {
                true => cleared.push(instance),
                false => self.stems.push_back(instance),
            }
        }
        cleared
    }

    /// Takes out all waiting instances, idle ones and stems.
    pub fn clear(&mut self) -> impl Iterator<Item = I> {
        self.idle.drain(..).map(|idle| idle.instance).chain(self.stems.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestPool = Pool<u32, &'static str, u32>;

    impl Waiting for &str {
        fn is_gone(&self) -> bool {
            self.starts_with("gone")
        }
    }

    #[test]
    fn the_last_in_is_the_first_out_and_stems_come_after() {
        let mut pool = TestPool::default();
        assert!(pool.put_stem(9).is_none());
        for instance in [1, 2] {
            pool.adopt();
            assert!(pool.put(instance, instance.into(), 0).is_none());
        }
        assert_eq!(pool.oldest_idle(), Some(1));
        assert_eq!(pool.take(), Some((2, StartKind::Warm)));
        assert_eq!(pool.take(), Some((1, StartKind::Warm)));
        assert_eq!(pool.take(), Some((9, StartKind::Stem)));
        assert_eq!((pool.take(), pool.busy()), (None, 3));
    }

    #[test]
    fn a_free_instance_goes_to_the_first_in_the_queue() {
        let mut pool = TestPool::default();
        pool.enqueue("a");
        pool.enqueue("b");
        pool.adopt();
        assert_eq!(pool.put(1, 0, 0), Some(("a", 1)));
        assert_eq!(pool.put_stem(2), Some(("b", 2)));
        assert_eq!((pool.busy(), pool.idle(), pool.stems()), (2, 0, 0));
        pool.gone();
        assert!(pool.put(1, 0, 0).is_none());
        assert_eq!((pool.busy(), pool.idle()), (0, 1));
    }

    #[test]
    fn who_has_gone_is_passed_by_and_takes_no_room() {
        let mut pool = TestPool::default();
        let requests = ["gone 1", "gone 2", "a", "gone 3", "b", "gone 4"];
        requests.iter().for_each(|request| pool.enqueue(request));
        pool.adopt();
        assert!(pool.is_awaited());
        assert_eq!(pool.put(1, 0, 0), Some(("a", 1)));
        assert_eq!(pool.dequeue(), Some("b"));
        assert!(!pool.is_awaited());
        assert_eq!((pool.put(1, 0, 0), pool.busy(), pool.idle()), (None, 0, 1));
        pool.enqueue("a");
        (0..100_000).for_each(|_| pool.enqueue("gone"));
        assert!(pool.queued() <= SHORT, "{}", pool.queued());
        (0..1000).for_each(|_| pool.enqueue("b"));
        assert!((1001..1100).contains(&pool.queued()), "{}", pool.queued());
    }

    #[test]
    fn instances_can_be_chosen() {
        let mut pool = TestPool::default();
        for instance in 1..=4 {
            pool.adopt();
            pool.put(instance, instance.into(), instance % 4);
        }
        (5..=6).for_each(|stem| assert!(pool.put_stem(stem).is_none()));
        assert_eq!(pool.take_idle(|i| i % 2 == 1), Some((3, StartKind::Warm)), "the last in that suits");
        assert_eq!((pool.take_idle(|i| *i > 4), pool.take_stem(|i| *i == 6)), (None, Some((6, StartKind::Stem))));
        assert_eq!(pool.take_nearest(|i| (*i != 4).then_some(u64::from(i % 4))), Some((1, StartKind::Warm)));
        assert_eq!(pool.take_nearest(|_| Some(0)), Some((4, StartKind::Warm)), "the last in of all that are alike");
        assert_eq!(
            (pool.busy(), pool.take_nearest(|_| Some(0)).is_some(), pool.take_nearest(|_| Some(0))),
            (4, true, None)
        );
        pool.put(2, 2, 0);
        assert_eq!(pool.clear_where(|i| *i != 2), [5]);
        assert_eq!((pool.oldest_idle(), pool.idle(), pool.stems()), (Some(2), 1, 0));
    }

    #[test]
    fn of_each_kind_one_is_asked_however_many_there_are() {
        let mut pool = TestPool::default();
        for instance in 0..100 {
            pool.adopt();
            pool.put(instance, instance.into(), instance % 3);
        }
        let asked = std::cell::Cell::new(0);
        let distance = |instance: &u32| {
            asked.set(asked.get() + 1);
            (instance % 3 != 2).then_some(u64::from(instance % 3))
        };
        assert_eq!(pool.take_nearest(distance), Some((99, StartKind::Warm)));
        assert_eq!((pool.take_nearest(distance), asked.get()), (Some((96, StartKind::Warm)), 6));
        let mut pool = TestPool::default();
        for instance in 0..3 * KINDS as u32 {
            pool.adopt();
            pool.put(instance, 0, instance);
        }
        assert_eq!(
            pool.take_nearest(|i| Some(u64::from(*i))),
            Some((0, StartKind::Warm)),
            "more kinds than are told apart"
        );
    }

    #[test]
    fn waiting_instances_can_be_taken_out() {
        let mut pool = TestPool::default();
        for instance in 1..=3 {
            pool.adopt();
            pool.put(instance, 0, 0);
        }
        pool.put_stem(4);
        assert_eq!(pool.remove(|i| *i == 2), Some(2));
        assert_eq!(pool.remove(|i| *i == 4), Some(4));
        assert_eq!(pool.remove(|i| *i == 4), None);
        assert_eq!(pool.retire_idle(), Some(1));
        assert_eq!(pool.clear().collect::<Vec<_>>(), [3]);
    }
}
