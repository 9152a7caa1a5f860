//! Components: as text, and from Rust where its target is installed.

use crate::support::{given, load, lossy, plain, set, text};
use engine::{CompileError, Folder, Program, RunError, TrapKind, wasm};
use std::process::Command;
use std::time::{Duration, Instant};

/// A component whose `run` is the core code `body`, which answers 0 for well and 1 for not.
fn component(body: &str) -> Box<dyn Program> {
    load(&wat::parse_str(text_of(body)).unwrap())
}

fn text_of(body: &str) -> String {
    format!(
        r#"(component
        (core module $m (memory (export "memory") 2) (func (export "run") (result i32) {body}))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $r (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

fn outcome(body: &str) -> Option<RunError> {
    given().run(&mut *component(body)).outcome.err()
}

#[test]
fn components_end_as_modules_do() {
    assert_eq!(outcome("i32.const 0"), None);
    assert_eq!(outcome("i32.const 1"), Some(RunError::Exit(1)));
    assert_eq!(outcome("unreachable"), Some(RunError::Trap(TrapKind::Unreachable)));
    let greedy = "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable)) i32.const 0";
    assert_eq!(outcome(greedy), Some(RunError::OutOfMemory { limit: 128 << 20 }));
}

#[test]
fn components_end_at_their_deadline() {
    let fill = "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) br 0) i32.const 0";
    for body in ["(loop br 0) i32.const 0", fill] {
        let mut program = component(body);
        let mut given = given();
        given.time = Duration::from_millis(30);
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(given.run(&mut *program).outcome.unwrap_err(), RunError::Timeout);
            assert!(began.elapsed() < Duration::from_secs(3));
        }
    }
}

#[test]
fn the_network_may_be_imported_and_not_called() {
    let text = r#"(component
        (import "wasi:sockets/instance-network@0.2.0" (instance $n (export "instance-network" (func (result u32)))))
        (core func $call (canon lower (func $n "instance-network")))
        (core module $m (import "h" "call" (func $c (result i32))) (func (export "run") (result i32) (call $c)))
        (core instance $i (instantiate $m (with "h" (instance (export "call" (func $call))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $r (export "run" (func $run)))
        (export "wasi:cli/run@0.2.3" (instance $r)))"#;
    let finished = given().run(&mut *load(&wat::parse_str(text).unwrap()));
    assert_eq!(finished.outcome.unwrap_err(), RunError::Forbidden("the network (wasi:sockets)".into()));
}

#[test]
fn components_that_are_none_are_refused() {
    let refused = |text: &str| wasm::compile(&wat::parse_str(text).unwrap()).unwrap_err();
    assert!(refused("(component)").to_string().contains("`wasi:cli/run`"));
    let web = r#"(component (import "wasi:http/types@0.2.0" (instance)))"#;
    assert!(matches!(refused(web), CompileError::Unavailable { .. }));
    assert!(wasm::compile(b"\0asm\x0d\0\x01\0\xff").is_err());
}

const RUST: &str = r#"
use std::io::{Read, Write, ErrorKind};
use std::{env, fs, io};
fn main() {
    let mut given = String::new();
    io::stdin().read_to_string(&mut given).unwrap();
    assert_eq!(given, "one\ntwo");
    let arguments: Vec<String> = env::args().collect();
    assert_eq!(arguments, ["program", "a b"]);
    assert_eq!(env::var("K").unwrap(), "v=w");
    let mut names: Vec<_> = fs::read_dir("/in/a").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["x", "y@7"]);
    fs::create_dir("/out/b").unwrap();
    assert_eq!(fs::create_dir("/out/b").unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::write("/tmp/t", vec![7; 300_000]).unwrap();
    fs::rename("/tmp/t", "/out/b/big").unwrap();
    fs::copy("/in/a/y@7", "/out/b/copy@7").unwrap();
    let mut file = fs::OpenOptions::new().append(true).open("/out/b/copy@7").unwrap();
    write!(file, " and more").unwrap();
    drop(file);
    assert_eq!(fs::metadata("/out/b/copy@7").unwrap().len(), 12);
    assert_eq!(fs::read("/nothing").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::write("/in/a/x", "").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(fs::remove_dir("/out/b").is_err());
    fs::write("/tmp/gone", "").unwrap();
    fs::remove_file("/tmp/gone").unwrap();
    let file = fs::File::create("/tmp/sized").unwrap();
    file.set_len(99).unwrap();
    assert_eq!(fs::read("/tmp/sized").unwrap(), [0; 99]);
    let began = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(10));
    assert!(began.elapsed().as_millis() >= 9);
    assert!(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() > 1_700_000_000);
    let map: std::collections::HashMap<u32, u32> = (0..10).map(|number| (number, number)).collect();
    assert_eq!(map[&3], 3);
    println!("printed");
    eprintln!("said");
    if fs::exists("/in/loop").unwrap() { loop { io::stderr().flush().unwrap(); } }
    if fs::exists("/in/net").unwrap() {
        let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap().write_all(b"x").unwrap();
    }
    if fs::exists("/in/fail").unwrap() { std::process::exit(3); }
}
"#;

/// The program, or nothing, said aloud.
fn rust() -> Option<Box<dyn Program>> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("program.rs"), folder.path().join("program.wasm"));
    std::fs::write(&from, RUST).unwrap();
    let flags = ["--target", "wasm32-wasip2", "-O", "--edition", "2024", "-o"];
    match Command::new("rustc").args(flags).arg(&to).arg(&from).output() {
        Ok(done) if done.status.success() => Some(load(&std::fs::read(to).unwrap())),
        other => {
            println!("skipped: no Rust for wasm32-wasip2 here ({other:?})");
            None
        }
    }
}

#[test]
fn rust_programs_run() {
    let Some(mut program) = rust() else { return };
    let mut given = given();
    given.arguments = vec!["program".into(), "a b".into()];
    given.environment = vec![("K".into(), "v=w".into())];
    given.stdin = Some(text("one\ntwo"));
    given.inputs = vec![set("a", &[("x", 0, "1"), ("y", 7, "two")])];
    for _ in 0..3 {
        let finished = given.run(&mut *program);
        let sets = plain(&finished);
        assert_eq!((sets.len(), sets[0].0.as_str(), sets[0].1.len()), (1, "b", 2));
        assert_eq!((sets[0].1[0].0.as_str(), sets[0].1[0].2.len()), ("big", 300_000));
        assert_eq!(sets[0].1[1], ("copy".into(), 7, "two and more".into()));
        assert_eq!((finished.stdout, lossy(&finished.stderr)), (b"printed\n".to_vec(), "said\n".into()));
    }
    given.inputs.push(set("net", &[]));
    let refused = RunError::Forbidden("the network (wasi:sockets)".into());
    assert_eq!(given.run(&mut *program).outcome.unwrap_err(), refused, "that it was imported is no fault");
    given.inputs.pop();
    given.inputs.push(set("fail", &[]));
    assert_eq!(given.run(&mut *program).outcome.unwrap_err(), RunError::Exit(1), "preview 2 knows well and not");
    given.inputs.push(set("loop", &[]));
    given.time = Duration::from_millis(300);
    assert_eq!(given.run(&mut *program).outcome.unwrap_err(), RunError::Timeout);
    given.folders = vec![Folder { set: "w".into(), path: "/w".into() }];
    given.inputs[0] = set("a", &[]);
    assert!(matches!(given.run(&mut *program).outcome.unwrap_err(), RunError::Trap(_)), "a panic");
}
