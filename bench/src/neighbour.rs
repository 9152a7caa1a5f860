//! `neighbour`: a start on another PU beside one on the host, from a request's arrival to the handler's first line.
//!
//! One node, the host and a unit of its own (tier `namespace`); the same function on either, each with a template of its own,
//! an instance for each request. The two are asked in turn, so that what disturbs the machine disturbs both.

use crate::error::BenchError;
use crate::figure::{Arm, Figure};
use crate::functions::{HELLO_NODE, HELLO_PYTHON, Shelf};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use crate::series::{Pace, Series, measure};
use crate::{Plan, baseline::Language};
use std::time::Duration;

const APART: Pace = Pace::Apart(Duration::from_millis(20));
const BACK_TO_BACK: Pace = Pace::BackToBack(10);
/// Below `[dispatch]`, with a PU behind it of which profiles can say that it is another.
const CONFIGURATION: &str = "stems = 0\n[[pu]]\nname = \"other\"\nkind = \"dpu\"";

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("starting a node with two PUs");
    let shelf = Shelf::new()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let node =
        Node::start(&plan.program, &Settings { dispatch: CONFIGURATION.to_owned(), path, ..Settings::default() })?;
    let (mut apart, mut hurried) = (Vec::new(), Vec::new());
    for function in [HELLO_PYTHON, HELLO_NODE] {
        let code = shelf.put(&function)?;
        for (place, profile) in [("on the host", "cpu"), ("on a neighbour", "dpu")] {
            let name = format!("{}-{profile}", function.language.as_str());
            node.deploy(&name, &code, &["--isolation", "request", "--pu", profile])?;
            node.await_template(&name)?;
            let series = |pace: &str| {
                let name_shown = format!("{} {place}, {pace}", called(function.language));
                Series::new(name_shown, node.invocation(&name, b"{}"), Some("cold"))
            };
            apart.push(series("20 ms apart"));
            hurried.push(series("back to back"));
        }
    }
    (plan.tell)("starts 20 ms apart");
    measure(&mut apart, plan.samples(500), APART)?;
    (plan.tell)("starts back to back");
    measure(&mut hurried, plan.samples(500), BACK_TO_BACK)?;
    let all = apart.iter().chain(&hurried);
    let arms: Vec<Arm> = all.clone().filter_map(Series::start).collect();
    let note = "From the request's arrival to the handler's first line, as the node tells it. Tier: namespace.";
    let notes = all.filter_map(Series::remark).chain([note.to_owned()]);
    Ok(vec![Figure::new("neighbour", "Molecule, section 6.2", &machine.with_unit(), arms).with_notes(notes)])
}

fn called(language: Language) -> &'static str {
    match language {
        Language::Python => "Python",
        Language::Node => "Node.js",
    }
}
