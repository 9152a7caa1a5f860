//! What an XPUcall, a connection and a FIFO's round trip cost, on one PU and between two: percentiles in microseconds.
//!
//! ```text
//! cargo run --release -p shim --example measure [CALLS]
//! ```
//!
//! Two shims under one kernel, each a thread, and their processes' ends in this process. The figures in docs/figures.md are
//! made by `lichen bench`; this is for whoever changes the shim.
#![forbid(unsafe_code)]

use shim::control::{Report, Supervisor};
use shim::{Config, Shim};
use std::time::{Duration, Instant};
use xpucall::id::{PuId, Rights};
use xpucall::wire::Transport;
use xpucall::{Fifo, Limits, Process, Reader, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n = std::env::args().nth(1).map_or(Ok(20_000), |n| n.parse())?;
    os::process::raise_descriptors();
    pin(1);
    let folder = tempfile::tempdir()?;
    let mut supervisors: Vec<Supervisor> = Vec::new();
    let sockets: Vec<_> = (0..2).map(|pu| folder.path().join(format!("{pu}"))).collect();
    for pu in 0..2u8 {
        let (supervisor, control) = Supervisor::pair()?;
        let mut config = Config::new(PuId(pu), sockets[usize::from(pu)].clone());
        config.memory = (pu == 0).then(|| folder.path().join("term"));
        std::thread::spawn(move || {
            pin(0);
            let mut shim = Shim::open(config).expect("its folder is new");
            shim.obey(control).expect("its supervisor is there");
            shim.run();
        });
        if let Some(head) = supervisors.first() {
            head.link(&supervisor, PuId(0), PuId(pu))?;
        }
        assert!(matches!(supervisor.hear()?, Some(Report::Serving { .. })));
        supervisors.push(supervisor);
    }
    for transport in [Transport::Base, Transport::Mpsc, Transport::Polling, Transport::Adaptive] {
        calls(transport, &sockets[0], n)?;
    }
    for (name, other) in [("one PU", 0), ("two PUs", 1)] {
        let (here, there) = (attach(&sockets[0])?, attach(&sockets[other])?);
        connections(name, &here, &there, n / 20)?;
        round_trips(name, &here, &there, n)?;
    }
    idle();
    Ok(())
}

/// Stays on one core, so that both sides of a call have one each.
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    // On a machine with one core there is nothing to choose.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

fn attach(socket: &std::path::Path) -> Result<Process, xpucall::error::AttachError> {
    Process::attach(socket, Transport::Adaptive)
}

fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1000.0;
    println!("{what:<44} n {:>6}   min {:>8.2}   p50 {:>8.2}   p99 {:>8.2}", taken.len(), at(0.0), at(0.5), at(0.99));
}

fn times(n: usize, mut once: impl FnMut()) -> Vec<Duration> {
    (0..n + n / 10)
        .map(|_| {
            let begun = Instant::now();
            once();
            begun.elapsed()
        })
        .skip(n / 10)
        .collect()
}

fn calls(transport: Transport, socket: &std::path::Path, n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let process = Process::attach(socket, transport)?;
    let fifo = Fifo::create(&process, Limits::default())?;
    let taken = times(n, || process.check(fifo.id(), Rights::WRITE).expect("it is its own"));
    report(&format!("XPUcall, rights checked, {transport:?}"), taken);
    if transport == Transport::Adaptive {
        report("grant and revoke of nothing new", times(n / 10, || drop(fifo.grant(process.pid(), Rights::READ))));
    }
    Ok(())
}

fn connections(name: &str, owner: &Process, other: &Process, n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let fifo = Fifo::create(owner, Limits::default())?;
    fifo.grant(other.pid(), Rights::WRITE)?;
    let mut kept = Vec::new();
    let connect = || kept.push(other.connect_writer(fifo.id()).expect("it was granted"));
    report(&format!("connect a writer, {name}"), times(n, connect));
    Ok(())
}

fn pair(owner: &Process, other: &Process) -> Result<(Reader, Writer, Fifo), Box<dyn std::error::Error>> {
    let fifo = Fifo::create(owner, Limits::default())?;
    fifo.grant(other.pid(), Rights::WRITE)?;
    Ok((fifo.reader()?, other.connect_writer(fifo.id())?, fifo))
}

fn round_trips(name: &str, here: &Process, there: &Process, n: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut answers, mut answer, _down) = pair(here, there)?;
    let (mut requests, mut request, _up) = pair(there, here)?;
    for (how, busy) in [("both busy", true), ("looking, then asleep", false)] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(0);
                let mut message = Vec::new();
                loop {
                    read(&mut requests, &mut message, busy);
                    answer.write(&message).expect("its reader is there");
                    if message.is_empty() {
                        return;
                    }
                }
            });
            let mut message = Vec::new();
            let taken = times(n, || {
                request.write(&[7; 64]).expect("its reader is there");
                read(&mut answers, &mut message, busy);
            });
            report(&format!("round trip, 64 B, {how}, {name}"), taken);
            request.write(&[]).expect("its reader is there");
            read(&mut answers, &mut message, busy);
        });
    }
    Ok(())
}

fn read(reader: &mut Reader, message: &mut Vec<u8>, busy: bool) {
    if busy {
        while reader.try_read_into(message).expect("its writer is there").is_none() {
            std::hint::spin_loop();
        }
    } else {
        reader.read_into(message, None).expect("its writer is there");
    }
}

/// What two shims, some processes and their open ends take of a processor while nothing happens.
fn idle() {
    let all = || {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let run = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
        tasks.filter_map(run).filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    let before = all();
    let _ = rustix::event::poll(&mut [], Some(&rustix::time::Timespec { tv_sec: 4, tv_nsec: 0 }));
    println!("idle, two shims: {:.3} % of a core", (all() - before) as f64 / 4e9 * 100.0);
}
