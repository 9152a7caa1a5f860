//! The sets of one flow: each is made once, by somebody, and taken by somebody; and who waits for whom has no circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{World, apply, unique};
use crate::language::ast::{Application, Flow, Name, OnErrorKind, Static};
use crate::language::diagnostic::Findings;

/// Applications of a circle that are named.
const SHOWN: usize = 16;

/// Who makes a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Input,
    Static,
    /// Index of the application.
    Application(usize),
}

/// The sets that an application makes.
pub fn made(application: &Application) -> impl Iterator<Item = &Name> {
    let reports = application.on_error.as_ref().and_then(|on_error| match &on_error.kind {
        OnErrorKind::Into(set) => Some(set),
        OnErrorKind::Fail | OnErrorKind::Skip => None,
    });
    application.outputs.iter().map(|output| &output.set).chain(reports)
}

/// Looks for what is wrong with a flow; the order in which its applications can run.
pub fn check(world: &World<'_>, flow: &Flow, findings: &mut Findings<'_>) -> Vec<usize> {
    unique(&flow.outputs, findings);
    let makers = makers(world, flow, findings);
    for application in &flow.applications {
        apply::check(world, application, findings);
    }
    takers(flow, &makers, findings);
    unused(world, flow, findings);
    static_keys(world, flow, findings);
    order(flow, &makers, findings)
}

fn makers<'a>(world: &'a World<'_>, flow: &'a Flow, findings: &mut Findings<'_>) -> BTreeMap<&'a str, Maker> {
    let mut makers: BTreeMap<&str, Maker> = BTreeMap::new();
    let mut make = |name: &'a Name, maker: Maker| {
        let Some(before) = makers.insert(&name.text, maker) else { return };
        let who = match before {
            Maker::Input => "as an input of the flow".to_owned(),
            Maker::Static => "as a set of fixed items".to_owned(),
            Maker::Application(index) => format!("by `{}`", flow.applications[index].target.text),
        };
        findings
            .error(&name.span, format!("set `{}` is made twice; first {who}", name.text))
            .hint("give this one another name");
    };
    for input in &flow.inputs {
        make(input, Maker::Input);
    }
    for fixed in &flow.statics {
        make(&fixed.name, Maker::Static);
    }
    for (index, application) in flow.applications.iter().enumerate() {
        for set in made(application) {
            make(set, Maker::Application(index));
        }
    }
    for fixed in &world.module.statics {
        makers.entry(&fixed.name.text).or_insert(Maker::Static);
    }
    makers
}

fn takers(flow: &Flow, makers: &BTreeMap<&str, Maker>, findings: &mut Findings<'_>) {
    let known: Vec<&str> = makers.keys().copied().collect();
    let inputs = flow.applications.iter().flat_map(|application| &application.inputs).map(|input| &input.set);
    for set in inputs.chain(&flow.outputs) {
        if !makers.contains_key(set.text.as_str()) {
            findings.error(&set.span, format!("nobody makes the set `{}`", set.text)).hint_near(
                &set.text,
                &known,
                "make it an input of the flow",
            );
        }
    }
}

fn unused(world: &World<'_>, flow: &Flow, findings: &mut Findings<'_>) {
    let inputs = flow.applications.iter().flat_map(|application| &application.inputs).map(|input| &input.set);
    let taken: BTreeSet<&str> = inputs.chain(&flow.outputs).map(|set| set.text.as_str()).collect();
    let mut look = |name: &Name, what: &str, hint: &str| {
        if !taken.contains(name.text.as_str()) {
            findings.warn(&name.span, format!("{what} `{}` is not used", name.text)).hint(hint);
        }
    };
    for input in &flow.inputs {
        look(input, "the flow's input", "leave it out, or give it to a function");
    }
    for fixed in &flow.statics {
        look(&fixed.name, "the set", "leave it out");
    }
    for set in flow.applications.iter().flat_map(made) {
        look(set, "the result", "leave it out: what a function gives need not be taken");
    }
    // Sets of the module are for all flows: one of them is enough.
    let first = world.module.flows.first().is_some_and(|first| std::ptr::eq(first, flow));
    for fixed in world.module.statics.iter().filter(|_| first) {
        let flows = world.module.flows.iter().flat_map(|flow| &flow.applications);
        let somewhere =
            flows.flat_map(|application| &application.inputs).any(|input| input.set.text == fixed.name.text);
        let given = world.module.flows.iter().flat_map(|flow| &flow.outputs).any(|set| set.text == fixed.name.text);
        if !somewhere && !given {
            findings.warn(&fixed.name.span, format!("the set `{}` is not used", fixed.name.text)).hint("leave it out");
        }
    }
}

/// Sets of fixed items whose keys are asked for and were not given.
fn static_keys(world: &World<'_>, flow: &Flow, findings: &mut Findings<'_>) {
    use crate::graph::Mode;
    let keyed = flow.applications.iter().flat_map(|application| &application.inputs);
    for input in keyed.filter(|input| matches!(input.mode, Mode::Keyed | Mode::AnyKeyed)) {
        let fixed: Option<&Static> =
            flow.statics.iter().chain(&world.module.statics).find(|fixed| fixed.name.text == input.set.text);
        if fixed.is_some_and(|fixed| fixed.items.len() > 1 && fixed.items.iter().all(|item| item.key == 0)) {
            findings
                .warn(&input.set.span, format!("no item of `{}` has a key: all of them are one part", input.set.text))
                .hint("write `\"text\" key 1` in the set, or `each` here");
        }
    }
}

/// An order in which every application comes behind those that make what it takes; in the text's order where that is
/// free. A circle is said, once.
fn order(flow: &Flow, makers: &BTreeMap<&str, Maker>, findings: &mut Findings<'_>) -> Vec<usize> {
    let needs: Vec<Vec<usize>> = flow.applications.iter().map(|application| needs(application, makers)).collect();
    let mut order: Vec<usize> = Vec::with_capacity(needs.len());
    let mut placed = vec![false; needs.len()];
    loop {
        let ready = |index: &usize| !placed[*index] && needs[*index].iter().all(|need| placed[*need]);
        let Some(next) = (0..needs.len()).find(ready) else { break };
        placed[next] = true;
        order.push(next);
    }
    if let Some(start) = placed.iter().position(|placed| !placed) {
        circle(flow, &needs, &placed, start, findings);
    }
    order
}

fn needs(application: &Application, makers: &BTreeMap<&str, Maker>) -> Vec<usize> {
    let sets = application.inputs.iter().map(|input| makers.get(input.set.text.as_str()));
    sets.filter_map(|maker| match maker {
        Some(Maker::Application(index)) => Some(*index),
        _ => None,
    })
    .collect()
}

/// Follows needs from an application that was not placed, until one comes again.
fn circle(flow: &Flow, needs: &[Vec<usize>], placed: &[bool], start: usize, findings: &mut Findings<'_>) {
    let mut path = vec![start];
    let first = loop {
        let here = path[path.len() - 1];
        // What was not placed needs something that was not placed.
        let Some(next) = needs[here].iter().copied().find(|need| !placed[*need]) else { return };
        if let Some(first) = path.iter().position(|index| *index == next) {
            break first;
        }
        path.push(next);
    };
    // In the direction of the data, from the one that stands first in the text.
    let mut round: Vec<usize> = path[first..].iter().rev().copied().collect();
    let least = round.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(place, _)| place);
    round.rotate_left(least);
    round.push(round[0]);
    let mut names: Vec<String> =
        round.iter().map(|index| format!("`{}`", flow.applications[*index].target.text)).collect();
    if names.len() > SHOWN {
        names.splice(SHOWN / 2..names.len() - SHOWN / 2, ["…".to_owned()]);
    }
    let at = round[0];
    findings
        .error(&flow.applications[at].target.span, format!("these wait for each other: {}", names.join(" → ")))
        .hint("a set is made from sets that are there before it");
}
