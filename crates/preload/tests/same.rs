//! The same program with the library and without: what it says of its connections is the same.

use net::broker::{Bounds, Broker};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// Where cargo has put the library: beside this test's program.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("liblichen_socket.so")
}

fn ran(command: &mut Command) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn a_program_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    let (program, place) = (folder.path().join("probe"), folder.path().join("broker"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe.c");
    ran(Command::new("gcc").args(["-O1", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(source));
    let without = ran(&mut Command::new(&program));
    let cases = without.lines().filter(|line| line.contains(": ")).count();

    let mut broker = Broker::bind(&place, Bounds::default()).unwrap();
    let (stop, end) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || broker.run(stop.as_fd()).map(|()| broker.met()));
    let with = ran(Command::new(&program)
        .env("LD_PRELOAD", library())
        .env("LICHEN_SOCKET_BROKER", &place)
        .env("LICHEN_SOCKET_AFTER", "2")
        .env("EXPECT_MEMORY", "1"));
    drop(end);
    let met = serving.join().unwrap().unwrap();
    assert_eq!(with, without);
    assert!(met as usize >= cases, "{met} connections met in {cases} cases");
}

/// Nobody to bring ends together: a library that does nothing.
#[test]
fn without_a_broker_all_is_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("probe");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe.c");
    ran(Command::new("gcc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(source));
    let without = ran(&mut Command::new(&program));
    let with = ran(Command::new(&program).env("LD_PRELOAD", library()));
    assert_eq!(with, without);
    let gone = folder.path().join("nobody");
    assert_eq!(ran(Command::new(&program).env("LD_PRELOAD", library()).env("LICHEN_SOCKET_BROKER", gone)), without);
}
