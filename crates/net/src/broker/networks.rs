//! Which network namespaces are one network: the halves of Pods, as the daemon of split networks remembers them.
//!
//! Ports of such a network belong to one half each, so a connection's two addresses say which it is, whichever half its ends
//! are in. Files are read again when the folder has changed; nobody is asked, and nobody has to be there.

use crate::split::{self, Known};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The resolution of a file system's times, and more: what was changed so lately may have been changed again.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Of each namespace, the number of one of its network's: the same for all of them.
#[derive(Default)]
pub struct Networks {
    folder: Option<PathBuf>,
    /// When the folder was changed before it was read last.
    read: Option<SystemTime>,
    of: HashMap<u64, u64>,
    /// Of one network, whose broker this is: who may share memory there.
    users: Option<(u64, Vec<u32>)>,
}

impl Networks {
    pub fn remembered(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..Self::default() }
    }

    /// One network, as it is known now.
    pub fn one(known: &Known) -> Self {
        let first = known.namespaces.iter().min().copied().unwrap_or_default();
        let of = known.namespaces.iter().map(|half| (*half, first)).collect();
        Self { of, users: Some((first, known.users.clone())), ..Self::default() }
    }

    /// Whether connections of a network between these users may go through memory: one user's always, others' where all of them are
    /// declared to be that network's.
    pub fn allows(&self, network: u64, users: [u32; 2]) -> bool {
        let is_declared =
            |(known, all): &(u64, Vec<u32>)| *known == network && users.iter().all(|user| all.contains(user));
        users[0] == users[1] || self.users.as_ref().is_some_and(is_declared)
    }

    /// Whether a namespace is known to be a network's.
    pub fn has(&self, namespace: u64) -> bool {
        self.of.contains_key(&namespace)
    }

    /// The network of a namespace.
    pub fn of(&mut self, namespace: u64) -> u64 {
        self.refresh();
        self.of.get(&namespace).copied().unwrap_or(namespace)
    }

    fn refresh(&mut self) {
        let Some(folder) = &self.folder else { return };
        let changed = std::fs::metadata(folder).and_then(|folder| folder.modified()).ok();
        let settled = changed.is_none_or(|at| at.elapsed().is_ok_and(|age| age > RESOLUTION));
        if changed == self.read && settled {
            return;
        }
        // Where there is no folder, or it is another user's, there are no networks.
        let networks = split::known(folder).unwrap_or_default();
        let halves = networks.iter().map(|network| &network.namespaces);
        let halves = halves.filter_map(|halves| Some((halves, *halves.iter().min()?)));
        self.of = halves.flat_map(|(halves, first)| halves.iter().map(move |half| (*half, first))).collect();
        self.read = changed;
    }
}
