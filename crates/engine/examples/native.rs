//! What a run of a native function costs, by the engine alone: `cargo run --release -p engine --example native -- ELF [runs [bytes [kvm]]]`.
//!
//! Gives the function one set `in` with one item of 8 bytes, or of as many as are asked for, and prints percentiles.
//!
//! Not here: HTTP, and whatever else is around an engine.

#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use engine::{Arena, Artefact, Blob, Engine, Limits, Run, Stop, kvm::Kvm, native, process::Process};
    use sets::{Item, Set};
    use std::io::Write;
    use std::time::{Duration, Instant};

    let mut arguments = std::env::args().skip(1);
    let elf = std::fs::read(arguments.next().ok_or("an ELF file, please")?)?;
    let runs: usize = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(8), |text| text.parse())?;
    let mut file = tempfile::tempfile()?;
    file.write_all(&native::elf::compile(&elf)?)?;
    let arena = Arena::new(1 << 30)?;
    let mut engine: Box<dyn Engine> = match arguments.next().as_deref() {
        Some("kvm") => Box::new(Kvm::new(arena, engine::device()?, 1_000)?),
        _ => Box::new(Process::new(arena)?),
    };
    engine.self_test()?;
    let mut program = engine.load(&Artefact { kind: engine.kind(), file })?;
    let stop = Stop::new()?;
    // A matrix's side, as the example functions take it: as many rows as the bytes have room for.
    let side = ((bytes.saturating_sub(8) / 8) as f64).sqrt() as u64;
    let mut body = vec![1; bytes];
    body[..8.min(bytes)].copy_from_slice(&side.to_le_bytes()[..8.min(bytes)]);
    let inputs = [Set::new("in", vec![Item::new("body", 0, Blob::from(body))])];
    let outputs = ["out".to_owned()];
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        stop.begin();
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(10);
        let (folders, arguments, environment, limits) = (&[], &[], &[], Limits::default());
        let (inputs, outputs, stop) = (&inputs, &outputs, &stop);
        let run = Run {
            inputs,
            outputs,
            folders,
            arguments,
            environment,
            stdin: None,
            streams: None,
            limits,
            deadline,
            stop,
            deterministic: false,
        };
        program.run(&run).outcome?;
        times.push(begin.elapsed());
        program.clear();
    }
    let total: Duration = times.iter().sum();
    times.sort();
    let at = |share: f64| times[((runs - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    println!(
        "runs {runs}  p50 {:.1} µs  p99 {:.1} µs  min {:.1} µs  mean {:.1} µs",
        at(0.5),
        at(0.99),
        at(0.0),
        total.as_secs_f64() * 1e6 / runs as f64
    );
    Ok(())
}
