//! Which applications of a flow leave their items with the engines that make them: those whose sets go nowhere but to
//! functions that run on the same engines.

use super::shard::Perform;
use crate::dispatch::{Hold, Holding};
use flow::Program;
use flow::graph::{App, AppId, Graph, GraphId, SetInfo, Target};
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
    let is_near = |set: &SetInfo| set.takers.iter().all(|(taker, _)| is_near(&graph.apps[*taker]));
    let mut sets = app.outputs.iter().map(|(_, set)| &graph.sets[*set]);
    !app.outputs.is_empty() && sets.all(|set| set.outputs.is_empty() && is_near(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::shard::{Made, Work};
    use flow::language::{Offline, check};
    use std::pin::Pin;

    /// Functions whose names begin with `p` are pure.
    struct Names;

    impl Perform for Names {
        fn perform(&self, _: Work) -> Pin<Box<dyn Future<Output = Made> + Send>> {
            Box::pin(std::future::pending())
        }

        fn engines_of(&self, function: &str) -> Option<u8> {
            function.starts_with('p').then(|| u8::from(function.ends_with("far")))
        }

        fn holding(&self, _: u8, from: u32) -> Option<Arc<Holding>> {
            Some(Holding::to_nobody(from))
        }
    }

    /// Of each application of the flow whether it leaves its items where they are.
    fn kept(text: &str) -> Vec<bool> {
        let program = check(text, None, &Offline).program.unwrap();
        let keeping = Keeping::of(&program, &Names, 4096);
        let graph = program.graphs.len() - 1;
        (0..program.main().apps.len()).map(|app| keeping.get(graph, app).is_some_and(|hold| hold.keeps)).collect()
    }

    #[test]
    fn items_stay_where_all_who_take_them_are() {
        let flow = |body: &str| kept(&format!("flow f(A) => (Z) {{ {body} }}"));
        assert_eq!(flow("p1(a = all A) => (B = r); p2(a = each B) => (Z = r);"), [true, false]);
        assert_eq!(flow("p1(a = all A) => (B = r); h(a = each B) => (Z = r);"), [false, false]);
        assert_eq!(flow("p1(a = all A) => (B = r); pfar(a = each B) => (Z = r);"), [false, false]);
        assert_eq!(
            flow(
                "p1(a = all A) => (B = r, C = q); p2(a = each B, c = all C) => (D = r); h(c = all C, d = all D) => (Z = r);"
            ),
            [false, false, false]
        );
        assert_eq!(
            flow("p1(a = all A) => (B = r); p2(a = all B) => (C = r); p3(a = all B, c = all C) => (Z = r);"),
            [true, true, false]
        );
        // What goes into a run of its own for each part is not followed there.
        let inner = "flow g(X) => (Y) { p2(x = all X) => (Y = r); }";
        assert_eq!(
            kept(&format!("{inner} flow f(A) => (Z) {{ p1(a = all A) => (B = r); g(X = each B) => (Z = Y); }}")),
            [false, false]
        );
    }
}
