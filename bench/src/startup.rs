//! `startup`: from a request's arrival to the handler's first line, by every path that there is.
//!
//! ```text
//! node       templates             what a request finds
//! generic    generic only          an interpreter, then the function is imported: forked ahead where there was time, as 20 ms
//!                                  apart, else now, as back to back
//! imaging    generic, preloaded    the same, numpy and Pillow are there already
//! dedicated  the function's own    fork of the loaded function
//! stems      the same, and stems   a fork that waits
//! warm       (any)                 an instance that has served before
//! ```
//! Every function but the warm one serves one request per instance. Baselines run the same interpreter, from the same
//! folders, behind the thinnest server that there is.

mod figures;

use crate::baseline::{Bundle, Interpreter, Language, OneShot, Start, has_crun};
use crate::error::{BenchError, io};
use crate::figure::Figure;
use crate::functions::{Function, HELLO_NODE, HELLO_PYTHON, IMAGING, Shelf};
use crate::http::Request;
use crate::machine::Machine;
use crate::node::{Node, Settings};
use crate::packages;
use crate::series::{Pace, Series, measure};
use crate::{Plan, figure::Arm};
use std::time::Duration;

const PACKAGES: [&str; 2] = ["numpy", "pillow"];
/// The machine is awake, and has done what the start before has left to do.
const APART: Pace = Pace::Apart(Duration::from_millis(20));
/// The machine has been asleep.
const IDLE: Pace = Pace::Apart(Duration::from_secs(1));
/// What a start leaves to be done (the next sandbox, the end of this one) falls into the next.
const BACK_TO_BACK: Pace = Pace::BackToBack(10);
/// MiB of every instance, Lichen's and crun's.
const MEMORY: u64 = 256;
/// One instance for each request.
const FRESH: &[&str] = &["--isolation", "request", "--memory", "256"];
const KEPT: &[&str] = &["--memory", "256"];

/// Nodes and servers that are measured, and what they need.
struct Stage {
    generic: Node,
    imaging: Node,
    dedicated: Node,
    stems: Node,
    baselines: Vec<(&'static str, Function, OneShot)>,
    interpreters: Vec<Interpreter>,
}

/// A function as a node is to have it.
type Deployment = (Function, &'static [&'static str]);

impl Stage {
    fn set(plan: &Plan<'_>) -> Result<Self, BenchError> {
        (plan.tell)("installing numpy and Pillow");
        let path = packages::path_with(&PACKAGES)?;
        let shelf = Shelf::new()?;
        (plan.tell)("starting nodes");
        let start = |dispatch: &str, functions: &[Deployment]| -> Result<Node, BenchError> {
            let node = Node::start(
                &plan.program,
                &Settings { dispatch: dispatch.to_owned(), path: path.clone(), ..Settings::default() },
            )?;
            for (function, options) in functions {
                node.await_generic_template(function.language)?;
                node.deploy(function.name, &shelf.put(function)?, options)?;
            }
            Ok(node)
        };
        let all: [Deployment; 3] = [(HELLO_PYTHON, FRESH), (IMAGING, FRESH), (HELLO_NODE, FRESH)];
        let generic = start("memory_budget_mib = 0\nstems = 0", &[(HELLO_PYTHON, FRESH), (HELLO_NODE, FRESH)])?;
        let preload = "memory_budget_mib = 0\nstems = 0\npreload = { python = [\"numpy\", \"PIL.Image\"] }";
        let imaging = start(preload, &[(IMAGING, FRESH)])?;
        let dedicated = start("stems = 0", &all)?;
        let stems = start("", &all)?;
        for (node, (function, _)) in [&dedicated, &stems].into_iter().flat_map(|node| all.map(|one| (node, one))) {
            node.await_template(function.name)?;
        }
        for (name, function) in [("warm-python", HELLO_PYTHON), ("warm-node", HELLO_NODE)] {
            dedicated.deploy(name, &shelf.put(&function)?, KEPT)?;
            dedicated.await_template(name)?;
        }
        let found = [Language::Python, Language::Node].map(|language| {
            Interpreter::find(language, &path).ok_or(BenchError::NoInterpreter { language: language.as_str() })
        });
        let interpreters = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        let baselines = baselines(&dedicated, &interpreters)?;
        Ok(Self { generic, imaging, dedicated, stems, baselines, interpreters })
    }

    /// The series of functions in this language, those whose names `which` takes.
    fn series(&self, language: Language, which: fn(&str) -> bool) -> Vec<Series> {
        let ours = |name: &str, node: &Node, function: &str, wanted| {
            Series::new(name, node.invocation(function, b"{}"), Some(wanted))
        };
        let mut series = match language {
            Language::Python => vec![
                ours("lichen generic", &self.generic, HELLO_PYTHON.name, "cold"),
                ours("lichen generic, numpy+Pillow", &self.imaging, IMAGING.name, "cold"),
                ours("lichen fork, dedicated", &self.dedicated, HELLO_PYTHON.name, "cold"),
                ours("lichen fork, dedicated, numpy+Pillow", &self.dedicated, IMAGING.name, "cold"),
                ours("lichen stem", &self.stems, HELLO_PYTHON.name, "stem"),
                ours("lichen stem, numpy+Pillow", &self.stems, IMAGING.name, "stem"),
                ours("lichen warm", &self.dedicated, "warm-python", "warm"),
            ],
            Language::Node => vec![
                ours("lichen generic", &self.generic, HELLO_NODE.name, "cold"),
                ours("lichen fork, dedicated", &self.dedicated, HELLO_NODE.name, "cold"),
                ours("lichen stem", &self.stems, HELLO_NODE.name, "stem"),
                ours("lichen warm", &self.dedicated, "warm-node", "warm"),
            ],
        };
        for (kind, function, server) in self.baselines.iter().filter(|(_, function, _)| function.language == language) {
            let packages = if function.name == IMAGING.name { ", numpy+Pillow" } else { "" };
            let request = Request::new(server.address, "POST", "/", &[], b"{}");
            series.push(Series::new(format!("{kind}{packages}"), request, None));
        }
        series.retain(|series| which(&series.name));
        series
    }
}

/// Servers that start crun, where it is to be had, or a process.
fn baselines(node: &Node, interpreters: &[Interpreter]) -> Result<Vec<(&'static str, Function, OneShot)>, BenchError> {
    let mut servers = Vec::new();
    for function in [HELLO_PYTHON, IMAGING, HELLO_NODE] {
        let Some(interpreter) = interpreters.iter().find(|one| one.language == function.language) else { continue };
        let code = node.code(function.name)?;
        let serve = |start: Start| OneShot::serve(start).map_err(io("a baseline's server could not be started"));
        if has_crun() {
            let bundle = Bundle::new(interpreter, &code, MEMORY).map_err(io("a bundle for crun could not be made"))?;
            servers.push(("crun run", function, serve(Start::Crun(bundle))?));
        }
        let start = Start::process(interpreter, &code).map_err(io("a baseline could not be made"))?;
        servers.push(("process", function, serve(start)?));
    }
    Ok(servers)
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let stage = Stage::set(plan)?;
    let versions = stage.interpreters.iter().map(Interpreter::describe).collect();
    let machine = Machine { versions, ..machine.clone() };
    let mut all = Vec::new();
    let mut parts = Vec::new();
    for language in [Language::Python, Language::Node] {
        let name = language.as_str();
        (plan.tell)(&format!("{name}: starts 20 ms apart"));
        let mut apart = stage.series(language, |_| true);
        measure(&mut apart, plan.samples(200), APART)?;
        (plan.tell)(&format!("{name}: starts after a second of quiet"));
        let mut idle = stage.series(language, is_telling_when_idle);
        measure(&mut idle, plan.samples(100), IDLE)?;
        (plan.tell)(&format!("{name}: starts back to back"));
        let mut hurried = stage.series(language, |name| name.starts_with("lichen"));
        measure(&mut hurried, plan.samples(200), BACK_TO_BACK)?;
        let paces = [("20 ms apart", &*apart), ("idle", &*idle), ("back to back", &*hurried)];
        all.push(figures::starts(language, &machine, &paces));
        all.push(figures::requests(language, &machine, &paces));
        parts.extend(pieces(language, &apart));
    }
    all.push(figures::breakdown(&machine, parts));
    Ok(all)
}

/// Whether a pause is worth its second: a process alone starts as ever, and a loaded function as one that is to be loaded.
fn is_telling_when_idle(name: &str) -> bool {
    !name.starts_with("process") && !name.contains("dedicated") && (!name.contains("numpy") || name.contains("generic"))
}

fn pieces(language: Language, series: &[Series]) -> Vec<Arm> {
    let ours = series.iter().filter(|series| series.name.starts_with("lichen"));
    let mut arms: Vec<Arm> = ours.flat_map(Series::pieces).collect();
    for arm in &mut arms {
        arm.name = arm.name.replacen("lichen", language.as_str(), 1);
    }
    arms
}
