//! `chain`: what it takes from the end of one handler to the first line of the next, beside the same handlers as servers
//! that call each other over HTTP (Molecule, Figures 12 and 14e).

mod servers;
mod stamps;

use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::functions::{Function, HOP_NODE, HOP_PYTHON, Shelf};
use crate::http::{Connection, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use api::node::FlowSpec;
use servers::Servers;
use stamps::Stamps;
use std::time::Instant;

/// Stages of every chain.
const STAGES: usize = 5;
/// Requests of one arm: with them there are ten thousand hops.
const REQUESTS: usize = 2_500;
/// Requests of one arm before it is the next one's turn.
const BLOCK: usize = 50;
/// That do not count.
const WARM_UP: usize = 100;
/// A second PU, on this machine.
const OTHER: &str = "\n[[pu]]\nname = \"other\"\nkind = \"dpu\"";

/// A chain under measurement, and what was found.
struct Course<'a> {
    name: String,
    request: Request,
    connection: Connection,
    /// Microseconds from one handler's end to the next one's beginning.
    hops: Vec<f64>,
    /// The same where answers come back the way that requests went, less what the callee did.
    calls: Vec<f64>,
    /// From the client's request to its answer.
    whole: Vec<f64>,
    /// Keeps what serves it alive.
    _servers: Option<&'a Servers>,
}

impl<'a> Course<'a> {
    fn new(name: impl Into<String>, request: Request, servers: Option<&'a Servers>) -> Self {
        let (hops, calls, whole) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), request, connection: Connection::new(), hops, calls, whole, _servers: servers }
    }

    fn ask(&mut self, times: usize) -> Result<(), BenchError> {
        for _ in 0..times {
            let began = Instant::now();
            let answer = self.connection.call(&self.request);
            let took = began.elapsed();
            let answer = answer.map_err(|source| BenchError::Silent { who: self.name.clone(), source })?;
            let refused = || {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                BenchError::Refused { who: self.name.clone(), status: answer.status, body }
            };
            let stamps = Stamps::parse(&answer.body).filter(|stamps| stamps.stages() == STAGES).ok_or_else(refused)?;
            self.hops.extend(stamps.hops());
            self.calls.extend(stamps.calls());
            self.whole.push(took.as_nanos() as f64 / 1000.0);
        }
        Ok(())
    }

    fn forget(&mut self) {
        [&mut self.hops, &mut self.calls, &mut self.whole].into_iter().for_each(Vec::clear);
    }

    fn arms(&self) -> impl Iterator<Item = Arm> {
        let arm = |what: &str, samples: &[f64]| Arm::of(format!("{}, {what}", self.name), Unit::Microseconds, samples);
        let all = [
            arm("hop", &self.hops),
            arm("call and return, less the callee's work", &self.calls),
            arm(&format!("chain of {STAGES}"), &self.whole),
        ];
        all.into_iter().flatten()
    }
}

/// A node with chains of this function: on its own PU, and to and fro between two.
fn node(plan: &Plan<'_>, shelf: &Shelf, dispatch: &str) -> Result<Node, BenchError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let node = Node::start(&plan.program, &Settings { dispatch: dispatch.to_owned(), path, ..Settings::default() })?;
    let two = !dispatch.is_empty();
    for function in [HOP_NODE, HOP_PYTHON] {
        let code = shelf.put(&function)?;
        let names: &[_] = if two { &[("cpu", "--pu=cpu"), ("dpu", "--pu=dpu")] } else { &[("cpu", "--pu=cpu")] };
        for (kind, option) in names {
            node.deploy(&format!("{}-{kind}", function.name), &code, &[option])?;
        }
        let stage = |at: usize| format!("{}-{}", function.name, names[at % names.len()].0);
        let chain = (0..STAGES).map(stage).collect();
        node.client.put_flow(&FlowSpec { name: function.name.to_owned(), chain, ..FlowSpec::default() })?;
    }
    Ok(node)
}

fn ours<'a>(node: &Node, function: &Function, name: &str) -> Course<'a> {
    let path = format!("/v1/flows/{}/invocations", function.name);
    Course::new(name, Request::new(node.address, "POST", &path, &[], stamps::EVENT), None)
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("starting nodes and servers");
    let shelf = Shelf::new()?;
    let mut notes = notes();
    let one = node(plan, &shelf, "")?;
    let two = node(plan, &shelf, OTHER);
    let mut rivals = Vec::new();
    for (name, started) in
        [("Express", Servers::express(&shelf, STAGES)), ("gunicorn + Flask", Servers::flask(&shelf, STAGES))]
    {
        match started {
            Ok(servers) => rivals.push((name, servers)),
            Err(error) => notes.push(format!("{name} is not here: {error}")),
        }
    }
    let mut courses = vec![ours(&one, &HOP_NODE, "lichen Node"), ours(&one, &HOP_PYTHON, "lichen Python")];
    match &two {
        Ok(two) => {
            courses.push(ours(two, &HOP_NODE, "lichen Node, across PUs"));
            courses.push(ours(two, &HOP_PYTHON, "lichen Python, across PUs"));
        }
        Err(error) => notes.push(format!("across PUs: not here: {error}")),
    }
    courses.extend(rivals.iter().map(|(name, servers)| Course::new(*name, servers.request(), Some(servers))));
    (plan.tell)("warming up");
    for course in &mut courses {
        course.ask(WARM_UP)?;
        course.forget();
    }
    (plan.tell)(&format!("chains of {STAGES}"));
    for _ in 0..plan.samples(REQUESTS).div_ceil(BLOCK) {
        courses.iter_mut().try_for_each(|course| course.ask(BLOCK))?;
    }
    let arms = courses.iter().flat_map(Course::arms).collect();
    let figure = Figure::new("chain", "Molecule (ASPLOS '22), Figures 12 and 14e", &machine.with_unit(), arms);
    Ok(vec![figure.with_notes(notes)])
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Chains of {STAGES} of the same handler, which notes when it ran. A hop is from the last line of one to the \
             first line of the next. Over HTTP an answer also comes back the way that the request went: Molecule's \
             measure is the caller's time less the callee's. One client, the arms in turn by {BLOCK} requests."
        ),
        "Lichen's stages are isolated instances with logs and bills; the servers are plain processes on connections \
         that are kept. The second PU is a part of this machine (tier: namespace)."
            .to_owned(),
    ]
}
