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
    /// Of each stage, how many requests were answered before it was heard that it has handed them on: a stage on another
    /// machine says so later than its successors answer.
    owed: Vec<u32>,
    /// A stage has said, while nobody listened, that it is one no more.
    spoilt: bool,
}

impl Set {
    pub fn new(flow: Arc<Flow>, stages: Vec<Lease>) -> Self {
        let owed = vec![0; stages.len()];
        Self { flow, stages, has_served: false, owed, spoilt: false }
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
        let mut stages = self.stages.iter_mut().zip(&mut self.owed);
        stages.all(|(lease, owed)| !lease.instance.shared.is_departed() && hear(&mut lease.instance, owed).is_none())
    }

    /// A request has been answered, and these stages have not said yet that they have handed it on.
    pub fn owe(&mut self, served: &[Option<Served>]) {
        for (owed, _) in self.owed.iter_mut().zip(served).filter(|(_, served)| served.is_none()) {
            *owed = owed.saturating_add(1);
        }
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
        for (at, (lease, owed)) in self.stages.iter_mut().zip(&mut self.owed).enumerate() {
            while let Poll::Ready(event) = lease.instance.poll(cx) {
                if !settles(&event, owed) {
                    return Poll::Ready((at, event));
                }
            }
        }
        Poll::Pending
    }

    /// What stages have said of results that went on, which rings for nobody.
    pub fn passed(&mut self, served: &mut [Option<Served>]) {
        let stages = self.stages.iter_mut().zip(&mut self.owed).zip(served);
        for ((lease, owed), served) in stages.filter(|(_, served)| served.is_none()) {
            match hear(&mut lease.instance, owed) {
                Some(Event::Passed(when)) => *served = Some(when),
                Some(_) => self.spoilt = true,
                None => {}
            }
        }
    }
}

/// What a stage has said, but for what it owed.
fn hear(instance: &mut Instance, owed: &mut u32) -> Option<Event> {
    std::iter::from_fn(|| instance.hear()).find(|event| !settles(event, owed))
}

/// Whether it is no more than what was owed of an earlier request.
fn settles(event: &Event, owed: &mut u32) -> bool {
    let settles = *owed > 0 && matches!(event, Event::Passed(_));
    *owed -= u32::from(settles);
    settles
}
