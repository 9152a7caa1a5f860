//! A checked module to graphs. A flow that is applied to whole sets is put into the graph that applies it, so that its
//! functions start as their own inputs come; one that is applied piece by piece stays a target.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Found, World, apply};
use crate::graph::{self, App, Axis, Graph, GraphId, Join, Mode, OnError, Port, Program, SetId, SetInfo, Target};
use crate::language::ast::{Application, Content, Flow, OnErrorKind, Static};
use crate::language::diagnostic::Findings;

/// Applications of a graph, at most: flows within flows multiply.
const MOST_APPS: usize = 1024;
/// Flows of other texts with their applications, at most: so do they.
const MOST_LINKED: usize = 1024;

/// `order` has the flows that are built, inner ones first; `orders` the applications of every flow.
pub fn program(
    world: &World<'_>,
    orders: &[Vec<usize>],
    order: &[usize],
    findings: &mut Findings<'_>,
) -> Option<Program> {
    let mut built: BTreeMap<usize, GraphId> = BTreeMap::new();
    let mut graphs: Vec<Graph> = Vec::new();
    let linked = linked(world, order, &mut graphs, findings)?;
    for index in order {
        let flow = &world.module.flows[*index];
        let (graph, sets) = (empty(flow), BTreeMap::new());
        let mut builder = Builder { world, built: &built, linked: &linked, graphs: &graphs, graph, sets };
        builder.start(flow);
        for application in &orders[*index] {
            builder.apply(&flow.applications[*application], findings);
            if builder.graph.apps.len() > MOST_APPS {
                let span = &flow.applications[*application].target.span;
                let message =
                    format!("with the flows within it, `{}` has more than {MOST_APPS} applications", flow.name.text);
                findings.error(span, message).hint("deploy a part of it as a flow of its own");
                return None;
            }
        }
        let graph = builder.finish(flow);
        built.insert(*index, graphs.len());
        graphs.push(graph);
    }
    Some(Program { graphs })
}

/// Takes in the flows of other texts that these apply: the graph of each name.
fn linked<'a>(
    world: &World<'a>,
    order: &[usize],
    graphs: &mut Vec<Graph>,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<&'a str, GraphId>> {
    let mut linked = BTreeMap::new();
    for application in order.iter().flat_map(|index| &world.module.flows[*index].applications) {
        let target = &application.target;
        let Found::Deployed(program) = world.find(&target.text) else { continue };
        if linked.contains_key(target.text.as_str()) {
            continue;
        }
        let first = graphs.len();
        if size(graphs) + size(&program.graphs) > MOST_LINKED {
            let message = format!("with `{}`, more than {MOST_LINKED} applications are within flows", target.text);
            findings.error(&target.span, message).hint("apply fewer flows, or smaller ones");
            return None;
        }
        graphs.extend(program.graphs.iter().cloned().map(|graph| behind(graph, first)));
        linked.insert(target.text.as_str(), graphs.len() - 1);
    }
    Some(linked)
}

fn size(graphs: &[Graph]) -> usize {
    graphs.iter().map(|graph| 1 + graph.apps.len()).sum()
}

/// A graph of another program, of which the first is to be the one of this number.
fn behind(mut graph: Graph, first: GraphId) -> Graph {
    for app in &mut graph.apps {
        if let Target::Flow(inner) = &mut app.target {
            *inner += first;
        }
    }
    graph
}

fn empty(flow: &Flow) -> Graph {
    let name = flow.name.text.clone();
    Graph { name, inputs: Vec::new(), outputs: Vec::new(), sets: Vec::new(), apps: Vec::new(), statics: Vec::new() }
}

struct Builder<'a> {
    world: &'a World<'a>,
    built: &'a BTreeMap<usize, GraphId>,
    linked: &'a BTreeMap<&'a str, GraphId>,
    graphs: &'a [Graph],
    graph: Graph,
    /// What the flow's names of sets mean.
    sets: BTreeMap<&'a str, SetId>,
}

impl<'a> Builder<'a> {
    fn start(&mut self, flow: &'a Flow) {
        for input in &flow.inputs {
            let set = self.set(&input.text);
            self.sets.insert(&input.text, set);
            self.graph.inputs.push((input.text.clone(), set));
        }
        let names = |name: &str| {
            let inputs = flow.applications.iter().flat_map(|application| &application.inputs);
            inputs.map(|input| &input.set).chain(&flow.outputs).any(|set| set.text == name)
        };
        // The flow's own come first: they hide the module's.
        for fixed in flow.statics.iter().chain(&self.world.module.statics) {
            let name = fixed.name.text.as_str();
            let made = flow.applications.iter().flat_map(super::scope::made).any(|set| set.text == name);
            if names(name) && !made && !self.sets.contains_key(name) {
                let set = self.set(name);
                self.sets.insert(name, set);
                self.graph.statics.push((set, items(fixed)));
            }
        }
    }

    fn set(&mut self, name: &str) -> SetId {
        self.graph.sets.push(SetInfo { name: name.to_owned(), ..SetInfo::default() });
        self.graph.sets.len() - 1
    }

    fn apply(&mut self, application: &'a Application, findings: &mut Findings<'_>) {
        let inner = match self.world.find(&application.target.text) {
            Found::Flow(index) => self.built.get(&index).copied(),
            Found::Deployed(_) => self.linked.get(application.target.text.as_str()).copied(),
            Found::Function(_) | Found::Missing(_) | Found::Unfit(_) => None,
        };
        match inner {
            Some(inner) if whole(application) && !passes(&self.graphs[inner]) => self.put_in(application, inner),
            _ => {
                let app = self.app(application, inner, findings);
                self.graph.apps.push(app);
            }
        }
    }

    fn app(&mut self, application: &'a Application, inner: Option<GraphId>, findings: &Findings<'_>) -> App {
        let ports = application.inputs.iter().map(|input| Port {
            parameter: input.parameter.text.clone(),
            set: self.sets[input.set.text.as_str()],
            mode: input.mode,
            optional: input.optional,
        });
        let ports = ports.collect();
        let mut outputs = Vec::with_capacity(application.outputs.len());
        for output in &application.outputs {
            let set = self.set(&output.set.text);
            self.sets.insert(&output.set.text, set);
            outputs.push((output.result.text.clone(), set));
        }
        let on_error = match application.on_error.as_ref().map(|on_error| &on_error.kind) {
            None | Some(OnErrorKind::Fail) => OnError::Fail,
            Some(OnErrorKind::Skip) => OnError::Skip,
            Some(OnErrorKind::Into(name)) => {
                let set = self.set(&name.text);
                self.sets.insert(&name.text, set);
                OnError::Into(set)
            }
        };
        let name = application.target.text.clone();
        App {
            label: name.clone(),
            target: inner.map_or(Target::Function(name), Target::Flow),
            ports,
            axes: axes(application),
            gates: Vec::new(),
            outputs,
            on_error,
            line: findings.line(application.span.start),
        }
    }

    /// Puts the applications of an inner flow in the place of one that applies it to whole sets.
    fn put_in(&mut self, application: &'a Application, inner: GraphId) {
        let inner = &self.graphs[inner];
        let mut map: BTreeMap<SetId, SetId> = BTreeMap::new();
        let mut gates = Vec::new();
        for (parameter, set) in &inner.inputs {
            // All of them are given: that has been checked.
            let Some(input) = application.inputs.iter().find(|input| input.parameter.text == *parameter) else {
                continue;
            };
            let outer = self.sets[input.set.text.as_str()];
            map.insert(*set, outer);
            // Where a set that must not be empty is, nothing of the flow runs: not even what does not take it.
            gates.extend((!input.optional).then_some(outer));
        }
        for (set, info) in inner.sets.iter().enumerate() {
            map.entry(set).or_insert_with(|| self.set(&format!("{}.{}", inner.name, info.name)));
        }
        self.graph.statics.extend(inner.statics.iter().map(|(set, items)| (map[set], items.clone())));
        let label = &application.target.text;
        self.graph.apps.extend(inner.apps.iter().map(|app| moved(app, label, &map, &gates)));
        for output in &application.outputs {
            if let Some((_, set)) = inner.outputs.iter().find(|(name, _)| *name == output.result.text) {
                self.graph.sets[map[set]].name.clone_from(&output.set.text);
                self.sets.insert(&output.set.text, map[set]);
            }
        }
    }

    fn finish(mut self, flow: &Flow) -> Graph {
        let outputs = flow.outputs.iter().map(|output| (output.text.clone(), self.sets[output.text.as_str()]));
        self.graph.outputs = outputs.collect();
        let Graph { sets, apps, outputs, .. } = &mut self.graph;
        for (index, app) in apps.iter().enumerate() {
            for (port, taken) in app.ports.iter().enumerate() {
                sets[taken.set].takers.push((index, port));
            }
            for gate in &app.gates {
                sets[*gate].gated.push(index);
            }
        }
        for (index, (_, set)) in outputs.iter().enumerate() {
            sets[*set].outputs.push(index);
        }
        self.graph
    }
}

fn whole(application: &Application) -> bool {
    application.inputs.iter().all(|input| input.mode == Mode::All)
}

/// Whether a flow gives something that none of its functions has made: then its being run or not is not that of its
/// functions.
fn passes(graph: &Graph) -> bool {
    let made = |set: SetId| {
        graph
            .apps
            .iter()
            .any(|app| app.outputs.iter().any(|(_, made)| *made == set) || app.on_error == OnError::Into(set))
    };
    graph.outputs.iter().any(|(_, set)| !made(*set))
}

/// An inner flow's application, where it is put in.
fn moved(app: &App, label: &str, map: &BTreeMap<SetId, SetId>, gates: &[SetId]) -> App {
    let mut app = app.clone();
    app.label = format!("{label}.{}", app.label);
    for port in &mut app.ports {
        port.set = map[&port.set];
    }
    for set in app.outputs.iter_mut().map(|(_, set)| set).chain(&mut app.gates) {
        *set = map[set];
    }
    if let OnError::Into(set) = &mut app.on_error {
        *set = map[set];
    }
    for gate in gates {
        let needed = |port: &Port| port.set == *gate && !port.optional;
        if !app.ports.iter().any(needed) && !app.gates.contains(gate) {
            app.gates.push(*gate);
        }
    }
    app
}

/// Joined inputs share an axis; `cross` begins another one.
fn axes(application: &Application) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut placed = Vec::new();
    for (name, join) in &application.by {
        let Some(port) = apply::joined(application, &name.text) else { continue };
        placed.push(port);
        match (join, axes.last_mut()) {
            (Some(join), Some(axis)) if *join != Join::Cross => axis.ports.push((port, *join)),
            _ => axes.push(Axis { ports: vec![(port, Join::Cross)] }),
        }
    }
    let others = (0..application.inputs.len()).filter(|port| !placed.contains(port));
    axes.extend(others.map(|port| Axis { ports: vec![(port, Join::Cross)] }));
    // Shards are counted along the inputs, in their order.
    axes.sort_by_key(|axis| axis.ports.iter().map(|(port, _)| *port).min());
    axes
}

fn items(fixed: &Static) -> Vec<graph::StaticItem> {
    let items = fixed.items.iter().map(|item| graph::StaticItem {
        name: item.name.as_ref().map(|name| name.text.clone()),
        key: item.key,
        content: match &item.content {
            Content::Text(text) => graph::Content::Ready(Bytes::from(text.clone())),
            Content::File(path) => graph::Content::File(path.clone()),
        },
    });
    items.collect()
}
