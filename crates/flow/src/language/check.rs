//! A module to a program: names are resolved, and everything that can be wrong is looked for.
//!
//! | module | what it looks at |
//! |---|---|
//! | here | declarations, and which flows apply which |
//! | [`bounds`] | how much there is of everything, so that the rest takes no time to speak of |
//! | [`scope`] | the sets of one flow: who makes them, who takes them, in which order |
//! | [`apply`] | one application against the signature of its target |
//! | [`build`] | the graph, once nothing is wrong |

mod apply;
mod bounds;
mod build;
mod scope;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::ast::{Flow, Function, Module, Name};
use super::diagnostic::Findings;
use super::{Known, Lookup, Signature};
use crate::graph::Program;

/// Flows within flows, at most.
const DEEPEST: usize = 16;

/// What a text's names mean outside of its flows.
struct World<'a> {
    module: &'a Module,
    functions: BTreeMap<&'a str, &'a Function>,
    /// Indices into the module's flows.
    flows: BTreeMap<&'a str, usize>,
    known: &'a dyn Known,
    /// What [`Known::names`] has said.
    names: OnceCell<Vec<String>>,
}

/// What an application applies.
enum Found<'a> {
    Flow(usize),
    /// A flow of its own, of another text.
    Deployed(Arc<Program>),
    Unfit(String),
    /// A function, and its sets where these are known.
    Function(Option<Signature>),
    Missing(Vec<&'a str>),
}

impl<'a> World<'a> {
    fn find(&self, name: &str) -> Found<'a> {
        if let Some(flow) = self.flows.get(name) {
            return Found::Flow(*flow);
        }
        let known = self.known.lookup(name);
        match (known, self.functions.get(name)) {
            (Lookup::Flow(program), _) => Found::Deployed(program),
            (Lookup::Unfit(reason), _) => Found::Unfit(reason),
            (_, Some(function)) => Found::Function(Some(signature(&function.inputs, &function.outputs))),
            (Lookup::Open, None) => Found::Function(None),
            (Lookup::Exact(signature), None) => Found::Function(Some(signature)),
            (Lookup::Missing, None) => Found::Missing(self.declared()),
        }
    }

    fn declared(&self) -> Vec<&'a str> {
        self.functions.keys().chain(self.flows.keys()).copied().collect()
    }
}

/// The sets that a flow of another text takes and gives.
fn of_program(program: &Program) -> Signature {
    let names = |sets: &[(String, usize)]| sets.iter().map(|(name, _)| name.clone()).collect();
    Signature { inputs: names(&program.main().inputs), outputs: names(&program.main().outputs), aliases: Vec::new() }
}

fn signature(inputs: &[Name], outputs: &[Name]) -> Signature {
    let texts = |names: &[Name]| names.iter().map(|name| name.text.clone()).collect();
    Signature { inputs: texts(inputs), outputs: texts(outputs), aliases: Vec::new() }
}

pub fn program(module: &Module, main: Option<&str>, known: &dyn Known, findings: &mut Findings<'_>) -> Option<Program> {
    bounds::check(module, findings)?;
    let world = declared(module, known, findings);
    let main = main_flow(&world, main, findings)?;
    let orders: Vec<Vec<usize>> = module.flows.iter().map(|flow| scope::check(&world, flow, findings)).collect();
    unused_functions(&world, findings);
    let order = nesting(&world, main, findings)?;
    unused_flows(&world, main, &order, findings);
    if findings.has_errors() {
        return None;
    }
    build::program(&world, &orders, &order, findings)
}

fn declared<'a>(module: &'a Module, known: &'a dyn Known, findings: &mut Findings<'_>) -> World<'a> {
    let mut world = World { module, functions: BTreeMap::new(), flows: BTreeMap::new(), known, names: OnceCell::new() };
    for function in &module.functions {
        let name = &function.name;
        let before = world.functions.insert(&name.text, function);
        if before.is_some_and(|before| differ(before, function)) {
            findings
                .error(&name.span, format!("function `{}` is declared twice, with different sets", name.text))
                .hint("keep one of the two declarations");
        }
        unique(&function.inputs, findings);
        unique(&function.outputs, findings);
        known_differently(function, known, findings);
    }
    for (index, flow) in module.flows.iter().enumerate() {
        let name = &flow.name;
        if world.flows.insert(&name.text, index).is_some() || world.functions.contains_key(name.text.as_str()) {
            findings
                .error(&name.span, format!("`{}` is declared twice", name.text))
                .hint("a flow and a function cannot have the same name: rename one of them");
        }
    }
    for (place, fixed) in module.statics.iter().enumerate() {
        let name = &fixed.name;
        if module.statics[..place].iter().any(|before| before.name.text == name.text) {
            findings.error(&name.span, format!("set `{}` is made twice", name.text)).hint("give this one another name");
        }
    }
    world
}

fn differ(a: &Function, b: &Function) -> bool {
    signature(&a.inputs, &a.outputs) != signature(&b.inputs, &b.outputs)
}

/// Sets of one list have different names.
fn unique(names: &[Name], findings: &mut Findings<'_>) {
    for (place, name) in names.iter().enumerate() {
        if names[..place].iter().any(|before| before.text == name.text) {
            findings.error(&name.span, format!("`{}` is in this list twice", name.text)).hint("rename one of them");
        }
    }
}

/// A declaration says what the function itself says.
fn known_differently(function: &Function, known: &dyn Known, findings: &mut Findings<'_>) {
    let actual = match known.lookup(&function.name.text) {
        Lookup::Exact(actual) => actual,
        Lookup::Flow(program) => of_program(&program),
        Lookup::Open | Lookup::Missing | Lookup::Unfit(_) => return,
    };
    let takes = |name: &str| actual.input(name).is_some();
    let gives = |name: &str| actual.outputs.iter().any(|output| output == name);
    let inputs = ("takes", &function.inputs, &actual.inputs, &takes as &dyn Fn(&str) -> bool);
    let outputs = ("gives", &function.outputs, &actual.outputs, &gives as &dyn Fn(&str) -> bool);
    for (verb, declared, actual, has) in [inputs, outputs] {
        let names: Vec<&str> = actual.iter().map(String::as_str).collect();
        for name in declared.iter().filter(|name| !has(&name.text)) {
            let message = format!("function `{}` {verb} no set `{}`", function.name.text, name.text);
            findings.error(&name.span, message).hint_near(&name.text, &names, "it has none");
        }
    }
}

fn main_flow(world: &World<'_>, main: Option<&str>, findings: &mut Findings<'_>) -> Option<usize> {
    let Some(last) = world.module.flows.len().checked_sub(1) else {
        findings
            .error(&(0..0), "there is no flow in this text")
            .hint("a flow is: flow NAME(In) => (Out) { function(set = all In) => (Out = result); }");
        return None;
    };
    let Some(name) = main else { return Some(last) };
    let found = world.flows.get(name).copied();
    if found.is_none() {
        let names: Vec<&str> = world.flows.keys().copied().collect();
        findings.error(&(0..0), format!("there is no flow `{name}` in this text")).hint_near(name, &names, "");
    }
    found
}

fn unused_functions(world: &World<'_>, findings: &mut Findings<'_>) {
    let applied = world.module.flows.iter().flat_map(|flow| &flow.applications);
    let applied: Vec<&str> = applied.map(|application| application.target.text.as_str()).collect();
    for function in &world.module.functions {
        if !applied.contains(&function.name.text.as_str()) {
            let message = format!("function `{}` is declared and not applied", function.name.text);
            findings.warn(&function.name.span, message).hint("leave the declaration out");
        }
    }
}

/// A text is one flow and what that is made of.
fn unused_flows(world: &World<'_>, main: usize, order: &[usize], findings: &mut Findings<'_>) {
    let flows = &world.module.flows;
    for flow in (0..flows.len()).filter(|index| !order.contains(index)).map(|index| &flows[index]) {
        let message =
            format!("flow `{}` is no part of `{}`, the flow that this text is", flow.name.text, flows[main].name.text);
        findings.warn(&flow.name.span, message).hint("put it into a text of its own, apply it, or leave it out");
    }
}

/// The flows that `main` is made of, each behind those that it applies. None where flows apply each other in a circle.
fn nesting(world: &World<'_>, main: usize, findings: &mut Findings<'_>) -> Option<Vec<usize>> {
    let mut visited = Visited::default();
    // Faults in flows that are not run are faults all the same.
    for start in (0..world.module.flows.len()).chain([main]) {
        visited = Visited::default();
        visit(world, start, &mut visited, findings)?;
    }
    Some(visited.order)
}

/// Flows that have been looked at, from one on.
#[derive(Default)]
struct Visited {
    /// From the first to where we are.
    path: Vec<usize>,
    /// Inner ones first.
    order: Vec<usize>,
    done: HashSet<usize>,
}

fn visit(world: &World<'_>, index: usize, visited: &mut Visited, findings: &mut Findings<'_>) -> Option<()> {
    if visited.done.contains(&index) {
        return Some(());
    }
    visited.path.push(index);
    let flow: &Flow = &world.module.flows[index];
    for application in &flow.applications {
        let Some(inner) = world.flows.get(application.target.text.as_str()).copied() else { continue };
        if visited.path.contains(&inner) {
            let message = format!("flow `{}` comes to apply itself here", world.module.flows[inner].name.text);
            findings.error(&application.target.span, message).hint("flows within flows end somewhere");
            return None;
        }
        if visited.path.len() >= DEEPEST {
            let message = format!("flows within flows are more than {DEEPEST} deep here");
            findings.error(&application.target.span, message).hint("apply the inner functions directly");
            return None;
        }
        visit(world, inner, visited, findings)?;
    }
    visited.path.pop();
    visited.order.push(index);
    visited.done.insert(index);
    Some(())
}
