//! `lichen bench`: the figures of the papers, and our own, measured on this machine.
//!
//! | module | what it is |
//! |---|---|
//! | [`figure`], [`table`], [`plot`] | what comes out: JSON, text, SVG |
//! | [`machine`] | where it was measured |
//! | `startup`, `apps`, `memory`, `density`, `web`, `stream`, `nipc`, `neighbour`, `provided`, `pure`, `flow`, `mesh`, `split`, `sockets` | one bench each: nodes and baselines, arms measured in turn |
//! | `node`, `scratch` | a throw-away node: the `lichen` program itself; a folder that goes with the bench |
//! | `baseline` | what it is compared with |
//! | `http`, `spans` | measuring clients |
//!
//! A bench starts its own nodes and leaves nothing. It measures through the front door: HTTP, and the spans that the
//! gateway tells of production invocations.
#![forbid(unsafe_code)]

mod apps;
mod baseline;
mod census;
mod chain;
mod density;
mod error;
pub mod figure;
mod flow;
mod functions;
mod http;
pub mod machine;
mod memory;
pub mod mesh;
mod neighbour;
pub mod nipc;
mod node;
mod packages;
pub mod plot;
mod provided;
pub mod pure;
mod scratch;
mod series;
mod soak;
pub mod sockets;
mod spans;
mod split;
mod startup;
mod stream;
pub mod table;
mod web;

pub use error::BenchError;
use figure::Figure;
use machine::{Machine, Ticks};
use rustix::event::{Timespec, poll};
use std::path::PathBuf;
use std::time::Duration;

/// How to measure.
pub struct Plan<'a> {
    /// The `lichen` program of which nodes are started.
    pub program: PathBuf,
    /// Few samples: to see that it works.
    pub quick: bool,
    /// Of everything that is drawn by lot.
    pub seed: u64,
    /// Of a bench that has several figures, the one of this name alone.
    pub only: Option<String>,
    /// Told what is going on.
    pub tell: &'a dyn Fn(&str),
}

impl Plan<'_> {
    /// `full` in a real run, a few in a quick one.
    fn samples(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }

    /// Whether one of these figures is wanted.
    fn wants(&self, figures: &[&str]) -> bool {
        self.only.as_ref().is_none_or(|only| figures.contains(&only.as_str()))
    }
}

/// Something that can be measured.
pub struct Bench {
    pub name: &'static str,
    pub what: &'static str,
    /// Its figures, where one of them can be measured alone.
    pub parts: &'static [&'static str],
    run: fn(&Plan<'_>, &Machine) -> Result<Vec<Figure>, BenchError>,
}

impl Bench {
    /// Measures it: a figure or several.
    pub fn run(&self, plan: &Plan<'_>) -> Result<Vec<Figure>, BenchError> {
        let before = Ticks::look();
        let mut figures = (self.run)(plan, &Machine::look())?;
        let stolen = Ticks::look().stolen_since(before);
        figures.iter_mut().for_each(|figure| figure.machine.stolen = stolen);
        Ok(figures)
    }
}

/// All there are.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "startup",
        what: "how soon a handler runs, by every path, beside crun and plain processes (Molecule, Figures 10a, 10b, 11a)",
        parts: &[],
        run: startup::run,
    },
    Bench {
        name: "apps",
        what: "FunctionBench's and ServerlessBench's work, cold and warm, beside crun and plain processes (Figures 14a, 14b)",
        parts: &[],
        run: apps::run,
    },
    Bench {
        name: "memory",
        what: "what an instance adds, 16 and 100 at once, beside crun (Figure 11b)",
        parts: &[],
        run: memory::run,
    },
    Bench { name: "density", what: "1,000 live instances, all answering (Figure 11c)", parts: &[], run: density::run },
    Bench {
        name: "http",
        what: "a warm hello over HTTP: latency of one client, rate of 16",
        parts: &[],
        run: web::run,
    },
    Bench { name: "stream", what: "answers in parts: the first byte, 200 MiB, memory", parts: &[], run: stream::run },
    Bench {
        name: "nipc",
        what: "messages between two processes, by length: FIFOs of shims beside Linux's FIFO, Unix sockets, TCP (Figures 8, 9b)",
        parts: &[],
        run: nipc::run,
    },
    Bench {
        name: "chain",
        what: "from one handler's end to the next one's beginning, on one PU and across, beside Express and Flask (Figures 12, 14e)",
        parts: &[],
        run: chain::run,
    },
    Bench { name: "neighbour", what: "a start on another PU beside one on the host", parts: &[], run: neighbour::run },
    Bench {
        name: "provided",
        what: "a function that brings its own runtime: new, from a stem, warm; memory",
        parts: &[],
        run: provided::run,
    },
    Bench {
        name: "pure",
        what: "functions that only compute: 1×1 and 128×128, hot and cold, by load (Dandelion, SoCC '23, Figures 4, 5)",
        parts: &pure::FIGURES,
        run: pure::run,
    },
    Bench {
        name: "mesh",
        what: "a call through two sidecars, which share a PU with the apps or have one of their own (HeteroPod, Figure 8)",
        parts: &[],
        run: mesh::run,
    },
    Bench {
        name: "split",
        what: "a call to localhost that is answered on another PU, beside one that stays (HeteroPod, split network)",
        parts: &[],
        run: split::run,
    },
    Bench {
        name: "socket",
        what: "connections between two programs, unmodified: TCP, polled TCP, Unix sockets, hetero-socket (HeteroPod, Figure 12)",
        parts: sockets::FIGURES,
        run: sockets::run,
    },
    Bench {
        name: "flow",
        what: "flows: a wide map, a chain, ten thousand shards, large items, beside a client's own loop (Dandelion, SOSP '25)",
        parts: &flow::FIGURES,
        run: flow::run,
    },
    Bench {
        name: "soak",
        what: "200,000 invocations of ten functions while processes are killed by lot",
        parts: &[],
        run: soak::run,
    },
];

/// The bench of this name.
pub fn find(name: &str) -> Option<&'static Bench> {
    BENCHES.iter().find(|bench| bench.name == name)
}

/// Lets time pass: the pause is what is measured, or there is nothing to wait for.
fn pause(time: Duration) {
    let limit = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // A signal shortens it; the signals that come here end the program.
    let _ = poll(&mut [], Some(&limit));
}
