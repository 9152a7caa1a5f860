//! What the measured starts are shown as.

use crate::baseline::Language;
use crate::figure::{Arm, Figure, Shape};
use crate::machine::Machine;
use crate::series::Series;

/// From the request's arrival to the handler's first line.
pub fn starts(language: Language, machine: &Machine, hot: &[Series], idle: &[Series]) -> Figure {
    let letter = if language == Language::Python { 'a' } else { 'b' };
    let notes = [
        "From the request's arrival at the server to the handler's first line, by the clock that all processes share.",
        "Lichen's arms go through the production gateway; crun and process through a server that does nothing but start \
         them. All run the same interpreter and the same files.",
        "crun has neither a user namespace nor a system call filter, and process no isolation at all.",
        "\"idle\": the whole machine was quiet for a second before each start.",
    ];
    let (name, paper) = (format!("startup-{}", language.as_str()), format!("Molecule (ASPLOS '22), Figure 10{letter}"));
    Figure::new(name, paper, machine, both(hot, idle, Series::start)).with_notes(notes).with_notes(remarks(hot, idle))
}

/// The same requests as their client sees them.
pub fn requests(language: Language, machine: &Machine, hot: &[Series], idle: &[Series]) -> Figure {
    let (name, paper) =
        (format!("startup-{}-http", language.as_str()), "none: a whole cold request, as its client sees it");
    Figure::new(name, paper, machine, both(hot, idle, Series::latency)).with_notes([
        "From the request to the answer over HTTP, on a kept connection, of the requests of the figure before.",
    ])
}

/// Where the time goes.
pub fn breakdown(machine: &Machine, arms: Vec<Arm>) -> Figure {
    let notes = [
        "decide: from the request's arrival to the choice of an instance, or the decision to start one. fork: until the \
         child's first instruction. enter: namespaces, cgroups, code, privileges. load: the language runtime's work in \
         the child, and the function's import where the template has not done it.",
        "begin: the event's way to the handler. handler: the handler itself. answer: from its end to the gateway.",
    ];
    let figure = Figure::new("startup-breakdown", "Molecule (ASPLOS '22), Figure 11a", machine, arms);
    Figure { shape: Shape::Stacks, ..figure }.with_notes(notes)
}

fn both(hot: &[Series], idle: &[Series], of: fn(&Series) -> Option<Arm>) -> Vec<Arm> {
    let named =
        |series: &Series, pace: &str| of(series).map(|arm| Arm { name: format!("{}, {pace}", arm.name), ..arm });
    let hot = hot.iter().filter_map(|series| named(series, "back to back"));
    hot.chain(idle.iter().filter_map(|series| named(series, "idle"))).collect()
}

fn remarks(hot: &[Series], idle: &[Series]) -> Vec<String> {
    hot.iter().chain(idle).filter_map(Series::remark).collect()
}
