//! Links to other shims: messages in, messages out, descriptors with them.
//!
//! A link that takes nothing for so long that [`BACKLOG_MAX`] bytes wait for it is ended: whoever is behind it is fenced, and
//! joins again.

use crate::poller::{Name, READ, WRITE};
use crate::protocol::{Attachment, Carried, Input, Message};
use crate::shim::Shim;
use interconnect::link::{Link, SendError, Tier};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use xpucall::id::PuId;

/// Bytes that may wait for a link.
const BACKLOG_MAX: usize = 64 << 20;
/// Messages taken from one link before others have their turn.
const TURN: usize = 64;

/// A link that stands.
struct Standing {
    link: Box<dyn Link>,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    backlog: usize,
    writes: bool,
}

/// All of them, and the descriptors that came with what is being looked at.
#[derive(Default)]
pub struct Links {
    standing: BTreeMap<PuId, Standing>,
    carried: HashMap<Carried, Vec<OwnedFd>>,
    numbers: u64,
}

impl Links {
    /// The descriptors that came with a message, for good.
    pub(crate) fn take_carried(&mut self, carried: Carried) -> Vec<OwnedFd> {
        self.carried.remove(&carried).unwrap_or_default()
    }

    /// Closes those that nothing was done with.
    pub(crate) fn forget_carried(&mut self) {
        self.carried.clear();
    }

    /// Asks to be woken by every link: those that have something already.
    fn arm(&mut self) -> Vec<PuId> {
        self.standing.iter_mut().filter_map(|(pu, standing)| (!standing.link.arm()).then_some(*pu)).collect()
    }

    /// The first PU, from this one on, with whose shim memory is shared: looking there costs nothing.
    fn shared_from(&self, pu: PuId) -> Option<PuId> {
        let mut from = self.standing.range(pu..);
        from.find(|(_, standing)| standing.link.tier() == Tier::Shared).map(|(pu, _)| *pu)
    }

    fn carry(&mut self, descriptors: Vec<OwnedFd>) -> Option<Carried> {
        if descriptors.is_empty() {
            return None;
        }
        self.numbers += 1;
        self.carried.insert(Carried(self.numbers), descriptors);
        Some(Carried(self.numbers))
    }
}

impl Standing {
    /// Sends what waits, as far as there is room. Whether the link goes on.
    fn pass_on(&mut self) -> bool {
        while let Some((bytes, descriptors)) = self.waiting.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.link.send_with(bytes, &borrowed) {
                Ok(()) => self.backlog -= bytes.len(),
                Err(SendError::Full) => break,
                Err(SendError::Ended(_)) => return false,
                // What this link can never carry is not what ends it.
                Err(error) => {
                    tracing::error!(%error, "a message to another shim is lost");
                    self.backlog -= bytes.len();
                }
            }
            self.waiting.pop_front();
        }
        self.link.flush().is_ok()
    }
}

impl Shim {
    /// A link to another PU's shim stands from now on. One that stood before is over.
    pub fn link(&mut self, pu: PuId, link: Box<dyn Link>) {
        if self.links.standing.contains_key(&pu) {
            self.drop_link(pu);
            self.step(Input::LinkDown { pu, dead: false });
        }
        if let Err(error) = self.poller.add(link.poll_fd(), Name::Link(pu.0), READ) {
            return tracing::error!(%error, pu = pu.0, "a link could not be watched");
        }
        let shares = link.tier() == Tier::Shared;
        tracing::info!(pu = pu.0, tier = %link.tier(), "linked");
        let standing = Standing { link, waiting: VecDeque::new(), backlog: 0, writes: false };
        self.links.standing.insert(pu, standing);
        self.step(Input::LinkUp { pu, shares });
    }

    /// Ends a link of which the node knows that it ends.
    pub(crate) fn drop_link(&mut self, pu: PuId) {
        if let Some(standing) = self.links.standing.remove(&pu) {
            self.poller.remove(standing.link.poll_fd());
            self.call_again(pu);
        }
    }

    pub(crate) fn look_at_links(&mut self) -> bool {
        let mut next = self.links.shared_from(PuId(0));
        let mut something = false;
        while let Some(pu) = next {
            something |= self.look_at_link(pu);
            next = pu.0.checked_add(1).and_then(|pu| self.links.shared_from(PuId(pu)));
        }
        something
    }

    /// Asks to be woken by every link: whether one has something already, which is taken.
    pub(crate) fn rest_links(&mut self) -> bool {
        let ready = self.links.arm();
        for pu in &ready {
            self.look_at_link(*pu);
        }
        !ready.is_empty()
    }

    /// Takes what came over a link, and sends what waits for it: whether there was something.
    pub(crate) fn look_at_link(&mut self, pu: PuId) -> bool {
        let mut bytes = Vec::new();
        for taken in 0..TURN {
            let Some(standing) = self.links.standing.get_mut(&pu) else { return true };
            let mut descriptors = Vec::new();
            match standing.link.receive(&mut bytes, &mut descriptors) {
                Ok(true) => self.hear(pu, &bytes, descriptors),
                Ok(false) => {
                    self.pass_on(pu);
                    return taken > 0;
                }
                Err(end) => {
                    tracing::warn!(pu = pu.0, %end, "a link has ended");
                    self.lose_link(pu, false);
                    return true;
                }
            }
        }
        true
    }

    fn hear(&mut self, from: PuId, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        match Message::decode(bytes) {
            Ok(message) => {
                let carried = self.links.carry(descriptors);
                self.step(Input::Message { from, message, carried });
            }
            Err(error) => {
                tracing::error!(pu = from.0, %error, "a shim sends what is no message");
                self.lose_link(from, false);
            }
        }
    }

    pub(crate) fn lose_link(&mut self, pu: PuId, dead: bool) {
        self.drop_link(pu);
        self.step(Input::LinkDown { pu, dead });
    }

    fn pass_on(&mut self, pu: PuId) {
        let Some(standing) = self.links.standing.get_mut(&pu) else { return };
        if !standing.pass_on() {
            return self.lose_link(pu, false);
        }
        let wants = standing.link.wants();
        if wants.write != standing.writes {
            standing.writes = wants.write;
            let flags = if wants.write { READ | WRITE } else { READ };
            let _ = self.poller.change(standing.link.poll_fd(), Name::Link(pu.0), flags);
        }
    }

    /// Sends a message, after those that wait.
    pub(crate) fn send(&mut self, to: PuId, message: &Message, with: Option<Attachment>) {
        let descriptors = match with {
            None => Vec::new(),
            Some(Attachment::Carried(carried)) => self.links.take_carried(carried),
            Some(Attachment::Lane(lane)) => match self.hand_over(lane) {
                Some(descriptors) => descriptors,
                None => return tracing::error!(%lane, "a lane that is not here was to be handed over"),
            },
        };
        let bytes = match message.encode() {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!(%error, "a message to another shim is not sent"),
        };
        let Some(standing) = self.links.standing.get_mut(&to) else { return };
        standing.backlog += bytes.len();
        standing.waiting.push_back((bytes, descriptors));
        if standing.backlog > BACKLOG_MAX || !standing.pass_on() {
            self.drop_link(to);
            self.inputs.push_back(Input::LinkDown { pu: to, dead: false });
        }
    }

    /// The descriptors of a lane's reader, which is on another PU.
    fn hand_over(&mut self, lane: crate::protocol::EndId) -> Option<Vec<OwnedFd>> {
        let here = self.lanes.all.get_mut(&lane)?;
        let (region, bell) = here.for_reader().ok()?;
        Some(vec![region, bell])
    }
}
