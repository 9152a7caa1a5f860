//! What the measured starts are shown as.

use crate::baseline::Language;
use crate::figure::{Arm, Figure, Shape};
use crate::machine::Machine;
use crate::series::Series;

/// What was measured at which pace.
type Paces<'a> = [(&'a str, &'a [Series])];

/// From the request's arrival to the handler's first line.
pub fn starts(language: Language, machine: &Machine, paces: &Paces<'_>) -> Figure {
    let letter = if language == Language::Python { 'a' } else { 'b' };
    let notes = [
        "From the request's arrival at the server to the handler's first line, by the clock that all processes share.",
        "Lichen's arms go through the production gateway; crun and process through a server that does nothing but start \
         them. All run the same interpreter and the same files.",
        "crun has neither a user namespace nor a system call filter, and process no isolation at all.",
        "\"20 ms apart\": after the request before, of whichever arm. \"idle\": after a second in which the whole machine was \
         quiet. \"back to back\": ten in a row, so that making the next sandbox and removing the last one, on the same \
         processors, is part of it.",
    ];
    let (name, paper) = (format!("startup-{}", language.as_str()), format!("Molecule (ASPLOS '22), Figure 10{letter}"));
    Figure::new(name, paper, machine, all(paces, Series::start)).with_notes(notes).with_notes(remarks(paces))
}

/// The same requests as their client sees them.
pub fn requests(language: Language, machine: &Machine, paces: &Paces<'_>) -> Figure {
    let (name, paper) =
        (format!("startup-{}-http", language.as_str()), "none: a whole cold request, as its client sees it");
    Figure::new(name, paper, machine, all(paces, Series::latency)).with_notes([
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

fn all(paces: &Paces<'_>, of: fn(&Series) -> Option<Arm>) -> Vec<Arm> {
    let named =
        |series: &Series, pace: &str| of(series).map(|arm| Arm { name: format!("{}, {pace}", arm.name), ..arm });
    paces.iter().flat_map(|(pace, series)| series.iter().filter_map(|series| named(series, pace))).collect()
}

fn remarks(paces: &Paces<'_>) -> Vec<String> {
    let remark = |series: &Series, pace: &str| series.remark().map(|remark| format!("{pace}: {remark}"));
    paces.iter().flat_map(|(pace, series)| series.iter().filter_map(|series| remark(series, pace))).collect()
}
