//! What a node occupies when it is at rest, to be compared with what it occupied before.

use crate::census::{self, Census, Part};
use std::fmt;

/// MiB by which a daemon's memory may differ: what an allocator keeps.
const MEMORY_SLACK: f64 = 8.0;

const PARTS: [&str; 3] = ["templates", "slots", "instances"];

/// A node at rest.
#[derive(Clone, Debug, Default)]
pub struct Occupied {
    /// Daemons by name: descriptors, private MiB.
    pub daemons: Vec<(&'static str, usize, f64)>,
    /// Templates, slots, instances.
    pub parts: [usize; 3],
    pub cgroups: usize,
    pub mounts: usize,
}

impl Occupied {
    pub fn look(supervisor: u32) -> Self {
        let census = Census::take(supervisor);
        let named = [
            ("supervisor", Part::Supervisor),
            ("gateway", Part::Gateway),
            ("worker", Part::Worker),
            ("nursery", Part::Nursery),
        ];
        let daemons = named.into_iter().filter_map(|(name, part)| {
            let pid = census.of(part).next()?.pid;
            Some((name, census::descriptors(pid), census::private_mib(pid)))
        });
        let worker = census.of(Part::Worker).next().map_or(0, |process| process.pid);
        Self {
            daemons: daemons.collect(),
            parts: [Part::Template, Part::Slot, Part::Instance].map(|part| census.of(part).count()),
            cgroups: census::cgroups(worker),
            mounts: census::mounts(worker),
        }
    }

    /// What is more than `before`, as sentences.
    pub fn growth_since(&self, before: &Self) -> Vec<String> {
        let mut growth = Vec::new();
        let mut compare = |what: &str, before: usize, now: usize| {
            if now > before {
                growth.push(format!("{what}: {before} before, {now} now"));
            }
        };
        for (what, (before, now)) in PARTS.iter().zip(before.parts.iter().zip(self.parts)) {
            compare(what, *before, now);
        }
        compare("cgroups", before.cgroups, self.cgroups);
        compare("mounts", before.mounts, self.mounts);
        for ((name, descriptors, memory), (_, old_descriptors, old_memory)) in self.daemons.iter().zip(&before.daemons)
        {
            if descriptors > old_descriptors {
                growth.push(format!("descriptors of the {name}: {old_descriptors} before, {descriptors} now"));
            }
            if *memory > old_memory + MEMORY_SLACK {
                growth.push(format!("memory of the {name}: {old_memory:.1} MiB before, {memory:.1} now"));
            }
        }
        growth
    }
}

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, descriptors, memory) in &self.daemons {
            write!(f, "{name} {memory:.1} MiB and {descriptors} descriptors, ")?;
        }
        for (name, count) in PARTS.iter().zip(self.parts) {
            write!(f, "{count} {name}, ")?;
        }
        write!(f, "{} cgroups, {} mounts", self.cgroups, self.mounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_and_shrinking_is_not() {
        let before = Occupied { daemons: vec![("gateway", 10, 20.0)], parts: [1, 2, 3], cgroups: 8, mounts: 30 };
        assert!(before.growth_since(&before).is_empty());
        let less = Occupied { daemons: vec![("gateway", 9, 25.0)], parts: [1, 2, 0], cgroups: 8, mounts: 30 };
        assert!(less.growth_since(&before).is_empty());
        let more = Occupied { daemons: vec![("gateway", 11, 40.0)], parts: [1, 3, 3], cgroups: 9, mounts: 31 };
        assert_eq!(more.growth_since(&before).len(), 5);
        assert!(Occupied::look(std::process::id()).to_string().starts_with("supervisor "));
    }
}
