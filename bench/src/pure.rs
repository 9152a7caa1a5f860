//! `pure`: functions that only compute, in a fresh sandbox each time, beside the same computation with nothing around it.
//!
//! M·Mᵀ of 64-bit integers: 1×1 for what a request costs, 128×128 for what isolation costs those that compute.

pub mod bare;
mod cold;
mod load;
pub mod paced;
mod product;
pub mod programs;
mod server;
mod sizes;

use crate::Plan;
use crate::baseline::{Hello, WasmtimeServe};
use crate::error::{BenchError, io};
use crate::figure::Figure;
use crate::functions::{HELLO_PYTHON, Shelf};
use crate::http::{Crowd, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use programs::Program;
use server::Server;
use std::time::Duration;

const PAPER: &str = "Dandelion (SoCC '23), Figures 4 and 5";
pub const FIGURES: [&str; 8] = [
    "pure-1x1",
    "pure-128x128",
    "pure-load-1x1",
    "pure-load-128x128",
    "pure-mixed",
    "pure-idle",
    "pure-hot",
    "pure-cold",
];
const CLIENTS: usize = 16;
/// Requests of one arm before it is the next one's turn.
const BLOCK: usize = 200;
const LOAD: Duration = Duration::from_secs(2);

/// A node on which the program is deployed, for each engine.
struct Pure {
    node: Node,
    programs: Vec<Program>,
    /// In a virtual machine, where the node makes them.
    kvm: Option<Program>,
}

impl Pure {
    fn start(plan: &Plan<'_>, programs: Vec<Program>, path: String) -> Result<Self, BenchError> {
        let node = Node::start(&plan.program, &Settings { path, ..Settings::default() })?;
        for program in &programs {
            node.deploy(&name(program), &program.file, program.options)?;
        }
        Ok(Self { node, programs, kvm: None })
    }

    /// Adds the engine that depends on the machine; a note where this one is not up to it.
    fn add_kvm(&mut self, notes: &mut Vec<String>) -> Result<(), BenchError> {
        let Some(program) = programs::for_kvm() else { return Ok(()) };
        match self.node.deploy(&name(&program), &program.file, program.options) {
            Ok(()) => self.kvm = Some(program),
            Err(BenchError::NotDeployed { said, .. }) => {
                notes.push(format!("kvm is left out: {}", said.lines().last().unwrap_or_default()))
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn request(&self, program: &Program, n: u64) -> Request {
        programs::request(self.node.address, &path(&name(program)), n)
    }

    fn servers(&self, n: u64) -> Vec<Server> {
        let server = |program: &Program| {
            Server::new(format!("lichen {}", program.engine), self.request(program, n)).of_node(self.node.pid())
        };
        self.programs.iter().chain(&self.kvm).map(server).collect()
    }
}

fn name(program: &Program) -> String {
    format!("matmul-{}", program.engine)
}

fn path(function: &str) -> String {
    format!("/v1/functions/{function}/invoke")
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let mut notes = vec![format!(
        "M·Mᵀ of 64-bit integers, over HTTP by connections that are kept; each of Lichen's requests runs in a memory of its \
         own. The arms take turns, by {BLOCK} requests of one client, and by {} s of {CLIENTS}. Load and server share this \
         machine. Engines' time is that of all their processes and of those that these have waited for, in and out of \
         the kernel; what the kernel does elsewhere is not in it.",
        LOAD.as_secs()
    )];
    let programs = programs::find(&mut notes);
    (plan.tell)("starting servers");
    let mut pure = Pure::start(plan, programs.clone(), std::env::var("PATH").unwrap_or_default())?;
    pure.add_kvm(&mut notes)?;
    let bare = Hello::computing(product::multiply).map_err(io("a server of hyper could not be started"))?;
    let peer = if plan.wants(&FIGURES[..2]) { wasmtime_serve(&mut notes)? } else { None };
    let mut figures = Vec::new();
    for n in [1, 128].into_iter().filter(|n| plan.wants(&[&format!("pure-{n}x{n}")])) {
        let peers =
            [("hyper, calls it", Some(bare.address)), ("wasmtime serve", peer.as_ref().map(|peer| peer.address))];
        let peers = peers.into_iter().filter_map(|(name, to)| Some(Server::new(name, programs::request(to?, "/", n))));
        let mut servers: Vec<Server> = peers.chain(pure.servers(n)).collect();
        if n == 1 {
            servers.push(container(&pure)?);
        }
        figures.push(sizes::measure(plan, machine, servers, n)?.with_notes(notes.clone()));
    }
    drop(peer);
    figures.extend(load::measure(plan, machine, &pure, bare.address)?);
    if plan.wants(&["pure-mixed"]) {
        figures.extend(load::mixed(plan, machine, &pure)?);
    }
    drop(pure);
    if plan.wants(&["pure-idle"]) {
        figures.push(load::idle(plan, machine, programs)?);
    }
    if plan.wants(&FIGURES[6..]) {
        // Of the same functions, one after the other.
        let both = cold::measure(plan, machine)?;
        figures.extend(both.into_iter().filter(|figure| plan.wants(&[figure.figure.as_str()])));
    }
    Ok(figures)
}

/// The same program as a component, by the server that comes with our own engine's.
fn wasmtime_serve(notes: &mut Vec<String>) -> Result<Option<WasmtimeServe>, BenchError> {
    let component = programs::guest("matmul-http.wasm");
    match (WasmtimeServe::version(), component.is_file()) {
        (Some(version), true) => {
            notes.push(format!("wasmtime serve: {version}, pooling allocator, an instance for each request."));
            WasmtimeServe::start(&component).map(Some)
        }
        (None, _) => {
            notes.push("wasmtime serve is left out: wasmtime is not on the PATH; cargo install wasmtime-cli".into());
            Ok(None)
        }
        (_, false) => {
            let what = component.display();
            notes.push(format!(
                "wasmtime serve is left out: {what} is not here; rustup target add wasm32-wasip2, make guest"
            ));
            Ok(None)
        }
    }
}

/// A warm Python function, for what a request costs there.
fn container(pure: &Pure) -> Result<Server, BenchError> {
    let shelf = Shelf::new()?;
    pure.node.deploy(HELLO_PYTHON.name, &shelf.put(&HELLO_PYTHON)?, &[])?;
    pure.node.await_template(HELLO_PYTHON.name)?;
    Ok(Server::new("lichen container (Python, hello)", pure.node.invocation(HELLO_PYTHON.name, b"{}")))
}

/// What so many clients get, at most.
fn peak(request: &Request) -> Result<f64, BenchError> {
    let crowd = Crowd { clients: CLIENTS, request: request.clone() };
    let load = crowd.ask_for(LOAD).map_err(|source| BenchError::Silent { who: "a node".into(), source })?;
    Ok(load.per_second())
}
