//! The instances of one set, held for as long as it lives: when it is dropped they end.

use super::super::instance::{Event, Instance};
use super::super::ticket::Lease;
use super::Flow;
use crate::function::Isolation;
use cfork::invocation::Served;
use std::sync::Arc;
use std::task::{Context, Poll};

/// One instance per stage, connected with each other.
pub(in super::super) struct Set {
    pub flow: Arc<Flow>,
    stages: Vec<Lease>,
    pub has_served: bool,
    /// A stage has said, while nobody listened, that it is one no more.
    spoilt: bool,
}

impl Set {
    pub fn new(flow: Arc<Flow>, stages: Vec<Lease>) -> Self {
        Self { flow, stages, has_served: false, spoilt: false }
    }

    pub fn instances(&mut self) -> impl DoubleEndedIterator<Item = &mut Instance> {
        self.stages.iter_mut().map(|lease| &mut *lease.instance)
    }

    pub fn instance(&mut self, at: usize) -> &mut Instance {
        &mut self.stages[at].instance
    }

    pub fn len(&self) -> usize {
        self.stages.len()
    }

    pub fn has(&self, instance: u64) -> bool {
        self.stages.iter().any(|lease| lease.instance.shared.id == instance)
    }

    /// Whether one of its instances is gone.
    pub fn has_departed(&self) -> bool {
        self.stages.iter().any(|lease| lease.instance.shared.is_departed())
    }

    /// Whether all its instances live and have said nothing unasked.
    pub fn is_sound(&mut self) -> bool {
        self.instances().all(Instance::is_sound)
    }

    /// Whether it may serve another request.
    pub fn lasts(&self) -> bool {
        !self.spoilt && self.flow.stages.iter().all(|stage| stage.function.isolation == Isolation::Instance)
    }

    /// What happens next, and at which stage. Earlier stages come first: what they have handed on is known before the
    /// answer to it.
    pub async fn next(&mut self) -> (usize, Event) {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Event)> {
        for (at, lease) in self.stages.iter_mut().enumerate() {
            if let Poll::Ready(event) = lease.instance.poll(cx) {
                return Poll::Ready((at, event));
            }
        }
        Poll::Pending
    }

    /// What stages have said of results that went on, which rings for nobody.
    pub fn passed(&mut self, served: &mut [Option<Served>]) {
        for (lease, served) in self.stages.iter_mut().zip(served).filter(|(_, served)| served.is_none()) {
            match lease.instance.hear() {
                Some(Event::Passed(when)) => *served = Some(when),
                Some(_) => self.spoilt = true,
                None => {}
            }
        }
    }
}
