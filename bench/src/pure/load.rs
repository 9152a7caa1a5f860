//! What a client waits as the load grows, beside a function that is a hundred times heavier, and what a node takes that
//! nobody asks for anything.

use super::programs::{self, Program};
use super::{CLIENTS, PAPER, Pure, paced, peak};
use crate::Plan;
use crate::census;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Shape, Unit};
use crate::http::Crowd;
use crate::machine::Machine;
use std::net::SocketAddr;
use std::time::Duration;

const PERCENT: [u32; 6] = [10, 30, 50, 70, 80, 90];
const TIME: Duration = Duration::from_secs(3);
/// Rows of the matrix that takes about a hundred times as long as a request of 32 rows.
const LIGHT: u64 = 32;
const HEAVY: u64 = 160;
/// How long it is looked at that nothing happens.
const QUIET: Duration = Duration::from_secs(5);
/// When a gateway that nobody asks has given back what it does not need, code that it has used included: two minutes, and two of its rounds.
const SETTLED: Duration = Duration::from_secs(150);

/// Latency by load, for each engine and size, and of a bare server: what the machine and the load itself are to blame for.
pub fn measure(plan: &Plan<'_>, machine: &Machine, pure: &Pure, bare: SocketAddr) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for n in [1, 128].into_iter().filter(|n| plan.wants(&[&format!("pure-load-{n}x{n}")])) {
        let (mut arms, mut peaks) = (Vec::new(), Vec::new());
        let engines =
            pure.programs.iter().map(|program| (format!("lichen {}", program.engine), pure.request(program, n)));
        let bare = ("hyper, calls it".to_owned(), programs::request(bare, "/", n));
        for (who, request) in std::iter::once(bare).chain(engines) {
            (plan.tell)(&format!("{n}×{n}, {who}, by load"));
            let most = peak(&request)?;
            peaks.push(format!("{who} {most:.0}/s"));
            for percent in PERCENT {
                let rate = most * f64::from(percent) / 100.0;
                let taken = paced::run(&request, rate, TIME)?;
                let name = format!("{who} at {rate:.0}/s");
                arms.extend(Arm::of(name, Unit::Microseconds, &taken));
            }
        }
        let notes = [format!(
            "Requests come at a steady rate, whether or not those before are answered: {PERCENT:?} % of what {CLIENTS} \
             clients got that asked without a pause ({}).",
            peaks.join(", ")
        )];
        let figure = Figure::new(format!("pure-load-{n}x{n}"), PAPER, machine, arms).with_notes(notes);
        figures.push(Figure { shape: Shape::Curves, ..figure });
    }
    Ok(figures)
}

/// A light function alone, and while a heavy one has all it can get of half of the load.
pub fn mixed(plan: &Plan<'_>, machine: &Machine, pure: &Pure) -> Result<Option<Figure>, BenchError> {
    let mut arms = Vec::new();
    for program in &pure.programs {
        (plan.tell)(&format!("{}: light and heavy", program.engine));
        let (light, heavy) = (pure.request(program, LIGHT), pure.request(program, HEAVY));
        let rate = peak(&light)? / 4.0;
        arms.extend(Arm::of(
            format!("{}, light alone", program.engine),
            Unit::Microseconds,
            &paced::run(&light, rate, TIME)?,
        ));
        let crowd = Crowd { clients: 1, request: heavy };
        let taken = std::thread::scope(|scope| {
            let heavy = scope.spawn(|| crowd.ask_for(TIME));
            let taken = paced::run(&light, rate, TIME);
            let heavy = heavy.join().expect("a client that does not panic");
            heavy.map_err(|source| BenchError::Silent { who: "the heavy function".into(), source })?;
            taken
        })?;
        arms.extend(Arm::of(format!("{}, light beside heavy", program.engine), Unit::Microseconds, &taken));
    }
    let notes = [format!(
        "{LIGHT}×{LIGHT} at a quarter of what {CLIENTS} clients get of it, alone and beside one client that asks for \
         {HEAVY}×{HEAVY} without a pause, which computes 125 times as much."
    )];
    Ok((!arms.is_empty())
        .then(|| Figure::new("pure-mixed", "Dandelion (SOSP '25), section 7", machine, arms).with_notes(notes)))
}

/// Processor time and memory of a node with nothing but engines, which have had much to do, and have nothing to do now.
pub fn idle(plan: &Plan<'_>, machine: &Machine, programs: Vec<Program>) -> Result<Figure, BenchError> {
    (plan.tell)("idle");
    // Without interpreters: templates of languages are no part of this.
    let pure = Pure::start(plan, programs, "/nonexistent".to_owned())?;
    for program in &pure.programs {
        peak(&pure.request(program, 1))?;
    }
    crate::pause(SETTLED);
    let node = pure.node.pid();
    let before = census::processor_ns(node);
    crate::pause(QUIET);
    let spent = census::processor_ns(node).saturating_sub(before) as f64 / QUIET.as_nanos() as f64;
    let all: Vec<u32> = census::descend(node).collect();
    let share = |pid: &u32| census::pss_mib(*pid);
    let engines: Vec<f64> = all.iter().filter(|pid| census::is_called(**pid, "lichen-engine")).map(share).collect();
    let arms = [
        Arm::of("all processes of the node, % of a core", Unit::Count, &[spent * 100.0]),
        Arm::of("a process of an engine", Unit::Mebibytes, &engines),
        Arm::of("all processes of engines", Unit::Mebibytes, &[engines.iter().sum()]),
        Arm::of("all processes of the node", Unit::Mebibytes, &[all.iter().map(share).sum()]),
    ];
    let notes = [format!(
        "Memory by share. {} s after two seconds in which each function was asked for by many clients.",
        SETTLED.as_secs()
    )];
    let figure =
        Figure::new("pure-idle", "none: what an idle node takes", machine, arms.into_iter().flatten().collect());
    Ok(figure.with_notes(notes))
}
