//! The head's part: who is a member, and until when.
//!
//! ```text
//!   Apart ──Join──▶ Joining: takes the state in parts ──all taken──▶ Member ──its lease, or its PU, is over──▶ Apart
//! ```
//!
//! A joiner keeps nobody waiting: changes that come meanwhile are kept for it, up to a limit, and it is asked to
//! acknowledge only those after its own `Join`. A member whose link has ended fences itself; the head does not know when,
//! so it waits until the lease is over, unless the member asks to join again or the system says that its PU is no more.

use super::ledger::Ledger;
use super::member::Phase;
use super::message::{Entry, Message, Record, Seq};
use super::step::Action;
use super::{Former, Node, Place, Timing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xpucall::id::{PART_END, PuId};

/// Parts of a snapshot that are on their way at once.
const PARTS_AHEAD: u32 = 4;

pub struct Head {
    /// The last incarnation given.
    incarnation: u32,
    timing: Timing,
    /// PUs that may still serve under the former term, and until when.
    former: BTreeSet<PuId>,
    opens: Option<Duration>,
    peers: BTreeMap<PuId, Peer>,
    pub ledger: Ledger,
}

struct Peer {
    linked: bool,
    shares: bool,
    stage: Stage,
    /// Until when it may serve, as far as the head knows.
    lease: Duration,
    /// Its lease is not renewed any more.
    condemned: bool,
}

enum Stage {
    Apart,
    Joining(Box<Joiner>),
    Member(u32),
}

struct Joiner {
    incarnation: u32,
    parts: VecDeque<Vec<Record>>,
    sent: u32,
    taken: u32,
    total: u32,
    backlog: Vec<(Seq, Entry)>,
}

impl Head {
    pub fn new(former: Former, timing: Timing) -> Self {
        Self {
            incarnation: former.incarnation,
            timing,
            former: former.members.into_iter().filter(|pu| *pu != PuId::HEAD).collect(),
            opens: None,
            peers: BTreeMap::new(),
            ledger: Ledger::default(),
        }
    }

    pub fn is_linked(&self, pu: PuId) -> bool {
        self.peers.get(&pu).is_some_and(|peer| peer.linked)
    }

    /// Whether changes may be ordered: nobody serves any more under the former term.
    pub fn is_open(&self) -> bool {
        self.opens.is_none()
    }

    pub fn pending(&self) -> usize {
        self.ledger.len()
    }

    pub fn joiners(&self) -> usize {
        self.peers.values().filter(|peer| matches!(peer.stage, Stage::Joining(_))).count()
    }

    /// Those who have to acknowledge a change.
    pub fn members(&self) -> BTreeSet<PuId> {
        let members = self.peers.iter().filter(|(_, peer)| matches!(peer.stage, Stage::Member(_)));
        members.map(|(pu, _)| *pu).chain([PuId::HEAD]).collect()
    }

    /// Until when a lease that is renewed now may last.
    fn lease(&self, now: Duration) -> Duration {
        now + self.timing.lease + self.timing.margin
    }

    fn persist(&self) -> Action {
        let peers = self.peers.iter().filter(|(_, peer)| !matches!(peer.stage, Stage::Apart));
        let members = peers.map(|(pu, _)| *pu).chain(self.former.iter().copied()).collect();
        Action::Persist { incarnation: self.incarnation, members }
    }
}

impl Node {
    /// The first step of a head.
    pub(super) fn begin_term(&mut self) {
        let Some(head) = self.head.as_mut() else { return };
        head.incarnation += 1;
        let incarnation = head.incarnation;
        head.opens = (!head.former.is_empty()).then(|| head.lease(self.now));
        self.out.push(head.persist());
        self.phase = Phase::Serving { incarnation, lease: None };
        self.order(None, Entry::Join { place: Place { pu: PuId::HEAD, incarnation }, shares: true });
        self.out.push(Action::Serve { incarnation });
    }

    fn peer(&mut self, pu: PuId) -> Option<&mut Peer> {
        self.head.as_mut()?.peers.get_mut(&pu)
    }

    /// The life in which a PU is a member.
    pub(super) fn member_place(&self, pu: PuId) -> Option<Place> {
        let head = self.head.as_ref()?;
        match head.peers.get(&pu).map(|peer| &peer.stage) {
            Some(Stage::Member(incarnation)) => Some(Place { pu, incarnation: *incarnation }),
            _ if pu == PuId::HEAD => self.place(),
            _ => None,
        }
    }

    pub(super) fn peer_linked(&mut self, pu: PuId, shares: bool) {
        let Some(head) = self.head.as_mut().filter(|_| pu != PuId::HEAD) else { return };
        let lease = Duration::ZERO;
        let fresh = Peer { linked: false, shares, stage: Stage::Apart, lease, condemned: false };
        let peer = head.peers.entry(pu).or_insert(fresh);
        (peer.linked, peer.shares) = (true, shares);
        if matches!(peer.stage, Stage::Joining(_)) {
            peer.stage = Stage::Apart;
        }
    }

    pub(super) fn peer_unlinked(&mut self, pu: PuId, dead: bool) {
        let Some(peer) = self.peer(pu) else { return };
        peer.linked = false;
        match peer.stage {
            Stage::Joining(_) => peer.stage = Stage::Apart,
            Stage::Member(_) if dead => self.fence(pu),
            Stage::Member(_) | Stage::Apart => {}
        }
    }

    fn drop_link(&mut self, pu: PuId) {
        let Some(peer) = self.peer(pu).filter(|peer| peer.linked) else { return };
        peer.linked = false;
        if matches!(peer.stage, Stage::Joining(_)) {
            peer.stage = Stage::Apart;
        }
        self.out.push(Action::Drop { pu });
    }

    pub(super) fn join_asked(&mut self, pu: PuId, asked: u64) {
        if self.peer(pu).is_none_or(|peer| !peer.linked) {
            return;
        }
        // Who asks has ended everything of its earlier life.
        self.fence(pu);
        self.former_is_gone(pu);
        let parts: VecDeque<Vec<Record>> = self.state.snapshot().into();
        let Some(head) = self.head.as_mut() else { return };
        if head.incarnation + 1 >= PART_END {
            return self.drop_link(pu);
        }
        head.incarnation += 1;
        let (incarnation, total, lease) = (head.incarnation, parts.len() as u32, head.lease(self.now));
        let joiner = Joiner { incarnation, parts, sent: 0, taken: 0, total, backlog: Vec::new() };
        if let Some(peer) = head.peers.get_mut(&pu) {
            peer.stage = Stage::Joining(Box::new(joiner));
            (peer.lease, peer.condemned) = (lease, false);
        }
        self.out.push(head.persist());
        self.send(pu, Message::Renewed { asked }, None);
        self.send(pu, Message::Welcome { incarnation, seq: self.state.seq(), parts: total }, None);
        self.send_parts(pu);
    }

    fn send_parts(&mut self, pu: PuId) {
        let Some(Peer { stage: Stage::Joining(joiner), .. }) = self.peer(pu) else { return };
        let mut parts = Vec::new();
        while joiner.sent < joiner.taken + PARTS_AHEAD {
            let Some(records) = joiner.parts.pop_front() else { break };
            parts.push(Message::Part { number: joiner.sent, records });
            joiner.sent += 1;
        }
        parts.into_iter().for_each(|part| self.send(pu, part, None));
    }

    pub(super) fn part_taken(&mut self, pu: PuId, parts: u32) {
        let Some(peer) = self.peer(pu) else { return };
        let Stage::Joining(joiner) = &mut peer.stage else { return };
        if parts != joiner.taken + 1 || parts > joiner.sent {
            return;
        }
        joiner.taken = parts;
        if joiner.taken < joiner.total {
            return self.send_parts(pu);
        }
        let (incarnation, shares) = (joiner.incarnation, peer.shares);
        let backlog = std::mem::take(&mut joiner.backlog);
        peer.stage = Stage::Member(incarnation);
        for (seq, entry) in backlog {
            self.send(pu, Message::Entry { seq, entry }, None);
        }
        self.order(None, Entry::Join { place: Place { pu, incarnation }, shares });
    }

    pub(super) fn renew_asked(&mut self, pu: PuId, asked: u64) {
        let Some(lease) = self.head.as_ref().map(|head| head.lease(self.now)) else { return };
        let Some(peer) = self.peer(pu) else { return };
        if peer.linked && !peer.condemned && !matches!(peer.stage, Stage::Apart) {
            peer.lease = lease;
            self.send(pu, Message::Renewed { asked }, None);
        }
    }

    /// Ends that life of the PU everywhere, if it is a member.
    fn fence(&mut self, pu: PuId) {
        let Some(place) = self.member_place(pu).filter(|place| place.pu != PuId::HEAD) else { return };
        if let Some(peer) = self.peer(pu) {
            peer.stage = Stage::Apart;
        }
        self.out.push(Action::Expel { pu, incarnation: place.incarnation });
        self.out.extend(self.head.as_ref().map(|head| head.persist()));
        let seq = self.state.seq() + 1;
        if let Some(head) = self.head.as_mut() {
            head.ledger.lose(place, seq);
        }
        self.order(None, Entry::Fence { place });
    }

    /// Its lease is not renewed any more, and with its link it stops by itself.
    pub(super) fn condemn(&mut self, pu: PuId) {
        if let Some(peer) = self.peer(pu) {
            peer.condemned = true;
            self.drop_link(pu);
        }
    }

    /// A home cannot put a change in force for that PU's sake, and is not late itself until that is fenced.
    pub(super) fn blamed(&mut self, from: PuId, place: Place) {
        if self.member_place(from).is_none() || !self.state.current(place) || place.pu == PuId::HEAD {
            return;
        }
        self.condemn(place.pu);
        let patience = self.config.timing.patience;
        let Some(head) = self.head.as_mut() else { return };
        if let Some(peer) = head.peers.get(&place.pu) {
            head.ledger.put_off(peer.lease, patience);
        }
    }

    fn former_is_gone(&mut self, pu: PuId) {
        let Some(head) = self.head.as_mut() else { return };
        if head.former.remove(&pu) && head.former.is_empty() {
            self.open();
        }
    }

    fn open(&mut self) {
        let Some(head) = self.head.as_mut() else { return };
        head.opens = None;
        head.former.clear();
        self.order_early();
    }

    /// Keeps a change for those who are taking the state, and sends it to members.
    pub(super) fn spread(&mut self, seq: Seq, entry: &Entry) {
        let limit = self.config.limits.backlog;
        let Some(head) = self.head.as_mut() else { return };
        let mut behind = Vec::new();
        for (pu, peer) in &mut head.peers {
            match &mut peer.stage {
                Stage::Member(_) if peer.linked => {
                    let message = Message::Entry { seq, entry: entry.clone() };
                    self.out.push(Action::Send { to: *pu, message, with: None });
                }
                Stage::Joining(joiner) if joiner.backlog.len() >= limit => behind.push(*pu),
                Stage::Joining(joiner) => joiner.backlog.push((seq, entry.clone())),
                Stage::Member(_) | Stage::Apart => {}
            }
        }
        behind.into_iter().for_each(|pu| self.drop_link(pu));
    }

    pub(super) fn head_timers(&mut self) {
        let Some(head) = self.head.as_ref() else { return };
        let over = |peer: &Peer| !matches!(peer.stage, Stage::Apart) && peer.lease <= self.now;
        let over: Vec<PuId> = head.peers.iter().filter(|(_, peer)| over(peer)).map(|(pu, _)| *pu).collect();
        if head.opens.is_some_and(|at| at <= self.now) {
            self.open();
        }
        for pu in over {
            self.drop_link(pu);
            self.fence(pu);
        }
        self.condemn_late();
    }

    pub(super) fn next_of_head(&self) -> Option<Duration> {
        let head = self.head.as_ref()?;
        let leases = head.peers.values().filter(|peer| !matches!(peer.stage, Stage::Apart)).map(|peer| peer.lease);
        leases.chain(head.opens).chain(head.ledger.next_late()).min()
    }
}
