//! What the node wants done, done.

use crate::admission::Kind;
use crate::process::Process;
use crate::protocol::call::AttachError;
use crate::protocol::{Action, Input};
use crate::shim::{Arriving, Shim};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use xpucall::abi::{ended, quota, status};
use xpucall::id::{PuId, XpuPid};
use xpucall::wire::Event;

impl Shim {
    /// Carries out one action.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Attached { result, .. } => self.arrive(result),
            Action::Answer { id, answer, .. } => self.answer(id, answer),
            Action::Send { to, message, with } => self.send(to, &message, with),
            Action::Make { lane, by, limits, .. } => {
                let made = self.make(lane, by, &limits);
                self.inputs.push_back(Input::Made { lane, made });
            }
            Action::Open { lane, reader, writer, limits, source, .. } => {
                self.add_lane(lane, reader, writer, &limits, source);
            }
            Action::Relay { lane, credit } => self.relay_out(lane, credit),
            Action::Frame { lane, bytes } => self.relay_frame(lane, bytes),
            Action::Credit { lane, bytes } => self.relay_credit(lane, bytes),
            Action::Cut { lane, side, cause, drain } => self.cut(lane, side, cause, drain),
            Action::Dismiss { reader, cause, .. } => self.dismiss(reader, cause),
            Action::Start { pid, by, program } => self.start(pid, by, &program),
            Action::Fence => self.fence(),
            Action::Serve { incarnation } => {
                tracing::info!(pu = self.config.pu.0, incarnation, "serving");
                self.report(&crate::control::Report::Serving { incarnation });
            }
            Action::Expel { pu, incarnation } => {
                tracing::warn!(pu = pu.0, incarnation, "that PU's life is over: it was out of reach");
                self.report(&crate::control::Report::Expelled { pu, incarnation });
            }
            Action::Drop { pu } => self.drop_link(pu),
            Action::Persist { incarnation, members } => self.persist(incarnation, members),
            Action::Wake { at } => self.wake = at,
        }
    }

    /// The process that has said hello has an id, or none.
    fn arrive(&mut self, result: Result<XpuPid, AttachError>) {
        let Some(arriving) = self.arriving.take() else { return };
        let (status, value) = match result {
            Ok(pid) => return self.attach(pid, arriving),
            Err(AttachError::Fenced) => (status::FENCED, 0),
            Err(AttachError::Exhausted) => (status::QUOTA, quota::PROCESSES),
        };
        // It has nothing yet: that it hangs up says the rest.
        let _ = crate::process::say(&arriving.socket, &Event::Refused { status, value }, &[]);
    }

    /// Takes a process in.
    pub(crate) fn attach(&mut self, pid: XpuPid, arriving: Arriving) {
        let Arriving { socket, identity, transport, death, mut usage, number } = arriving;
        match Process::welcome(pid, identity.clone(), transport, socket, death) {
            Ok(mut process) => {
                process.usage = usage;
                process.number = number;
                let key = self.number();
                if let Err(error) = self.watch(key, &process) {
                    tracing::warn!(%error, "a process could not be watched");
                    self.admission.leave(&identity, &mut process.usage);
                    return self.inputs.push_back(Input::Gone { pid });
                }
                self.polled += usize::from(process.is_polled());
                self.warm(key, &mut process);
                self.by_pid.insert(pid, key);
                self.processes.insert(key, process);
            }
            Err(error) => {
                tracing::warn!(%error, "a process could not be taken in");
                self.admission.leave(&identity, &mut usage);
                self.inputs.push_back(Input::Gone { pid });
            }
        }
    }

    /// Ends everything that this PU serves.
    fn fence(&mut self) {
        let all: Vec<u64> = self.processes.keys().copied().collect();
        for key in all {
            // The node knows that none is left when this is done.
            self.release(key, ended::FENCED);
        }
        self.end_children();
        self.end_relays();
        for lane in self.lanes.all.values() {
            lane.hang_up();
        }
        self.lanes.all.clear();
        self.lanes.busy.clear();
        self.inputs.push_back(Input::Fenced);
    }

    fn persist(&mut self, incarnation: u32, members: BTreeSet<PuId>) {
        let Some(path) = &self.config.memory else { return };
        if let Err(error) = remember(path, incarnation, &members) {
            // Without it the next life could give an incarnation twice: better none.
            tracing::error!(%error, path = %path.display(), "cannot write down the term: the shim ends");
            self.over = true;
        }
    }

    /// Refuses a process before it has an id.
    pub(crate) fn turn_away(&mut self, socket: &std::os::fd::OwnedFd, status: u32, value: u64) {
        let _ = crate::process::say(socket, &Event::Refused { status, value }, &[]);
    }

    /// A process counts, with its like.
    pub(crate) fn count(&mut self, identity: &crate::admission::Identity) -> Option<crate::admission::Usage> {
        let mut usage = crate::admission::Usage::default();
        self.admission.take(identity, &mut usage, Kind::Process, 1).then_some(usage)
    }
}

/// Writes what the head's next life must know, so that it is there after a crash at any moment.
fn remember(path: &Path, incarnation: u32, members: &BTreeSet<PuId>) -> io::Result<()> {
    let bytes = postcard::to_stdvec(&(incarnation, members)).map_err(io::Error::other)?;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What the head's last life has written down; where it has not, what a first life begins with.
pub(crate) fn recall(path: &Path) -> io::Result<crate::protocol::Former> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let (incarnation, members) = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
            Ok(crate::protocol::Former { incarnation, members })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // 2026-01-01T00:00:00Z.
            let epoch = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600);
            let since = std::time::SystemTime::now().duration_since(epoch).unwrap_or_default();
            Ok(crate::protocol::Former { incarnation: since.as_secs() as u32, members: BTreeSet::new() })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_known_to_the_next_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("term");
        let first = recall(&path).unwrap();
        assert!(first.members.is_empty());
        remember(&path, first.incarnation + 7, &BTreeSet::from([PuId(0), PuId(3)])).unwrap();
        let next = recall(&path).unwrap();
        assert_eq!((next.incarnation, next.members.len()), (first.incarnation + 7, 2));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(recall(&path).is_err(), "what is no memory is not taken for one");
    }
}
