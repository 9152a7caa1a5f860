//! `provided`: a function that brings its own runtime, by every path to an answer, and what its instance takes.
//!
//! The function is a small program that asks the Runtime API for events. Beside it, the same program without a sandbox,
//! started for each request, with a server of this bench in the place of the Runtime API.

use crate::census::{Census, pss_mib};
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::functions::Shelf;
use crate::machine::Machine;
use crate::node::{Node, Settings};
use crate::series::{Pace, Series, measure};
use crate::{Plan, pause};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SOURCE: &str = include_str!("../functions/hello-provided/bootstrap.c");
const APART: Pace = Pace::Apart(Duration::from_millis(20));
const FRESH: &[&str] = &["--isolation", "request"];
/// As its processes are called.
const PROGRAM: &str = "bootstrap";
const SERVER: &str = "lichen_provided";

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("compiling the function");
    let shelf = Shelf::new()?;
    let Some(program) = compile(shelf.path())? else {
        let figure = Figure::new("provided", "none: custom runtimes", machine, Vec::new());
        return Ok(vec![figure.with_notes(["Nothing was measured: this machine has no C compiler (cc)."])]);
    };
    (plan.tell)("starting nodes");
    let start = |dispatch: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        Node::start(&plan.program, &Settings { dispatch: dispatch.to_owned(), path, ..Settings::default() })
    };
    let (cold, stems) = (start("stems = 0")?, start("")?);
    for (node, name, options) in [(&cold, "fresh", FRESH), (&cold, "kept", &[][..]), (&stems, "fresh", FRESH)] {
        node.deploy(name, &program, options)?;
        node.await_template(name)?;
    }
    (plan.tell)("requests");
    let mut series = [
        Series::new("new instance", cold.invocation("fresh", b"{}"), Some("cold")),
        Series::new("stem", stems.invocation("fresh", b"{}"), Some("stem")),
        Series::new("warm", cold.invocation("kept", b"{}"), Some("warm")),
    ];
    measure(&mut series, plan.samples(500).max(10), APART)?;
    (plan.tell)("the program by itself");
    let alone = (0..plan.samples(500).max(10)).map(|_| {
        pause(Duration::from_millis(20));
        by_itself(&program)
    });
    let alone = alone.collect::<io::Result<Vec<f64>>>().map_err(io("the program could not be run by itself"))?;
    let mut arms: Vec<Arm> = series.iter().filter_map(Series::latency).collect();
    arms.extend(Arm::of("the program by itself, started for the request", Unit::Milliseconds, &alone));
    for (name, called) in [("an instance's server", SERVER), ("its program", PROGRAM)] {
        arms.extend(Arm::of(format!("memory of {name} (PSS)"), Unit::Mebibytes, &memory(&cold, called)));
    }
    let notes = series.iter().filter_map(Series::remark);
    let notes = notes.chain(["Whole requests over HTTP, but for the program by itself.".to_owned()]);
    Ok(vec![Figure::new("provided", "none: custom runtimes", machine, arms).with_notes(notes)])
}

/// The program; nothing where there is no compiler.
fn compile(folder: &Path) -> Result<Option<PathBuf>, BenchError> {
    let (source, program) = (folder.join("bootstrap.c"), folder.join(PROGRAM));
    std::fs::write(&source, SOURCE).map_err(io("a function's file could not be written"))?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o"]).arg(&program).arg(&source).stdin(Stdio::null());
    Ok(cc.status().is_ok_and(|status| status.success()).then_some(program))
}

/// MiB of each process of this name in the instances that wait.
fn memory(node: &Node, called: &str) -> Vec<f64> {
    let all = Census::take(node.pid()).processes;
    // Templates and what waits to fork from them are of the same name, and have no program beside them.
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let programs: Vec<u64> = all.iter().filter(|one| name(one.pid) == PROGRAM).map(|one| one.namespace).collect();
    let of = all.iter().filter(|one| name(one.pid) == called && programs.contains(&one.namespace));
    of.map(|one| pss_mib(one.pid)).collect()
}

/// Milliseconds from the program's start to its answer, with this process as its Runtime API.
fn by_itself(program: &Path) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let api = listener.local_addr()?.to_string();
    let began = Instant::now();
    let mut child = Command::new(program).env_clear().env("AWS_LAMBDA_RUNTIME_API", api).spawn()?;
    let (stream, _) = listener.accept()?;
    let mut client = BufReader::new(stream);
    request(&mut client)?;
    let event = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: one\r\nContent-Length: 2\r\n\r\n{}";
    client.get_mut().write_all(event.as_bytes())?;
    let answer = request(&mut client);
    let took = began.elapsed();
    child.kill()?;
    child.wait()?;
    answer.map(|_| took.as_nanos() as f64 / 1e6)
}

/// Reads a request with its body.
fn request(client: &mut BufReader<TcpStream>) -> io::Result<()> {
    let (mut line, mut len) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if client.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            len = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
    client.read_exact(&mut vec![0; len])
}
