//! Shards that are run again: those whose engine has ended with them, and those whose items were lost with an engine.
//!
//! A shard whose inputs are lost waits until they are there again. What has made them runs once more, for these items alone;
//! where its own inputs are gone, so does what has made those. All of this takes its turn within the window.

use std::collections::{BTreeMap, BTreeSet};

use sets::{Item, Sets};

use super::part::{Lot, Piece};
use super::past::{Have, Want};
use super::{Action, Data, Plan, Running, Shard, ShardId};

/// A shard that runs once more for some of its items.
#[derive(Debug)]
pub(super) struct Remake<D> {
    wants: Vec<Want<D>>,
    waiters: Vec<ShardId>,
}

/// A shard that waits until all of its inputs are there again: of so many makers.
#[derive(Debug)]
pub(super) struct Waiting<D> {
    running: Running<D>,
    makers: usize,
}

fn items<D>(inputs: &[Piece<D>]) -> impl Iterator<Item = &Item<Have<D>>> {
    inputs.iter().flat_map(|lot| &lot.items)
}

impl<D: Data> Plan<D> {
    /// Begins a shard, or has it wait for what it takes.
    pub(super) fn launch(&mut self, id: ShardId, mut running: Running<D>, out: &mut Vec<Action<D>>) {
        let missing = |item: &Item<Have<D>>| match &item.data {
            Have::Away(away) if away.is_missing() => Some(away.maker.shard),
            _ => None,
        };
        let makers: BTreeSet<ShardId> = items(&running.inputs).filter_map(missing).collect();
        if !makers.is_empty() {
            for maker in &makers {
                self.remakes.entry(*maker).and_modify(|remake| remake.waiters.push(running.origin));
            }
            self.waiting.insert(running.origin, Waiting { running, makers: makers.len() });
            return;
        }
        let (graph, app) = running.of;
        let inputs = match self.again[graph][app] {
            true => running.inputs.iter().map(copied).collect(),
            false => std::mem::take(&mut running.inputs).into_iter().map(taken).collect(),
        };
        self.running.insert(id, running);
        out.push(Action::Run(Shard { id, graph, app, inputs }));
    }

    /// A shard has come to nothing by the end of an engine, with these of its inputs, or with the shard where there are none.
    /// Whether it is run again.
    pub(super) fn run_again(
        &mut self,
        shard: ShardId,
        mut running: Running<D>,
        lost: &[usize],
    ) -> Result<(), Running<D>> {
        let (graph, app) = running.of;
        let tries = if lost.is_empty() { running.tries.after_end() } else { running.tries.after_loss() };
        let Some(tries) = tries.filter(|_| self.again[graph][app]) else { return Err(running) };
        if self.remake(shard, &running, lost).is_none() {
            return Err(running);
        }
        running.tries = tries;
        self.delayed.push_back(running);
        Ok(())
    }

    /// Has these inputs of a shard made again. None, and nothing is changed, where it is not known how.
    fn remake(&mut self, shard: ShardId, running: &Running<D>, lost: &[usize]) -> Option<()> {
        let inputs: Vec<&Item<Have<D>>> = items(&running.inputs).collect();
        let mut wants = Vec::with_capacity(lost.len());
        for at in lost {
            let Item { name, key, data: Have::Away(away) } = inputs.get(*at)? else { return None };
            // Others may have lost it before: it is being made again, or has been.
            if away.is_of(shard) {
                wants.push(Want { away: away.clone(), name: name.clone(), key: *key });
            }
        }
        let gone: Vec<_> = wants.iter().map(|want| want.away.clone()).collect();
        let (mut fresh, mut joining) = (BTreeMap::new(), Vec::new());
        while let Some(want) = wants.pop() {
            let maker = want.away.maker.shard;
            if self.remakes.contains_key(&maker) {
                joining.push(want);
                continue;
            }
            if let Some((_, wanted)) = fresh.get_mut(&maker) {
                Vec::push(wanted, want);
                continue;
            }
            let recipe = self.recipes.get(maker)?;
            let tries = recipe.tries.after_loss()?;
            let inputs = recipe.inputs.iter().map(|trace| trace.revive(&mut wants)).collect();
            let again = Running { origin: maker, of: (recipe.graph, recipe.app), toward: None, inputs, tries };
            fresh.insert(maker, (again, vec![want]));
        }
        gone.iter().for_each(|away| away.lose());
        for want in joining {
            self.remakes.entry(want.away.maker.shard).and_modify(|remake| remake.wants.push(want));
        }
        for (maker, (again, wants)) in fresh {
            self.remakes.insert(maker, Remake { wants, waiters: Vec::new() });
            self.delayed.push_back(again);
        }
        Some(())
    }

    /// A shard that had run before has run again. Whether what was wanted of it is there, as it was.
    pub(super) fn remade(&mut self, shard: ShardId, running: &Running<D>, outputs: &Sets<D>) -> bool {
        let Some(Remake { wants, waiters }) = self.remakes.remove(&running.origin) else { return true };
        self.recipes.tried(running.origin, running.tries);
        let program = self.program.clone();
        let results = &program.graphs[running.of.0].apps[running.of.1].outputs;
        for Want { away, name, key } in wants {
            let (result, index) = away.nth;
            let of = |set: &&sets::Set<D>| results.get(result).is_some_and(|(name, _)| *name == set.name);
            let item = outputs.iter().find(of).and_then(|set| set.items.get(index));
            let Some(item) = item.filter(|item| item.name == name && item.key == key) else { return false };
            away.put(item.data.clone(), shard);
        }
        for waiter in waiters {
            let Some(waiting) = self.waiting.get_mut(&waiter) else { continue };
            waiting.makers -= 1;
            if waiting.makers == 0 {
                self.delayed.extend(self.waiting.remove(&waiter).map(|waiting| waiting.running));
            }
        }
        true
    }
}

/// None of it is missing where this is asked.
fn copied<D: Data>(lot: &Piece<D>) -> Vec<Item<D>> {
    let item = |item: &Item<Have<D>>| Some(Item::new(item.name.clone(), item.key, item.data.data()?));
    lot.items.iter().filter_map(item).collect()
}

fn taken<D: Data>(lot: Piece<D>) -> Vec<Item<D>> {
    let item = |item: Item<Have<D>>| Some(Item::new(item.name, item.key, item.data.data()?));
    Lot::into_items(lot).into_iter().filter_map(item).collect()
}
