//! Runs that are in the way of others.
//!
//! An engine runs one request after the other, each to its end, and knows by habit which take long ([`super::habits`]). Of a
//! function's first ones nobody knows, and least of all of one that never ends: whoever comes after it would wait until its time
//! is up. So a run is looked at now and then, and if somebody waits for its engine meanwhile, it is ended there and begun again by
//! an engine for long runs; and if it is in the way of another function's even there, by one of its own function's. It has no effects
//! but its outputs: of the first attempts nothing is left.
//!
//! Nor does who is done soon wait for one that goes on and on in an engine for long runs: it goes to one for short runs.

use super::Dispatcher;
use super::habits::Length;
use super::instance::Instance;
use super::node::Asked;
use super::post::Post;
use crate::templates::Phase;

/// Nanoseconds after which a run is looked at, again and again, and in which a few times the clock wakes up for that.
const LOOK: u64 = 50_000_000;
const TICKS: u64 = 4;
/// After which a run is in the way of long ones: twice as much for each other function that it would share its own engine with, and might
/// wait for without end, up to so many.
const FAR: u64 = 4 * LOOK;
const SHARERS_MAX: u32 = 8;
/// After which an engine for long runs that has not taken an instance in is busy with something longer.
pub(super) const START: u64 = 4 * LOOK;

/// When a run is looked at next; many of them at once.
pub(super) fn next_look(now: u64) -> u64 {
    (now + LOOK).next_multiple_of(LOOK / TICKS)
}

/// What was seen of a request when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// Whether its engine had taken it.
    taken: bool,
    /// For how long it had run by then, at least.
    took: u64,
    /// What its engine had run before; nothing as long as nobody has looked.
    runs: Option<u64>,
}

/// Where a request is better off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// With the engines that its habit is for by now, of longer runs.
    Longer,
    Short,
}

impl Dispatcher {
    /// Looks at a request that an engine was given.
    pub(super) fn look(&self, instance: &mut Instance, asked: Asked, last: &mut Look) -> Option<Aside> {
        let terms = instance.shared.terms;
        let mut state = self.state();
        if let (None, Some(processor)) = (&instance.engine, instance.processor) {
            instance.engine = state.engines.of(&terms, processor);
        }
        let engine = instance.engine.clone()?;
        let taken = instance.has_taken_request();
        let took = if last.taken { last.took + LOOK } else { 0 };
        let now = Look { taken, took, runs: Some(engine.runs()) };
        let before = std::mem::replace(last, now);
        let is_stuck = before.runs == now.runs;
        if instance.claim.is_none() {
            instance.claim(0);
        }
        let others_want = state.wants_long_besides(instance.shared.post);
        let far = if took >= FAR { FAR << state.sharers(instance.shared.post).min(SHARERS_MAX) } else { FAR };
        let pu = state.pu(terms.pu);
        let starting_long = pu.starting_long;
        let is_awaited = engine.is_waited_for()
            || pu.starting > 0
            || pu.templates.iter().any(|(_, phase)| matches!(phase, Phase::Preparing { .. }))
            || self.is_checking();
        let post = state.posts.get_mut(instance.shared.post)?;
        let is_awaited_by_others =
            others_want || engine.is_shared_with(instance.shared.post) || starting_long > post.starting_long;
        let length = Length::of(terms.class);
        if !taken {
            return match length {
                // What one like it has shown meanwhile need not be found out again.
                _ if !asked.passes && post.goes_beyond(length, asked.bytes) => Some(Aside::Longer),
                Length::Long | Length::Own if is_stuck && is_soon(post, asked.bytes) => Some(Aside::Short),
                _ => None,
            };
        }
        if !before.taken || instance.has_message() {
            return None;
        }
        let longer = match length {
            Length::Short if is_awaited => Length::Long,
            Length::Long if took >= far && is_awaited_by_others => Length::Own,
            _ => length,
        };
        if longer > length && post.has_choice() && longer <= post.longest {
            post.habits.learn_length(asked.bytes, took.max(LOOK), longer);
            return Some(Aside::Longer);
        }
        instance.claim.iter_mut().for_each(|claim| claim.at_least(took));
        None
    }
}

impl Dispatcher {
    /// Whether a request of so many bytes does not wait any longer for an instance that an engine for long runs has to take in.
    pub(super) fn may_pass(&self, instance: &Instance, bytes: usize) -> bool {
        let shared = &instance.shared;
        shared.terms.class.is_long() && self.state().posts.get(shared.post).is_some_and(|post| is_soon(post, bytes))
    }
}

/// Whether a run of the function is done, as a rule, before anybody would look at it.
fn is_soon(post: &Post, bytes: usize) -> bool {
    (1..LOOK).contains(&post.habits.of(bytes).typical)
}
