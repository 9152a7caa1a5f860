//! What a program is given, and what it leaves.

use crate::support::{Plain, given, load, plain, program, set};
use engine::{Artefact, CompileError, Engine, Kind, LoadError, RunError, wasm};
use object::{Object, ObjectSection};

/// Writes `hello` to descriptor 1.
const HELLO: &str = r#"
    (data (i32.const 0) "\10\00\00\00\05\00\00\00") (data (i32.const 16) "hello")
    (func (export "_start") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

fn hello(set: &str) -> Vec<Plain> {
    vec![(set.into(), vec![("stdout".into(), 0, "hello".into())])]
}

#[test]
fn what_is_printed_is_the_answer_where_there_is_no_other() {
    let mut program = program(HELLO);
    let mut given = given();
    let finished = given.run(&mut *program);
    assert_eq!(plain(&finished), hello("stdout"));
    assert!(finished.stdout.is_empty() && finished.memory_peak == 2 << 16, "{finished:?}");
    given.outputs = vec!["answer".into()];
    assert_eq!(plain(&given.run(&mut *program)), hello("answer"));
    given.outputs = vec!["a".into(), "b".into()];
    let finished = given.run(&mut *program);
    assert_eq!(plain(&finished), [("a".into(), vec![]), ("b".into(), vec![])]);
    assert_eq!(finished.stdout, b"hello");
}

#[test]
fn text_is_bounded() {
    let mut program = program(HELLO);
    let mut given = given();
    given.outputs = vec!["a".into(), "b".into()];
    given.limits.text_bytes = 3;
    let finished = given.run(&mut *program);
    assert_eq!(finished.stdout, b"hel\n[2 bytes more were printed, and dropped]\n");
}

/// Copies `/in/a/x` to `/out/b/y@7`, and ends with exit code 0.
const COPY: &str = r#"
    (data (i32.const 0) "in/a/x") (data (i32.const 16) "out/b") (data (i32.const 32) "out/b/y@7")
    (data (i32.const 64) "\00\10\00\00\00\10\00\00")
    (func $check (param i32) (if (local.get 0) (then (call $exit (i32.add (i32.const 100) (local.get 0))))))
    (func (export "_start")
        (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 80)))
        (call $check (call $fd_read (i32.load (i32.const 80)) (i32.const 64) (i32.const 1) (i32.const 68)))
        (drop (call $mkdir (i32.const 3) (i32.const 16) (i32.const 5)))
        (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 9) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 84)))
        (call $check (call $fd_write (i32.load (i32.const 84)) (i32.const 64) (i32.const 1) (i32.const 88)))
        (call $exit (i32.const 0)))
"#;

#[test]
fn sets_are_folders() {
    let mut program = program(COPY);
    let mut given = given();
    given.inputs = vec![set("a", &[("x", 0, "some bytes"), ("z", 3, "")])];
    let expected = [("b".to_owned(), vec![("y".to_owned(), 7, "some bytes".to_owned())])];
    assert_eq!(plain(&given.run(&mut *program)), expected);
    given.outputs = vec!["b".into()];
    assert_eq!(plain(&given.run(&mut *program)), expected);
    given.inputs = vec![set("a", &[("x", 1, "")])];
    assert_eq!(given.run(&mut *program).outcome.unwrap_err(), RunError::Exit(144), "there is no x, but x@1");
}

#[test]
fn items_of_one_name_keep_their_keys() {
    let code = COPY.replace("in/a/x", "in/a/x~2@7").replace("(i32.const 6)", "(i32.const 10)");
    let mut program = program(&code);
    let mut given = given();
    given.inputs = vec![set("a", &[("x", 7, "one"), ("x", 0, "two"), ("x", 7, "three"), ("x", 0, "four")])];
    let expected = [("b".to_owned(), vec![("y".to_owned(), 7, "three".to_owned())])];
    assert_eq!(plain(&given.run(&mut *program)), expected);
}

#[test]
fn nothing_of_a_run_is_there_in_the_next() {
    let mut counter = program(
        r#"(global $g (mut i32) (i32.const 0))
        (func (export "_start")
            (i32.store (i32.const 70000) (i32.add (i32.load (i32.const 70000)) (i32.const 1)))
            (global.set $g (i32.add (global.get $g) (i32.const 1)))
            (call $exit (i32.add (i32.load (i32.const 70000)) (global.get $g))))"#,
    );
    for _ in 0..10 {
        assert_eq!(given().run(&mut *counter).outcome.unwrap_err(), RunError::Exit(2));
    }
}

#[test]
fn code_that_cannot_run_is_refused_with_the_reason() {
    let refused = |text: &str| wasm::compile(&wat::parse_str(text).unwrap()).unwrap_err().to_string();
    assert!(matches!(wasm::compile(b"\x7fELF\x02"), Err(CompileError::NotThis { .. })));
    assert!(matches!(wasm::compile(b"\0asm\x01\0\0\0\x01\xff"), Err(CompileError::Invalid(_))));
    assert!(refused("(module)").contains("it exports no `_start`"));
    assert!(refused(r#"(module (func (export "_start") (param i32)))"#).contains("without parameters"));
    assert!(refused(r#"(module (memory (export "_start") 1))"#).contains("not a function"));
    let unknown = refused(r#"(module (import "env" "alert" (func)) (func (export "_start")))"#);
    assert!(unknown.contains("`env.alert`") && unknown.contains("wasm32-wasip1"), "{unknown}");
    let wrong =
        refused(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64))) (func (export "_start")))"#);
    assert!(wrong.contains("incompatible import type"), "{wrong}");
    let body = wat::parse_str(r#"(module (func (export "_start") (result i32) i32.const 0 i32.add))"#);
    assert!(matches!(wasm::compile(&body.unwrap()), Err(CompileError::Invalid(_))));
}

#[test]
fn artefacts_that_do_not_fit_are_refused() {
    let good = wasm::compile(&wat::parse_str(r#"(module (func (export "_start")))"#).unwrap()).unwrap();
    let load = |bytes: &[u8]| engine_load(bytes).err().map(|error| error.to_string());
    assert_eq!(load(&good), None);
    let mut stale = good.clone();
    *stale.last_mut().unwrap() ^= 1;
    assert!(load(&stale).unwrap().contains("Compile the code again"));
    assert!(load(&good[..good.len() - 1]).unwrap().contains("damaged"));
    assert!(load(b"").unwrap().contains("damaged"));
    // Another version of the compiler made it, and its label lies.
    let mut other = good.clone();
    let object = object::File::parse(&*good).unwrap();
    let section = object.section_by_name(".wasmtime.engine").unwrap().file_range().unwrap().0 as usize;
    let at = section + good[section..].windows(3).position(|bytes| bytes == b"48.").unwrap();
    other[at + 1] = b'7';
    assert!(load(&other).unwrap().contains("cannot be loaded"));
    let elf = Artefact { kind: Kind::Process, file: tempfile::tempfile().unwrap() };
    assert!(matches!(crate::support::engine().load(&elf), Err(LoadError::Kind { .. })));
}

fn engine_load(bytes: &[u8]) -> Result<(), LoadError> {
    crate::support::engine().load(&crate::support::artefact(bytes)).map(drop)
}

#[test]
fn deterministic_runs_are_equal() {
    let mut dice = program(
        r#"(data (i32.const 0) "\10\00\00\00\10\00\00\00")
        (func (export "_start")
            (drop (call $random (i32.const 16) (i32.const 16)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    let mut given = given();
    let bytes = |finished: engine::Finished| finished.outcome.unwrap()[0].items[0].data.to_vec();
    assert_ne!(bytes(given.run(&mut *dice)), bytes(given.run(&mut *dice)));
    given.deterministic = true;
    let first = bytes(given.run(&mut *dice));
    assert_eq!(first, bytes(given.run(&mut *dice)));
    assert!(first.iter().any(|byte| *byte != first[0]), "{first:?}");
}

#[test]
fn bad_inputs_are_said() {
    let mut program = load(&wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    let mut given = given();
    given.inputs = vec![set("a", &[("x%2F..%2Fy", 0, "")])];
    assert!(matches!(given.run(&mut *program).outcome, Err(RunError::BadInput(_))));
    for nameless in ["x%2F", "%2F", "%2Fx"] {
        given.inputs = vec![set("a", &[(nameless, 7, "")])];
        assert!(matches!(given.run(&mut *program).outcome, Err(RunError::BadInput(_))), "{nameless}");
    }
    given.inputs = vec![set("a", &[("x", 0, ""), ("x%2Fy", 0, "")])];
    assert!(matches!(given.run(&mut *program).outcome, Err(RunError::BadInput(_))));
    given.inputs = vec![set("a", &[("x", 0, ""), ("x", 0, ""), ("x", 0, "")])];
    assert!(given.run(&mut *program).outcome.is_ok());
    given.arguments = vec!["a\0b".into()];
    assert!(matches!(given.run(&mut *program).outcome, Err(RunError::BadInput(_))));
}
