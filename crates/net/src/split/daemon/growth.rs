//! A network that gets one more half: a Pod that was not split, or one that is to be split further.
//!
//! What the halves have is made as in a new network: each step can be done again, and ports are divided anew. What was bound, or connected,
//! at a port that is another half's to choose from now on is found, as what was there before the network is.

use super::{Daemon, Refusal};
use crate::split::Half;
use crate::split::client::Answer;
use crate::split::plan::Side;
use crate::split::state::{HalfMemory, Memory};
use std::net::IpAddr;
use tracing::info;

impl Daemon {
    /// Takes one more half in.
    pub fn split(
        &mut self,
        name: &str,
        half: Half,
        uplink: Option<String>,
        addresses: Vec<IpAddr>,
    ) -> Result<Answer, Refusal> {
        let before = self.joined(name)?.memory.clone();
        let (mut memory, was_split) = (before.clone(), before.network.is_split());
        if was_split && (uplink.is_some() || !addresses.is_empty()) {
            return Err(Refusal::Split(name.to_owned()));
        }
        memory.network.uplink = uplink.or(memory.network.uplink);
        if !addresses.is_empty() {
            memory.network.addresses = addresses;
        }
        memory.network.halves.push(half.clone());
        memory.network.check()?;
        let standing = self.stand(&half)?;
        let (number, count) = (before.halves.len(), memory.network.halves.len());
        let was = standing.note(&half.pu, &Side::new(number, count, &[]))?;
        memory.halves.push(HalfMemory { namespace: standing.namespace, was });
        let joined = self.joined(name)?;
        if !was_split && let Some(first) = &joined.halves[0] {
            memory.halves[0].was = first.note(&memory.network.halves[0].pu, &Side::new(0, count, &[]))?;
        }
        joined.memory = memory.clone();
        joined.halves.push(Some(standing));
        match self.folder.keep(&memory).map_err(Refusal::Memory).and_then(|()| self.complete(name)) {
            Ok(contended) => {
                info!(network = name, pu = half.pu, "one more half");
                Ok(Answer::Joined { contended })
            }
            Err(refusal) => {
                self.shrink(name, before)?;
                Err(refusal)
            }
        }
    }

    /// Takes the last half out again, and the first back to what it was if it is alone then.
    fn shrink(&mut self, name: &str, before: Memory) -> Result<(), Refusal> {
        let (number, is_split) = (before.halves.len(), before.network.is_split());
        let stripped: &[usize] = if is_split { &[number] } else { &[0, number] };
        let joined = self.joined(name)?;
        let (id, whole, mut namespaces) = (joined.id, joined.whole(&[]), Vec::new());
        for &number in stripped {
            let Some(half) = &joined.halves[number] else { continue };
            whole.strip(number, half, &joined.memory.halves[number].was);
            namespaces.push((number, half.namespace));
        }
        self.disconnect(name, number);
        for (number, namespace) in namespaces {
            let _ = self.hooks.dismiss(namespace).and_then(|()| self.hooks.forget(id, Some(number)));
            self.joined(name)?.table.forget(number);
        }
        let joined = self.joined(name)?;
        joined.halves.truncate(number);
        joined.memory = before.clone();
        self.folder.keep(&before).map_err(Refusal::Memory)?;
        self.complete(name).map(drop)
    }
}
