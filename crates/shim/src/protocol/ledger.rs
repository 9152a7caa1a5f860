//! The head's ledger: changes are checked against the newest state, numbered, and answered when all members have them in
//! force.
//!
//! A member that is fenced is not waited for; but what waited for it now waits until its fence is in force everywhere, for
//! only then has everything ended that this member should have ended.

use super::message::{Ack, ENDOWMENT_MAX, Entry, Lazy, Message, Order, Refusal, Seq};
use super::{Node, Place};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

#[derive(Default)]
pub struct Ledger {
    pending: BTreeMap<Seq, Pending>,
    /// How many orders of each PU wait.
    orders: BTreeMap<PuId, usize>,
    /// Orders that came while a former term might not be over.
    early: VecDeque<Early>,
    /// Until when members may be waiting for one whose lease must end first: nobody is late before.
    grace: Duration,
}

struct Early {
    place: Place,
    id: u64,
    order: Order,
}

struct Pending {
    origin: Option<(Place, u64)>,
    awaited: BTreeSet<PuId>,
    /// Fences that took members out of `awaited` and are not in force yet.
    fences: BTreeSet<Seq>,
    is_fence: bool,
    absent: bool,
    /// When those who have not acknowledged it are late; `None`: they have been.
    due: Option<Duration>,
}

impl Pending {
    fn is_over(&self) -> bool {
        self.awaited.is_empty() && self.fences.is_empty()
    }
}

impl Ledger {
    pub fn len(&self) -> usize {
        self.pending.len() + self.early.len()
    }

    pub fn next_late(&self) -> Option<Duration> {
        self.pending.values().find_map(|pending| pending.due)
    }

    /// A PU is about to be fenced by that change.
    pub fn lose(&mut self, place: Place, fence: Seq) {
        self.orders.remove(&place.pu);
        self.early.retain(|early| early.place != place);
        for pending in self.pending.values_mut() {
            pending.origin = pending.origin.filter(|(origin, _)| *origin != place);
            if pending.awaited.remove(&place.pu) {
                pending.fences.insert(fence);
            }
        }
    }

    /// Somebody is known to keep others waiting until then.
    pub fn put_off(&mut self, until: Duration, patience: Duration) {
        self.grace = self.grace.max(until);
        let due = self.grace + patience;
        self.pending.values_mut().for_each(|pending| pending.due = pending.due.map(|old| old.max(due)));
    }

    fn answered(&mut self, place: Place) {
        if let Some(count) = self.orders.get_mut(&place.pu) {
            *count -= 1;
            if *count == 0 {
                self.orders.remove(&place.pu);
            }
        }
    }
}

impl Node {
    /// Numbers a change, tells it to all, and puts it in force here.
    pub(super) fn order(&mut self, origin: Option<(Place, u64)>, entry: Entry) {
        let seq = self.state.seq() + 1;
        let Some(head) = self.head.as_mut() else { return };
        if !matches!(entry, Entry::Lazy(_)) {
            let (awaited, fences) = (head.members(), BTreeSet::new());
            let is_fence = matches!(entry, Entry::Fence { .. });
            let due = Some(self.now.max(head.ledger.grace) + self.config.timing.patience);
            let pending = Pending { origin, awaited, fences, is_fence, absent: false, due };
            head.ledger.pending.insert(seq, pending);
        }
        self.spread(seq, &entry);
        self.apply(seq, &entry);
    }

    pub(super) fn requested(&mut self, from: PuId, id: u64, order: Order) {
        let Some(place) = self.member_place(from) else { return };
        let limit = self.config.limits.orders;
        let Some(head) = self.head.as_mut() else { return };
        let open = head.is_open();
        let count = head.ledger.orders.entry(from).or_default();
        if *count >= limit {
            return self.send_answer(place, id, Err(Refusal::Quota));
        }
        *count += 1;
        if open {
            self.take_order(place, id, order);
        } else {
            head.ledger.early.push_back(Early { place, id, order });
        }
    }

    pub(super) fn order_early(&mut self) {
        while let Some(early) = self.head.as_mut().and_then(|head| head.ledger.early.pop_front()) {
            self.take_order(early.place, early.id, early.order);
        }
    }

    fn take_order(&mut self, place: Place, id: u64, order: Order) {
        match self.check(place, &order) {
            Ok(()) => self.order(Some((place, id)), entry(order)),
            Err(refusal) => self.answer_order(place, id, Err(refusal)),
        }
    }

    fn answer_order(&mut self, place: Place, id: u64, result: Result<(), Refusal>) {
        if let Some(head) = self.head.as_mut() {
            head.ledger.answered(place);
        }
        self.send_answer(place, id, result);
    }

    fn send_answer(&mut self, place: Place, id: u64, result: Result<(), Refusal>) {
        let message = Message::Answered { id, result };
        if place.pu == PuId::HEAD {
            self.report(message);
        } else {
            self.send(place.pu, message, None);
        }
    }

    /// Whether the state, with everything ordered before in it, allows a change.
    fn check(&self, place: Place, order: &Order) -> Result<(), Refusal> {
        let own = |pid: XpuPid| if Place::of(pid) == place { Ok(()) } else { Err(Refusal::NotPermitted) };
        match order {
            Order::Create { fifo, by, .. } => {
                own(*by)?;
                self.check_create(place.pu, *fifo)
            }
            Order::Grant { by, to, fifo, rights } => {
                own(*by)?;
                let held = self.state.fifos().get(fifo).ok_or(Refusal::NoSuchFifo)?.rights(*by);
                if !held.contain(*rights | Rights::OWNER) {
                    return Err(Refusal::NotPermitted);
                }
                self.check_holder(*to, *fifo)
            }
            Order::Revoke { by, from, fifo, .. } => {
                own(*by)?;
                let held = self.state.fifos().get(fifo).ok_or(Refusal::NoSuchFifo)?;
                let allowed = held.rights(*by).contain(Rights::OWNER) && held.creator != *from;
                if allowed { Ok(()) } else { Err(Refusal::NotPermitted) }
            }
            Order::Endow { by, child, capabilities } => {
                own(*by)?;
                self.check_endowment(*by, *child, capabilities)
            }
        }
    }

    fn check_create(&self, pu: PuId, fifo: FifoId) -> Result<(), Refusal> {
        if fifo == FifoId(0) || self.state.fifos().contains_key(&fifo) {
            return Err(Refusal::Exists);
        }
        let room = self.state.load(pu).fifos < self.config.limits.fifos;
        if room { Ok(()) } else { Err(Refusal::Quota) }
    }

    /// Whether one process more may have rights on the FIFO.
    fn check_holder(&self, pid: XpuPid, id: FifoId) -> Result<(), Refusal> {
        let fifo = self.state.fifos().get(&id).ok_or(Refusal::NoSuchFifo)?;
        if !self.state.current(Place::of(pid)) {
            return Err(Refusal::NoSuchProcess);
        }
        let load = self.state.load(fifo.creator.pu());
        let room =
            fifo.holders() < fifo.limits.capabilities as usize && load.capabilities < self.config.limits.capabilities;
        if room || !fifo.rights(pid).is_empty() { Ok(()) } else { Err(Refusal::Quota) }
    }

    /// A child gets nothing that its maker has not.
    fn check_endowment(&self, by: XpuPid, child: XpuPid, wanted: &[(FifoId, Rights)]) -> Result<(), Refusal> {
        if wanted.len() > ENDOWMENT_MAX {
            return Err(Refusal::Quota);
        }
        for (id, rights) in wanted {
            let held = self.state.fifos().get(id).ok_or(Refusal::NoSuchFifo)?.rights(by);
            if !held.contain(*rights) {
                return Err(Refusal::NotPermitted);
            }
            self.check_holder(child, *id)?;
        }
        Ok(())
    }

    pub(super) fn lazy_told(&mut self, from: PuId, mut items: Vec<Lazy>) {
        let Some(place) = self.member_place(from) else { return };
        items.retain(|item| match item {
            Lazy::Gone(pid) => Place::of(*pid) == place,
            Lazy::Released { fifo, born } => {
                let held = self.state.fifos().get(fifo);
                held.is_some_and(|held| held.home() == place && held.born == *born)
            }
        });
        if !items.is_empty() {
            self.order(None, Entry::Lazy(items));
        }
    }

    pub(super) fn acknowledged(&mut self, from: PuId, incarnation: u32, acks: &[Ack]) {
        if self.member_place(from) != Some(Place { pu: from, incarnation }) {
            return;
        }
        for ack in acks {
            let Some(head) = self.head.as_mut() else { return };
            if let Some(pending) = head.ledger.pending.get_mut(&ack.seq) {
                pending.awaited.remove(&from);
                pending.absent |= ack.absent;
                self.complete(ack.seq);
            }
        }
    }

    /// Answers the change if it is in force everywhere, and what waited for it.
    fn complete(&mut self, seq: Seq) {
        let mut ready = vec![seq];
        while let Some(seq) = ready.pop() {
            let Some(ledger) = self.head.as_mut().map(|head| &mut head.ledger) else { return };
            if !ledger.pending.get(&seq).is_some_and(Pending::is_over) {
                continue;
            }
            let Some(over) = ledger.pending.remove(&seq) else { continue };
            if over.is_fence {
                let waited = ledger.pending.iter_mut().filter_map(|(other, pending)| {
                    let waited = pending.fences.remove(&seq);
                    waited.then_some(*other)
                });
                ready.extend(waited);
            }
            if let Some((place, id)) = over.origin {
                let result = if over.absent { Err(Refusal::NoSuchProcess) } else { Ok(()) };
                self.answer_order(place, id, result);
            }
        }
    }

    /// Who has not put a change in force in time is a member no longer.
    pub(super) fn condemn_late(&mut self) {
        let now = self.now;
        let Some(head) = self.head.as_mut() else { return };
        let mut late = BTreeSet::new();
        for pending in head.ledger.pending.values_mut() {
            match pending.due {
                None => {}
                Some(due) if due <= now => {
                    pending.due = None;
                    late.extend(pending.awaited.iter().copied());
                }
                Some(_) => break,
            }
        }
        for pu in late.into_iter().filter(|pu| *pu != PuId::HEAD) {
            self.condemn(pu);
        }
    }
}

fn entry(order: Order) -> Entry {
    match order {
        Order::Create { fifo, by, limits } => Entry::Create { fifo, creator: by, limits },
        Order::Grant { to, fifo, rights, .. } => Entry::Grant { to, fifo, rights },
        Order::Revoke { from, fifo, rights, .. } => Entry::Revoke { from, fifo, rights },
        Order::Endow { child, capabilities, .. } => Entry::Endow { child, capabilities },
    }
}
