//! A template's slots: made ahead, taken by starts, removed when what ran in them is gone.
//!
//! ```text
//!            MakeSlot           SlotMade [attach] Enter, Entered
//!  (wanted) ─────────▶ making ─────────────────────────────────▶ ready ─▶ taken by an instance ─▶ buried ─▶ group removed
//!                        ╰─ it fails: so does a waiting start              ╰─ too many ────▶ (once its process 1 is gone)
//! ```

use super::egress;
use super::message::ToInit;
use super::template::{Shared, child, limits, refusal};
use crate::SpawnError;
use crate::spec::End;
use cfork::protocol::{self, Kind};
use os::cgroup::{self, Group};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::oneshot;

/// How long after the last start the slots that starts have taken are replaced: making one takes a core for a millisecond,
/// which the new instances need.
const QUIET: Duration = Duration::from_millis(4);
/// Of the slots wanted, one in so many is there also while starts follow each other.
const SHARE_KEPT: usize = 4;

/// A ready container.
pub(super) struct Slot {
    pub id: u64,
    /// Its process 1.
    pub process: OwnedFd,
    /// Where the one who waits in it, forker or child, takes its order from. It ends when this is closed.
    pub orders: OwnedFd,
    /// Completes with the end of the child that waits in it, if one does.
    pub child: Option<oneshot::Receiver<End>>,
    pub group: Option<Group>,
    /// What the group is limited to.
    pub limits: cgroup::Limits,
}

/// A container that is being made.
pub(super) struct Making {
    pub group: Option<Group>,
    /// The files by which processes enter its cgroup.
    entrances: Vec<OwnedFd>,
    limits: cgroup::Limits,
}

impl Shared {
    pub(super) fn slot_made(self: Arc<Self>, id: u64, descriptors: Vec<OwnedFd>) {
        let Some(process) = descriptors.into_iter().next() else {
            self.state().making.remove(&id);
            return;
        };
        tokio::spawn(async move {
            let completed = self.complete(id, &process).await;
            self.state().questions.remove(&id);
            match completed {
                Ok(orders) => self.slot_ready(id, process, orders),
                Err(error) => {
                    let _ = os::pidfd::kill(&process);
                    let made = self.state().making.remove(&id);
                    self.bury(id, made.and_then(|making| making.group));
                    self.state().refusal = Some(error);
                }
            }
            self.changed.notify_waiters();
            if self.is_quiet() {
                // It may be one too many by now.
                self.top_up();
                self.fork_ahead().await;
            }
        });
    }

    /// Gives a slot its way out and its forker: what that takes its order from.
    async fn complete(&self, id: u64, process: &OwnedFd) -> Result<OwnedFd, SpawnError> {
        if let Some(egress) = &self.place.egress {
            egress::attach(egress, process).await.map_err(SpawnError::Attach)?;
        }
        let entrances = self.state().making.get_mut(&id).map(|making| std::mem::take(&mut making.entrances));
        let (orders, theirs) = os::seqpacket::pair().map_err(SpawnError::Fork)?;
        rustix::io::ioctl_fionbio(&orders, true).map_err(|error| SpawnError::Fork(error.into()))?;
        let mut descriptors = vec![process.as_fd(), theirs.as_fd()];
        descriptors.extend(entrances.iter().flatten().map(AsFd::as_fd));
        let send = self
            .control
            .async_io(Interest::WRITABLE, |control| protocol::send(control, Kind::Enter, 0, id, 0, &[], &descriptors));
        match self.ask(id, Kind::Entered, send).await? {
            0 => Ok(orders),
            error => Err(refusal(error)),
        }
    }

    fn slot_ready(self: &Arc<Self>, id: u64, process: OwnedFd, orders: OwnedFd) {
        let mut state = self.state();
        let Some(Making { group, limits, .. }) = state.making.remove(&id) else { return };
        if state.gone.contains(&id) {
            // It has ended while it was completed.
            drop(state);
            return self.bury(id, group);
        }
        state.ready.push_back(Slot { id, process, orders, child: None, group, limits });
    }

    pub(super) fn slot_ended(self: Arc<Self>, id: u64) {
        let mut state = self.state();
        // Before or after its instance has given its group back.
        match state.groups.remove(&id) {
            Some(group) => {
                drop(state);
                tokio::spawn(async move { remove(&group).await });
            }
            None => {
                if let Some(at) = state.ready.iter().position(|slot| slot.id == id) {
                    let slot = state.ready.remove(at);
                    drop(state);
                    tokio::spawn(async move {
                        if let Some(group) = slot.and_then(|slot| slot.group) {
                            remove(&group).await;
                        }
                    });
                } else {
                    state.gone.insert(id);
                }
            }
        }
    }

    pub(super) fn slot_not_made(&self, id: u64, reason: String) {
        let made = {
            let mut state = self.state();
            state.refusal = Some(SpawnError::Slot(reason));
            state.making.remove(&id)
        };
        if let Some(Making { group: Some(group), .. }) = made {
            tokio::spawn(async move { remove(&group).await });
        }
    }

    /// Keeps a slot's group until the slot is gone, then removes it.
    pub(super) fn bury(self: &Arc<Self>, slot: u64, group: Option<Group>) {
        let Some(group) = group else { return };
        let mut state = self.state();
        if state.gone.remove(&slot) || os::pidfd::has_ended(&self.place.process) {
            drop(state);
            tokio::spawn(async move { remove(&group).await });
        } else {
            state.groups.insert(slot, group);
        }
    }

    fn order_slot(&self) -> Result<(), SpawnError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("slot-{}-{id}", self.place.id);
        let tree = self.place.tree.as_ref();
        let limits = self.state().usual.unwrap_or_else(|| limits(self.spec.limits));
        let group = tree.map(|tree| tree.group(&name, limits)).transpose();
        let group = group.map_err(SpawnError::Limits)?;
        let entrances = group.as_ref().map(Group::entrances).transpose().map_err(SpawnError::Limits)?;
        let entrances = entrances.unwrap_or_default();
        let descriptors: Vec<_> = entrances.iter().map(AsFd::as_fd).collect();
        let order = ToInit::MakeSlot { slot: id, tmp: self.spec.limits.tmp };
        match self.init.try_say(&order, &descriptors) {
            Ok(true) => {
                drop(descriptors);
                self.state().making.insert(id, Making { group, entrances, limits });
                Ok(())
            }
            // The init has more orders than it can take: what it makes meanwhile serves as well.
            Ok(false) => {
                if let Some(group) = group {
                    group.remove();
                }
                Ok(())
            }
            Err(_) => {
                if let Some(group) = group {
                    group.remove();
                }
                Err(SpawnError::TemplateGone)
            }
        }
    }

    /// A ready slot, made now if there is none.
    pub(super) async fn take_slot(&self) -> Result<Slot, SpawnError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let slot = self.wait_for_slot().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        slot
    }

    async fn wait_for_slot(&self) -> Result<Slot, SpawnError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if *self.ended.borrow() {
                return Err(SpawnError::TemplateGone);
            }
            let short = {
                let mut state = self.state();
                if let Some(slot) = state.ready.pop_front() {
                    return Ok(slot);
                }
                if let Some(refusal) = state.refusal.take() {
                    return Err(refusal);
                }
                state.making.len() < self.waiting.load(Ordering::Relaxed)
            };
            if short {
                self.order_slot()?;
            }
            changed.await;
        }
    }

    /// Brings the number of ready slots to what is wanted, once the template has been quiet for a while. Until then no more
    /// are made than it takes not to run out.
    pub(super) fn top_up_later(self: &Arc<Self>) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        if self.refilling.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let mut starts = None;
            while starts != Some(shared.starts.load(Ordering::Relaxed)) {
                starts = Some(shared.starts.load(Ordering::Relaxed));
                tokio::time::sleep(QUIET).await;
                shared.order_up_to(shared.target.load(Ordering::Relaxed).div_ceil(SHARE_KEPT));
            }
            shared.refilling.store(false, Ordering::Relaxed);
            shared.quiet_since.store(starts.unwrap_or_default(), Ordering::Relaxed);
            shared.top_up();
            shared.fork_ahead().await;
        });
    }

    /// Whether there was no start for a while, nor is one waiting.
    fn is_quiet(&self) -> bool {
        self.quiet_since.load(Ordering::Relaxed) == self.starts.load(Ordering::Relaxed)
            && self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Has children wait in the ready slots of a template that forks for any function, as long as it is quiet.
    async fn fork_ahead(self: &Arc<Self>) {
        while self.spec.function.is_none() && self.is_quiet() {
            let slot = {
                let mut state = self.state();
                let at = state.ready.iter().position(|slot| slot.child.is_none());
                at.and_then(|at| state.ready.remove(at))
            };
            let Some(mut slot) = slot else { return };
            let order = async { protocol::send(&slot.orders, Kind::Fork, protocol::AHEAD, slot.id, 0, &[], &[]) };
            let answer = self.ask(slot.id, Kind::Forked, order).await;
            match answer.and_then(child) {
                Ok(pid) => {
                    slot.child = Some(self.watch(slot.id, pid));
                    self.state().ready.push_front(slot);
                    self.changed.notify_waiters();
                }
                Err(_) => return self.give_up(slot),
            }
        }
    }

    /// Orders what is missing to the number of ready slots that is wanted, or removes what is too many.
    fn top_up(self: &Arc<Self>) {
        let target = self.target.load(Ordering::Relaxed);
        let spare = {
            let mut state = self.state();
            let wanted = target + self.waiting.load(Ordering::Relaxed);
            let keep = state.ready.len().min(wanted);
            state.ready.split_off(keep)
        };
        for slot in spare {
            let _ = os::pidfd::kill(&slot.process);
            self.bury(slot.id, slot.group);
        }
        self.order_up_to(target);
    }

    fn order_up_to(&self, wanted: usize) {
        let there = {
            let state = self.state();
            state.ready.len() + state.making.len()
        };
        for _ in there..wanted {
            if self.order_slot().is_err() {
                return;
            }
        }
    }
}

/// Removes a group whose processes have just ended: the kernel may still be busy with the last of them.
pub(super) async fn remove(group: &Group) {
    for _ in 0..100 {
        if group.remove() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!(?group, "a cgroup could not be removed");
}
