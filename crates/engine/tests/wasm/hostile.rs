//! Programs that mean no good: each gets its own error, in time, and nothing is left of it.

use crate::support::{given, lossy, plain, program};
use engine::{Program, RunError, TrapKind};
use std::time::{Duration, Instant};

fn outcome(body: &str) -> RunError {
    given().run(&mut *program(body)).outcome.unwrap_err()
}

/// Ends at a deadline of 50 ms, long before the test's bound.
fn ends_in_time(body: &str) {
    let mut program = program(body);
    let mut given = given();
    given.time = Duration::from_millis(50);
    for _ in 0..3 {
        let began = Instant::now();
        let finished = given.run(&mut *program);
        assert_eq!(finished.outcome.unwrap_err(), RunError::Timeout, "{body}: {}", lossy(&finished.stderr));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(49) && took < Duration::from_secs(3), "{body}: {took:?}");
    }
    well();
}

/// The engine serves others as before.
fn well() {
    let mut next = program(r#"(func (export "_start") (call $exit (i32.const 3)))"#);
    assert_eq!(given().run(&mut *next).outcome.unwrap_err(), RunError::Exit(3));
}

#[test]
fn loops_end_at_the_deadline() {
    ends_in_time(r#"(func (export "_start") (loop br 0))"#);
    ends_in_time(r#"(func (export "_start") (loop (i32.store (i32.const 8) (i32.const 1)) br 0))"#);
    ends_in_time(
        r#"(func $f (param i32) (result i32) local.get 0)
        (func (export "_start") (loop (drop (call $f (i32.const 1))) br 0))"#,
    );
    ends_in_time(
        r#"(func $f (export "f")) (table funcref (elem $f))
        (func (export "_start") (loop (call_indirect (i32.const 0)) br 0))"#,
    );
}

#[test]
fn loops_through_the_host_end_at_the_deadline() {
    ends_in_time(r#"(func (export "_start") (loop (drop (call $fd_close (i32.const 99))) br 0))"#);
    ends_in_time(r#"(func (export "_start") (loop (drop (memory.grow (i32.const 0))) br 0))"#);
    ends_in_time(
        r#"(func (export "_start") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) br 0))"#,
    );
    ends_in_time(r#"(func (export "_start") (loop (drop (call $random (i32.const 0) (i32.const 131072))) br 0))"#);
}

#[test]
fn waiting_ends_at_the_deadline() {
    // Ten minutes of the monotonic clock.
    ends_in_time(
        r#"(func (export "_start")
            (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 600000000000))
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#,
    );
}

#[test]
fn a_start_function_that_loops_ends_too() {
    ends_in_time(r#"(func $s (loop br 0)) (start $s) (func (export "_start"))"#);
}

#[test]
fn whoever_goes_away_ends_the_run() {
    let mut spinning = program(r#"(func (export "_start") (loop br 0))"#);
    let mut in_host =
        program(r#"(func (export "_start") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) br 0))"#);
    for program in [&mut spinning, &mut in_host] {
        let given = given();
        let number = given.stop.begin();
        let finished = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Early, late, and again: whenever it comes, the run ends.
                given.stop.cancel(number);
                given.stop.cancel(number);
            });
            given.go_on(&mut **program)
        });
        assert_eq!(finished.outcome.unwrap_err(), RunError::Cancelled);
    }
    well();
}

#[test]
fn cancelling_hits_at_any_moment() {
    let mut short = program(r#"(func (export "_start") (drop (call $fd_close (i32.const 99))))"#);
    let given = given();
    let (numbers, told) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let stop = &given.stop;
        scope.spawn(move || told.iter().for_each(|number| stop.cancel(number)));
        let mut ended = 0;
        for round in 0..3000 {
            let number = given.stop.begin();
            let _ = numbers.try_send(number);
            match given.go_on(&mut *short).outcome {
                Ok(_) => {}
                Err(RunError::Cancelled) => ended += 1,
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        drop(numbers);
        println!("{ended} of 3000 were cancelled");
    });
    well();
}

#[test]
fn recursion_ends() {
    assert_eq!(outcome(r#"(func $f (export "_start") (call $f))"#), RunError::StackOverflow);
}

#[test]
fn traps_are_named() {
    let trap = |kind| RunError::Trap(kind);
    assert_eq!(outcome(r#"(func (export "_start") unreachable)"#), trap(TrapKind::Unreachable));
    let zero = r#"(func (export "_start") (drop (i32.div_s (i32.const 1) (i32.const 0))))"#;
    assert_eq!(outcome(zero), trap(TrapKind::DivideByZero));
    let beyond = r#"(func (export "_start") (drop (i32.load (i32.const -4))))"#;
    assert_eq!(outcome(beyond), trap(TrapKind::Memory));
    let float = r#"(func (export "_start") (drop (i32.trunc_f64_s (f64.const 1e99))))"#;
    assert_eq!(outcome(float), trap(TrapKind::Arithmetic));
    let null = r#"(table 1 funcref) (func (export "_start") (call_indirect (i32.const 0)))"#;
    assert_eq!(outcome(null), trap(TrapKind::IndirectCall));
    let table = r#"(table 1 funcref) (func (export "_start") (call_indirect (i32.const 9)))"#;
    assert_eq!(outcome(table), trap(TrapKind::Table));
    assert_eq!(outcome(r#"(func (export "_start") (call $exit (i32.const 7)))"#), RunError::Exit(7));
    assert_eq!(outcome(r#"(func (export "_start") (call $exit (i32.const -1)))"#), RunError::Exit(-1));
}

#[test]
fn memory_is_bounded() {
    let grow = r#"(func (export "_start")
        (if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)))"#;
    assert_eq!(outcome(grow), RunError::OutOfMemory { limit: 128 << 20 });
    let told = r#"(func (export "_start")
        (if (i32.ne (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)))"#;
    assert!(given().run(&mut *program(told)).outcome.is_ok(), "who bears the refusal goes on");
    let mut given = given();
    given.limits.memory = 1 << 16;
    let small = given.run(&mut *program(r#"(func (export "_start"))"#));
    assert_eq!(small.outcome.unwrap_err(), RunError::OutOfMemory { limit: 1 << 16 });
    let table = r#"(table $t 10 funcref) (func (export "_start")
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 100000000)) (i32.const -1)) (then unreachable)))"#;
    assert_eq!(outcome(table), RunError::OutOfMemory { limit: 128 << 20 });
}

/// Opens `name` with "create" and writes 64 KiB there for ever.
fn bomb(name: &str, len: usize) -> String {
    format!(
        r#"(data (i32.const 0) "{name}") (data (i32.const 64) "\00\00\01\00\00\00\01\00")
        (func (export "_start") (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const {len})
            (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 80)))
            (loop (drop (call $fd_write (i32.load (i32.const 80)) (i32.const 64) (i32.const 1) (i32.const 84))) br 0))"#
    )
}

#[test]
fn outputs_are_bounded() {
    let mut given = given();
    given.limits.output_bytes = 10 << 20;
    for (name, len) in [("tmp/x", 5), ("out/x", 5)] {
        let finished = given.run(&mut *program(&bomb(name, len)));
        assert_eq!(finished.outcome.unwrap_err(), RunError::OutputTooLarge { limit: 10 << 20 });
    }
    let printing = r#"(data (i32.const 64) "\00\00\01\00\00\00\01\00")
        (func (export "_start")
            (loop (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 84))) br 0))"#;
    let finished = given.run(&mut *program(printing));
    assert_eq!(finished.outcome.unwrap_err(), RunError::OutputTooLarge { limit: 10 << 20 });
}

/// Makes files `tmp/0000` and so on, with names that count up.
const FILES: &str = r#"(data (i32.const 0) "tmp/0000")
    (func (export "_start") (loop
        (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8)
            (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 80)))
        (drop (call $fd_close (i32.load (i32.const 80))))
        (i32.store8 (i32.const 4) (i32.add (i32.load8_u (i32.const 4)) (i32.const 1)))
        (if (i32.eq (i32.load8_u (i32.const 4)) (i32.const 0x7a)) (then
            (i32.store8 (i32.const 4) (i32.const 0x30))
            (i32.store8 (i32.const 5) (i32.add (i32.load8_u (i32.const 5)) (i32.const 1)))
            (if (i32.eq (i32.load8_u (i32.const 5)) (i32.const 0x7a)) (then
                (i32.store8 (i32.const 5) (i32.const 0x30))
                (i32.store8 (i32.const 6) (i32.add (i32.load8_u (i32.const 6)) (i32.const 1)))))))
        br 0))"#;

#[test]
fn files_are_bounded() {
    let mut given = given();
    given.limits.output_items = 20_000;
    assert_eq!(given.run(&mut *program(FILES)).outcome.unwrap_err(), RunError::TooManyItems { limit: 20_000 });
}

#[test]
fn deep_folders_are_made_and_refused_as_items() {
    // Makes a folder in the folder that it made before, 2,000 times, below `out`.
    let deep = r#"(data (i32.const 0) "out") (data (i32.const 16) "d")
        (func $open (param i32 i32 i32) (drop (call $path_open (local.get 0) (i32.const 0) (local.get 1) (local.get 2)
            (i32.const 2) (i64.const 268435391) (i64.const 268435455) (i32.const 0) (i32.const 80))))
        (func (export "_start") (local i32)
            (call $open (i32.const 3) (i32.const 0) (i32.const 3))
            (loop
                (drop (call $mkdir (i32.load (i32.const 80)) (i32.const 16) (i32.const 1)))
                (call $open (i32.load (i32.const 80)) (i32.const 16) (i32.const 1))
                (drop (call $fd_close (i32.sub (i32.load (i32.const 80)) (i32.const 1))))
                (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get 0) (i32.const 2000)))))"#;
    let finished = given().run(&mut *program(deep));
    assert!(matches!(finished.outcome, Err(RunError::BadOutput(_))), "{finished:?}");
}

#[test]
fn pointers_and_counts_that_lie_are_refused() {
    // Each call answers 21 (fault) or 28 (invalid), and nothing happens.
    let calls = [
        ("(call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 0))", 21),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 0))", 28),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0))", 28),
        ("(call $fd_write (i32.const 1) (i32.const 131064) (i32.const 2) (i32.const 0))", 21),
        ("(call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const -1))", 21),
        ("(call $random (i32.const 131071) (i32.const 2))", 21),
        ("(call $random (i32.const 1) (i32.const -1))", 21),
        ("(call $mkdir (i32.const 3) (i32.const 131072) (i32.const 1))", 21),
        ("(call $mkdir (i32.const 3) (i32.const -1) (i32.const -1))", 21),
        ("(call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", 28),
        ("(call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))", 28),
        ("(call $poll (i32.const 0) (i32.const 131000) (i32.const 100) (i32.const 0))", 21),
    ];
    for (call, errno) in calls {
        let body = format!(r#"(func (export "_start") (call $exit {call}))"#);
        assert_eq!(outcome(&body), RunError::Exit(errno), "{call}");
    }
    let whole = r#"(data (i32.const 0) "\00\00\00\00\00\00\02\00")
        (func (export "_start") (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0))))"#;
    assert_eq!(given().run(&mut *program(whole)).stderr.len(), 131_072);
}

#[test]
fn a_program_without_a_memory_is_told_so() {
    let code = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func $y (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start") (call $exit (call $y))))"#,
    );
    let finished = given().run(&mut *crate::support::load(&code.unwrap()));
    assert_eq!(finished.outcome.unwrap_err(), RunError::Exit(21));
}

/// Bytes of memory, descriptors, mappings.
fn held() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = status.split_whitespace().nth(1).unwrap().parse().unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (resident * 4096, descriptors, mappings)
}

/// Ten thousand of each kind, or fewer of those that take their time: nothing grows.
#[test]
fn nothing_is_left_of_many() {
    let kinds: [(&str, &str, u32); 7] = [
        ("trap", r#"(func (export "_start") unreachable)"#, 10_000),
        ("exit", r#"(func (export "_start") (call $exit (i32.const 7)))"#, 10_000),
        ("memory", r#"(func (export "_start") (drop (i32.load (i32.const -4))))"#, 10_000),
        (
            "grow",
            r#"(func (export "_start") (if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)))"#,
            10_000,
        ),
        ("stack", r#"(func $f (export "_start") (call $f))"#, 1_000),
        ("bomb", "", 200),
        (
            "loop",
            r#"(func (export "_start") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) br 0))"#,
            200,
        ),
    ];
    for (name, body, times) in kinds {
        let body = if body.is_empty() { bomb("tmp/x", 5) } else { body.to_owned() };
        let mut program = program(&body);
        let mut given = given();
        given.limits.output_bytes = 1 << 20;
        given.time = if name == "loop" { Duration::from_millis(1) } else { given.time };
        let once = |program: &mut dyn Program| assert!(given.run(program).outcome.is_err(), "{name}");
        (0..times / 10).for_each(|_| once(&mut *program));
        let before = held();
        (0..times).for_each(|_| once(&mut *program));
        let after = held();
        // Tests run beside each other in this process: a leak of one page per run would be forty megabytes.
        assert!(after.0 < before.0 + (24 << 20), "{name}: {before:?} then {after:?}");
        assert!(after.1 < before.1 + 40 && after.2 < before.2 + 100, "{name}: {before:?} then {after:?}");
    }
    let mut hello = program(r#"(func (export "_start"))"#);
    assert_eq!(plain(&given().run(&mut *hello)), [("stdout".into(), vec![("stdout".into(), 0, String::new())])]);
}
