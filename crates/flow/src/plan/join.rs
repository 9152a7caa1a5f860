//! Inputs that are joined by their keys, once all of them are complete: the combinations are made one at a time, key by
//! key, and what a key has had is dropped with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::part::Part;
use crate::graph::Join;

/// Combinations that are still to come.
#[derive(Debug)]
pub struct Joined<D> {
    /// For every input of the join, its parts by key.
    inputs: Vec<BTreeMap<u64, Vec<Part<D>>>>,
    keys: VecDeque<u64>,
    /// The combination that comes next of the first key: an index for each input.
    at: Vec<usize>,
}

impl<D> Joined<D> {
    /// The inputs in the order of the join, each with how it is tied to those before it.
    pub fn new(inputs: Vec<(Join, VecDeque<Part<D>>)>) -> Self {
        let mut keys: Option<BTreeSet<u64>> = None;
        let mut maps = Vec::with_capacity(inputs.len());
        for (join, parts) in inputs {
            let mut map: BTreeMap<u64, Vec<Part<D>>> = BTreeMap::new();
            for part in parts {
                map.entry(part.key.unwrap_or(0)).or_default().push(part);
            }
            let own = || map.keys().copied().collect::<BTreeSet<u64>>();
            keys = Some(match keys {
                None => own(),
                Some(before) => match join {
                    Join::Inner => before.into_iter().filter(|key| map.contains_key(key)).collect(),
                    Join::Left => before,
                    Join::Right => own(),
                    // What is crossed is on another axis.
                    Join::Full | Join::Cross => before.union(&own()).copied().collect(),
                },
            });
            maps.push(map);
            // What a key has lost by one join it does not get back by the next.
            let left = keys.get_or_insert_default();
            maps.iter_mut().for_each(|map| map.retain(|key, _| left.contains(key)));
        }
        let keys = keys.unwrap_or_default();
        Self { at: vec![0; maps.len()], inputs: maps, keys: keys.into_iter().collect() }
    }

    /// How many keys are left, about as many as there are combinations.
    pub fn left(&self) -> usize {
        self.keys.len()
    }

    /// The next combination: a part for each input, an empty one where it lacks the key.
    pub fn next(&mut self) -> Option<Vec<Part<D>>>
    where
        D: Clone,
    {
        let key = *self.keys.front()?;
        let part = |(map, at): (&BTreeMap<u64, Vec<Part<D>>>, &usize)| {
            map.get(&key).map_or_else(Part::empty, |parts| parts[*at].clone())
        };
        let combination = self.inputs.iter().zip(&self.at).map(part).collect();
        self.advance(key);
        Some(combination)
    }

    fn advance(&mut self, key: u64) {
        for place in (0..self.at.len()).rev() {
            let parts = self.inputs[place].get(&key).map_or(1, Vec::len);
            self.at[place] += 1;
            if self.at[place] < parts {
                return;
            }
            self.at[place] = 0;
        }
        self.keys.pop_front();
        for map in &mut self.inputs {
            map.remove(&key);
        }
    }
}
