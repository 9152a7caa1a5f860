//! Memories that a broker before this one has made, as the processes tell of them that have connections there.
//!
//! What a process tells is checked as an offer is: it shows the socket, of which the kernel says what it is, and the memory, which is
//! one. Who has the memory could spoil it anyway, so no more is asked. Connections that begin now get memory that this broker makes:
//! whose numbers in an old one are still to be used, nobody knows.

use super::census;
use super::meetings::{Key, Party};
use super::members::Number;
use super::pairs::Pairs;
use api::node::Connection;
use socket::layout::{CONNECTIONS, RECORD};
use socket::member;
use socket::watch::Watched;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A memory, by what the kernel says of its file.
type Identity = (u64, u64);

/// A connection, of which one end has told at least.
struct Told {
    meeting: u64,
    key: [Option<Key>; 2],
    ends: [Option<Party>; 2],
}

struct Memory {
    watched: Watched,
    known: BTreeMap<u16, Told>,
}

/// All of them.
#[derive(Default)]
pub struct Adopted {
    all: HashMap<Identity, Memory>,
}

impl Adopted {
    /// One end tells of a connection that lies in a memory which is watched.
    pub fn add(&mut self, memory: &Arc<OwnedFd>, connection: member::Connection, key: Key, party: Party) {
        use std::collections::hash_map::Entry;
        let Ok(identity) = Watched::identity(memory) else { return };
        let memory = match self.all.entry(identity) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Watched::new(memory.clone()) {
                Ok(watched) => place.insert(Memory { watched, known: BTreeMap::new() }),
                Err(_) => return,
            },
        };
        let member::Connection { meeting, number, side } = connection;
        let (own, other) = (usize::from(side), usize::from(1 - side));
        if usize::from(number) >= CONNECTIONS || side > 1 {
            return;
        }
        let known = memory.known.entry(number).or_insert(Told { meeting, key: [None; 2], ends: [None; 2] });
        // Who tells something else than the other end has told is not believed; nor is he where he has told it himself.
        let fits = known.meeting == meeting
            && known.key[other].is_none_or(|other| other == key.reversed())
            && known.ends[own].is_none_or(|before| before.owner == party.owner);
        if fits {
            (known.key[own], known.ends[own]) = (Some(key), Some(party));
        }
    }

    /// A process is gone: its ends are closed.
    pub fn leave(&mut self, member: Number) {
        for told in self.all.values_mut().flat_map(|memory| memory.known.values_mut()) {
            for end in told.ends.iter_mut().filter(|end| end.is_some_and(|party| party.owner == member)) {
                *end = None;
            }
        }
    }

    /// Forgets connections that all who have told of them have left, and memories without any: whether there are some left.
    pub fn sweep(&mut self, pairs: &mut Pairs) -> bool {
        self.all.retain(|identity, memory| {
            let Memory { watched, known } = memory;
            known.retain(|number, told| {
                let connection = usize::from(*number);
                let open =
                    (0..2).any(|side| told.ends[side].is_some() && watched.is_open(connection, side, told.meeting));
                if !open && watched.is_free(connection, told.meeting, false) {
                    // Nobody comes back to it; where the kernel does not take it, it goes with the memory.
                    let _ = watched.clear_locals(connection);
                }
                open
            });
            if known.is_empty() {
                pairs.forget(*identity);
            }
            !known.is_empty()
        });
        !self.all.is_empty()
    }

    /// Those of the connections in them that one who is asked for has an end of.
    pub fn census(&self, is_shown: impl Fn(&Party) -> bool + Copy) -> Vec<Connection> {
        let shown = self.all.values().flat_map(|memory| {
            let held = memory.watched.held();
            let shown = memory.known.iter().filter(move |(_, told)| told.ends.iter().flatten().any(is_shown));
            shown.filter_map(move |(&number, told)| {
                let through = [0, 1].map(|side| memory.watched.sends_through(number.into(), side, told.meeting));
                let bytes = held.get(&usize::from(number)).map_or(0, |records| (records * RECORD) as u64);
                let key = told.key[0].or(told.key[1].map(Key::reversed))?;
                Some(census::known(told.ends, key.ends(), through, bytes))
            })
        });
        shown.collect()
    }
}
