//! What a request holds while it is being served, so that nothing stays behind however it ends:
//!
//! | held | for | dropped |
//! |---|---|---|
//! | [`Admission`] | the invocation's place among those in flight | the place is free |
//! | [`Ticket`] | leave to start an instance | the start is over; others may |
//! | [`Lease`] | a busy instance | it ends, and counts as busy no longer |

use super::Dispatcher;
use super::instance::Instance;
use super::node::{Meter, Permit, Purpose};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What a waiting request is given.
pub(super) enum Grant {
    Instance(Lease),
    Start(Ticket),
    /// It waits in vain, for this reason.
    Never {
        reason: String,
    },
}

/// A place among the invocations in flight.
pub(super) struct Admission {
    node: Arc<Dispatcher>,
    meter: Arc<Meter>,
}

impl Admission {
    /// Counts one more invocation. Called with the state locked, so that limits are exact.
    pub fn new(node: Arc<Dispatcher>, meter: Arc<Meter>) -> Self {
        meter.in_flight.fetch_add(1, Relaxed);
        node.in_flight.fetch_add(1, Relaxed);
        Self { node, meter }
    }

    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.meter.in_flight.fetch_sub(1, Relaxed);
        self.node.left();
    }
}

/// Leave to start one instance.
pub(super) struct Ticket {
    node: Arc<Dispatcher>,
    permit: Permit,
    /// Whether the worker was told of the instance, and so will have news of it.
    told: bool,
    open: bool,
}

impl Ticket {
    pub fn new(node: Arc<Dispatcher>, permit: Permit) -> Self {
        Self { node, permit, told: false, open: true }
    }

    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    pub fn told(&mut self) {
        self.told = true;
    }

    /// The instance is up, and serves the request that it was started for.
    pub fn into_lease(mut self, instance: Box<Instance>) -> Lease {
        self.open = false;
        let post = self.permit.shared.post;
        let granted = {
            let mut state = self.node.state();
            state.start_is_over(&self.permit.shared, Purpose::Request);
            state.posts.get_mut(post).into_iter().for_each(|post| post.pool.adopt());
            state.pump(os::monotonic_ns())
        };
        self.node.deliver(granted);
        Lease::new(self.node.clone(), instance)
    }

    /// The instance is up, and waits for its first request.
    pub fn into_stem(mut self, instance: Box<Instance>) {
        self.open = false;
        let post = self.permit.shared.post;
        if self.permit.function.kind.is_pure() {
            // Those of pure functions have nothing that a run would add, and are chosen among by where they are.
            let granted = {
                let mut state = self.node.state();
                state.start_is_over(&self.permit.shared, Purpose::Stem);
                state.posts.get_mut(post).into_iter().for_each(|post| post.pool.adopt());
                state.pump(os::monotonic_ns())
            };
            self.node.deliver(granted);
            return self.node.put(instance);
        }
        let (handed, granted) = {
            let mut state = self.node.state();
            state.start_is_over(&self.permit.shared, Purpose::Stem);
            let pool = state.posts.get_mut(post).map(|post| &mut post.pool);
            (pool.and_then(|pool| pool.put_stem(instance)), state.pump(os::monotonic_ns()))
        };
        if let Some((waiter, instance)) = handed {
            self.node.hand_over(waiter, Lease::new(self.node.clone(), instance));
        }
        self.node.deliver(granted);
        self.node.upkeep_soon();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let granted = {
            let mut state = self.node.state();
            state.start_is_over(&self.permit.shared, self.permit.purpose);
            if !self.told {
                state.forget(self.permit.shared.id);
            }
            state.pump(os::monotonic_ns())
        };
        self.node.deliver(granted);
        self.node.upkeep_soon();
    }
}

/// A busy instance. Dropped, it ends.
pub(super) struct Lease {
    // Declared first, so dropped first: it has ended before it counts as gone.
    pub instance: Box<Instance>,
    busy: Busy,
}

/// That a pool counts an instance as busy.
struct Busy {
    node: Arc<Dispatcher>,
    post: u64,
    counted: bool,
}

impl Lease {
    /// Of an instance that its pool counts as busy already.
    pub fn new(node: Arc<Dispatcher>, instance: Box<Instance>) -> Self {
        let post = instance.shared.post;
        Self { instance, busy: Busy { node, post, counted: true } }
    }

    /// The instance waits for another request, or serves the one that has waited for longest.
    pub fn give_back(mut self) {
        self.busy.counted = false;
        self.busy.node.put(self.instance);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.counted {
            self.node.gone(self.node.state(), self.post);
        }
    }
}
