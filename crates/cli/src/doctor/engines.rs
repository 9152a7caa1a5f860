//! What runs pure functions here: each engine made and tested as a worker does, in a process of its own.

use super::{Check, Probe};
use anyhow::{Context, bail};
use engine::{Crew, Kind, Prepared};
use sandbox::config::EnginesConfig;

pub fn checks() -> Vec<Check> {
    vec![
        check(
            Kind::Wasm,
            Probe::Wasm,
            "pure functions in WebAssembly",
            "a processor and a kernel that wasmtime supports",
        ),
        check(
            Kind::Process,
            Probe::Process,
            "native pure functions, each run in an empty process",
            "an x86-64 processor, and a kernel with seccomp filters",
        ),
        check(
            Kind::Kvm,
            Probe::Kvm,
            "native pure functions in virtual machines: lichen deploy --engine kvm",
            "a machine whose processor virtualises; where it is only slow: kvm_limit_us of [engines] in lichen.toml",
        ),
    ]
}

fn check(kind: Kind, probe: Probe, brings: &'static str, remedy: &str) -> Check {
    let name = match kind {
        Kind::Wasm => "engine wasm",
        Kind::Process => "engine process",
        Kind::Kvm => "engine kvm",
    };
    match probe.attempt() {
        Ok(()) => Check::ok(name, brings, "passes its self-test"),
        Err(reason) => Check::lacking(name, brings, reason, remedy),
    }
}

/// Makes an engine in this process, and has it test itself.
pub fn rehearse(kind: Kind) -> anyhow::Result<()> {
    let crew = match kind {
        Kind::Wasm | Kind::Process => Crew::Usual,
        Kind::Kvm => Crew::Machines { device: engine::device(), limit_us: EnginesConfig::default().kvm_limit_us },
    };
    // Engines keep to the thread that has made them, whose stack they wipe.
    let prepared = engine::prepare(crew);
    let tested = std::thread::spawn(move || test(prepared, kind)).join();
    tested.unwrap_or_else(|_| bail!("the self-test has panicked"))
}

fn test(prepared: Prepared, kind: Kind) -> anyhow::Result<()> {
    let made = prepared.engines().into_iter().find(|(made, _)| *made == kind);
    let (_, made) = made.context("this build has no such engine")?;
    Ok(made?.self_test()?)
}
