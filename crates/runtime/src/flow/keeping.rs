//! Which applications of a flow leave their items with the engines that make them: those whose sets go nowhere but to
//! functions that run on the same engines.

use super::shard::Perform;
use crate::dispatch::{Hold, Holding};
use flow::Program;
use flow::graph::{App, AppId, Graph, GraphId, Target};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Of one run.
#[derive(Debug, Default)]
pub struct Keeping {
    apps: HashMap<(GraphId, AppId), Hold>,
}

impl Keeping {
    /// Items from `from` bytes on are held.
    pub fn of(program: &Program, performer: &dyn Perform, from: u32) -> Self {
        let engines: BTreeMap<&str, u8> =
            program.functions().into_iter().filter_map(|name| Some((name, performer.engines_of(name)?))).collect();
        let mut holdings: HashMap<u8, Option<Arc<Holding>>> = HashMap::new();
        let mut apps = HashMap::new();
        for (graph, shape) in program.graphs.iter().enumerate() {
            let own = |app: &App| match &app.target {
                Target::Function(name) => engines.get(name.as_str()).copied(),
                Target::Flow(_) => None,
            };
            for (id, app) in shape.apps.iter().enumerate() {
                let Some(pu) = own(app) else { continue };
                let keeps = stays(shape, app, |taker| own(taker) == Some(pu));
                let holding = holdings.entry(pu).or_insert_with(|| performer.holding(pu, from));
                let hold = holding.as_ref().map(|holding| Hold { holding: holding.clone(), keeps });
                apps.extend(hold.map(|hold| ((graph, id), hold)));
            }
        }
        // Where nobody leaves anything, nobody is told anything.
        if apps.values().any(|hold| hold.keeps) { Self { apps } } else { Self::default() }
    }

    pub fn get(&self, graph: GraphId, app: AppId) -> Option<&Hold> {
        self.apps.get(&(graph, app))
    }
}

/// Whether all sets of an application go to such takers only.
fn stays(graph: &Graph, app: &App, is_near: impl Fn(&App) -> bool) -> bool {
    app.outputs.iter().all(|(_, set)| {
        let set = &graph.sets[*set];
        set.outputs.is_empty() && set.takers.iter().all(|(taker, _)| is_near(&graph.apps[*taker]))
    })
}
