//! `http`: a warm hello over HTTP, beside the least that an HTTP server does, and beside what people use.

mod bridge;
mod rivals;
mod throughput;

use crate::Plan;
use crate::baseline::Hello;
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::functions::{HELLO_NODE, HELLO_PYTHON, Shelf};
use crate::http::{Connection, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use rivals::Rival;
use std::time::{Duration, Instant};
use throughput::Generator;

const CLIENTS: usize = 16;
/// Requests of one arm before it is the next one's turn.
const BLOCK: usize = 200;
const LOAD: Duration = Duration::from_secs(3);
/// A node of low latency lets go of the processor's idle states after a second without requests.
const LET_GO: Duration = Duration::from_millis(1500);

/// A server that answers `"hello"`.
struct Arms<'a> {
    name: String,
    request: Request,
    connection: Connection,
    microseconds: Vec<f64>,
    per_second: Vec<f64>,
    /// Keeps what serves it alive.
    _server: Option<&'a Rival>,
}

impl<'a> Arms<'a> {
    fn new(name: impl Into<String>, request: Request, server: Option<&'a Rival>) -> Self {
        let connection = Connection::new();
        Self { name: name.into(), request, connection, microseconds: vec![], per_second: vec![], _server: server }
    }

    fn ask(&mut self, times: usize) -> Result<(), BenchError> {
        for _ in 0..times {
            let began = Instant::now();
            let answer = self.connection.call(&self.request);
            let took = began.elapsed();
            let answer = answer.map_err(|source| BenchError::Silent { who: self.name.clone(), source })?;
            // A function URL gives a text as it is, all others as JSON.
            if answer.status != 200 || !matches!(&*answer.body, b"\"hello\"" | b"hello") {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(BenchError::Refused { who: self.name.clone(), status: answer.status, body });
            }
            self.microseconds.push(took.as_nanos() as f64 / 1000.0);
        }
        Ok(())
    }
}

/// One client, block by block in turn, after one block each that does not count.
fn one_client(arms: &mut [Arms<'_>], samples: usize) -> Result<(), BenchError> {
    for arm in arms.iter_mut() {
        arm.ask(BLOCK)?;
        arm.microseconds.clear();
    }
    for _ in 0..samples.div_ceil(BLOCK) {
        arms.iter_mut().try_for_each(|arm| arm.ask(BLOCK))?;
    }
    Ok(())
}

fn many_clients(arms: &mut [Arms<'_>], generator: &Generator, rounds: usize) -> Result<(), BenchError> {
    for arm in arms.iter_mut() {
        generator.run(&arm.request, CLIENTS, Duration::from_secs(1))?;
    }
    for _ in 0..rounds {
        for arm in arms.iter_mut() {
            arm.per_second.push(generator.run(&arm.request, CLIENTS, LOAD)?);
        }
    }
    Ok(())
}

fn node(plan: &Plan<'_>, dispatch: &str) -> Result<Node, BenchError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let node = Node::start(&plan.program, &Settings { dispatch: dispatch.to_owned(), path, ..Settings::default() })?;
    let shelf = Shelf::new()?;
    for function in [HELLO_PYTHON, HELLO_NODE] {
        node.deploy(function.name, &shelf.put(&function)?, &[])?;
        node.await_template(function.name)?;
    }
    Ok(node)
}

fn ours<'a>(node: &Node, setting: &str) -> Vec<Arms<'a>> {
    let request = |path: &str| Request::new(node.address, "POST", path, &[("Content-Type", "application/json")], b"{}");
    let invoke = |function: &str| request(&format!("/2015-03-31/functions/{function}/invocations"));
    vec![
        Arms::new(format!("lichen Python{setting}"), invoke(HELLO_PYTHON.name), None),
        Arms::new(format!("lichen Node{setting}"), invoke(HELLO_NODE.name), None),
        Arms::new(format!("lichen Python, function URL{setting}"), request("/f/hello-python/"), None),
        Arms::new(format!("lichen Node, function URL{setting}"), request("/f/hello-node/"), None),
    ]
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("starting servers");
    let (mut notes, shelf) = (notes(), Shelf::new()?);
    let rivals = rivals(plan, &shelf, machine.cores, &mut notes);
    let hello = Hello::start().map_err(io("a server of hyper could not be started"))?;
    let plain = || Request::new(hello.address, "POST", "/", &[], b"{}");
    let (usual, low) = (node(plan, "")?, node(plan, "latency = \"low\"")?);
    let generator = Generator::find()?;
    let mut arms = vec![Arms::new("hyper, constant answer", plain(), None)];
    arms.extend(ours(&usual, ""));
    arms.extend(rivals.iter().map(|rival| Arms::new(rival.name.clone(), rival.request(), Some(rival))));
    (plan.tell)("one client");
    one_client(&mut arms, plan.samples(5000))?;
    (plan.tell)(&format!("{CLIENTS} clients"));
    many_clients(&mut arms, &generator, plan.samples(10))?;
    (plan.tell)("one client, latency = \"low\"");
    let mut polling = ours(&low, ", latency = \"low\"");
    polling.push(Arms::new("hyper, idle processor polls", plain(), None));
    one_client(&mut polling, plan.samples(5000))?;
    // What was measured there must not help the next measurement.
    crate::pause(LET_GO);
    let latencies = arms
        .iter()
        .chain(&polling)
        .filter_map(|arm| Arm::of(format!("{}, 1 client", arm.name), Unit::Microseconds, &arm.microseconds));
    let rates = arms.iter().filter_map(|arm| {
        let name = format!("{}, {CLIENTS} clients ({})", arm.name, generator.name());
        Arm::of(name, Unit::PerSecond, &arm.per_second)
    });
    let arms = latencies.chain(rates).collect();
    Ok(vec![Figure::new("http", "none: the cost of a warm invocation", machine, arms).with_notes(notes)])
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "One client: a connection that is kept, the arms in turn by {BLOCK} requests. {CLIENTS} clients: load and \
             server share this machine; each sample is one run of {} s. latency = \"low\": the node holds \
             /dev/cpu_dma_latency while requests flow, so that idle cores poll.",
            LOAD.as_secs()
        ),
        "Lichen's arms are whole invocations: Lambda's API or a function URL, an isolated instance, logs and bills. The \
         others have no isolation, and but for awslambdaric no queue."
            .to_owned(),
    ]
}

/// Those that can be had here; a note for each of the others.
fn rivals(plan: &Plan<'_>, shelf: &Shelf, cores: usize, notes: &mut Vec<String>) -> Vec<Rival> {
    type Start<'a> = (&'static str, &'a dyn Fn() -> Result<Rival, BenchError>);
    let starts: [Start<'_>; 3] = [
        ("gunicorn + Flask", &|| Rival::flask(shelf.path(), cores)),
        ("Express", &|| Rival::express(shelf.path())),
        ("awslambdaric", &|| Rival::runtime_client(shelf, CLIENTS)),
    ];
    let mut all = Vec::new();
    for (name, start) in starts {
        (plan.tell)(&format!("starting {name}"));
        match start() {
            Ok(rival) => all.push(rival),
            Err(error) => notes.push(format!("{name} is not here: {error}")),
        }
    }
    all
}
