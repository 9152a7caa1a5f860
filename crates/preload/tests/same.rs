//! The same program with the library and without: what it says of its connections is the same.

use net::broker::{Bounds, Broker};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// Where cargo has put the library: beside this test's program.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("liblichen_socket.so")
}

fn ran(command: &mut Command) -> String {
    let output: Output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A program of ours in C.
fn compiled(folder: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).with_extension("c");
    let program = folder.join(name);
    ran(Command::new("gcc").args(["-O1", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(source));
    program
}

/// What it says with the library and a broker of its own, and how many connections met there.
fn beside_a_broker(program: &Path, settings: &[(&str, &str)]) -> (String, u64) {
    let place = program.with_extension("broker");
    let mut broker = Broker::bind(&place, Bounds::default()).unwrap();
    let (stop, end) = std::io::pipe().unwrap();
    let serving = thread::spawn(move || broker.run(stop.as_fd()).map(|()| broker.met()));
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", &place).envs(settings.iter().copied());
    let said = ran(&mut command);
    drop(end);
    (said, serving.join().unwrap().unwrap())
}

#[test]
fn a_program_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "probe");
    let without = ran(&mut Command::new(&program));
    let cases = without.lines().filter(|line| line.contains(": ")).count();
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "2"), ("EXPECT_MEMORY", "1")]);
    assert_eq!(with, without);
    assert!(met as usize >= cases, "{met} connections met in {cases} cases");
}

/// Of many connections in an epoll set most sleep: none is forgotten, however the set is waited for.
#[test]
fn who_is_called_answers() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "called");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_AFTER", "4")]);
    assert_eq!(with, without);
    assert!(met > 200, "most of them got memory");
}

/// Who sleeps in poll or select is woken by the thread's bell: no byte goes over TCP for that. The library never looks before it sleeps.
#[test]
fn who_polls_is_rung_for() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "polled");
    let without = ran(&mut Command::new(&program));
    let (with, met) = beside_a_broker(&program, &[("LICHEN_SOCKET_LOOK_US", "0"), ("EXPECT_MEMORY", "1")]);
    assert_eq!((with, met), (without, 8));
}

/// Nobody to bring ends together: a library that does nothing.
#[test]
fn without_a_broker_all_is_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled(folder.path(), "probe");
    let without = ran(&mut Command::new(&program));
    let with = ran(Command::new(&program).env("LD_PRELOAD", built()));
    assert_eq!(with, without);
    let gone = folder.path().join("nobody");
    assert_eq!(ran(Command::new(&program).env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", gone)), without);
}

/// It holds the sockets that it was shown, and the connections end all the same.
#[test]
fn a_broker_that_is_stopped_keeps_no_connection_up() {
    let folder = tempfile::tempdir().unwrap();
    let (program, place) = (compiled(folder.path(), "ends"), folder.path().join("broker"));
    let said = |library: bool| {
        let mut broker = Broker::bind(&place, Bounds::default()).unwrap();
        let (stop, end) = std::io::pipe().unwrap();
        let serving = thread::spawn(move || broker.run(stop.as_fd()).map(|()| broker));
        let mut command = Command::new(&program);
        if library {
            command.env("LD_PRELOAD", built()).env("LICHEN_SOCKET_BROKER", &place).env("LICHEN_SOCKET_AFTER", "2");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        // From here on it hears nobody, and is still there.
        drop(end);
        let _silent = serving.join().unwrap().unwrap();
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        out.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        std::fs::remove_file(&place).unwrap();
        said
    };
    assert_eq!(said(true), said(false));
}
