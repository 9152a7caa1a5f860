//! What a client waits as the load grows, beside a function that is a hundred times heavier, and what a node takes that
//! nobody asks for anything.

use super::{CLIENTS, PAPER, Pure, paced, peak};
use crate::Plan;
use crate::census;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::http::Crowd;
use crate::machine::Machine;
use std::time::Duration;

const PERCENT: [u32; 6] = [10, 30, 50, 70, 80, 90];
const TIME: Duration = Duration::from_secs(3);
/// Rows of the matrix that takes about a hundred times as long as a request of 32 rows.
const LIGHT: u64 = 32;
const HEAVY: u64 = 160;
/// How long it is looked at that nothing happens.
const QUIET: Duration = Duration::from_secs(5);

/// Latency by load, for each engine and size.
pub fn measure(plan: &Plan<'_>, machine: &Machine, pure: &Pure) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for n in [1, 128] {
        let mut arms = Vec::new();
        for program in &pure.programs {
            (plan.tell)(&format!("{n}×{n}, {}, by load", program.engine));
            let request = pure.request(program, n);
            let most = peak(&request)?;
            for percent in PERCENT {
                let rate = most * f64::from(percent) / 100.0;
                let taken = paced::run(&request, rate, TIME)?;
                let name = format!("lichen {}, {percent} % of {most:.0}/s", program.engine);
                arms.extend(Arm::of(name, Unit::Microseconds, &taken));
            }
        }
        let notes = [format!(
            "Requests come at a steady rate, whether or not those before are answered, and are counted from when they were \
             due. All of it: what {CLIENTS} clients got that asked without a pause."
        )];
        figures.push(Figure::new(format!("pure-load-{n}x{n}"), PAPER, machine, arms).with_notes(notes));
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

/// Processor time and memory of a node with engines that nobody asks for anything.
pub fn idle(plan: &Plan<'_>, machine: &Machine, pure: &Pure) -> Result<Figure, BenchError> {
    (plan.tell)("idle");
    crate::pause(Duration::from_secs(2));
    let node = pure.node.pid();
    let before = census::processor_ns(node);
    crate::pause(QUIET);
    let spent = census::processor_ns(node).saturating_sub(before) as f64 / QUIET.as_nanos() as f64;
    let engines: Vec<f64> =
        census::descend(node).filter(|pid| census::is_called(*pid, "lichen-engine")).map(census::pss_mib).collect();
    let arms = [
        Arm::of("all processes of the node, % of a core", Unit::Count, &[spent * 100.0]),
        Arm::of("an engine, its share of memory", Unit::Mebibytes, &engines),
    ];
    Ok(Figure::new("pure-idle", "none: what an idle node takes", machine, arms.into_iter().flatten().collect()))
}
