//! What holds for pure functions beside what holds for all: each run by itself, every end an error with a name, and
//! nothing left of any.

use crate::cases::{
    a_discarded_template_takes_its_instances_along, a_vector_of_starts_has_an_answer_each,
    large_events_and_answers_arrive, settled_footprint,
};
use crate::probe::Bench;
use crate::{Case, case, leftovers};
use cfork::invocation;
use sandbox::spec::{Code, End, EngineClass, Kind, OWN_ENGINES};
use serde_json::json;
use std::os::unix::fs::FileExt;

pub const CASES: &[Case] = &[
    case!(a_function_runs_again_and_again),
    case!(large_events_and_answers_arrive),
    case!(a_vector_of_starts_has_an_answer_each),
    case!(every_failure_has_a_name_and_harms_nobody_else),
    case!(an_endless_run_ends_at_its_deadline),
    case!(a_run_can_be_ended),
    case!(short_runs_do_not_wait_for_long_ones),
    case!(nor_do_long_ones_for_those_that_have_engines_of_their_own),
    case!(code_that_is_none_is_refused),
    case!(retiring_leaves_nothing),
    case!(a_discarded_template_takes_its_instances_along),
    case!(a_request_that_makes_no_sense_is_refused),
    case!(garbage_in_the_channel_breaks_only_that_channel),
    case!(an_engine_that_is_killed_is_replaced),
    case!(no_secret_stays_in_any_engine),
];

async fn a_function_runs_again_and_again(bench: &Bench) {
    for template in [bench.generic().await, bench.dedicated().await] {
        let mut probe = bench.start(&template).await;
        for n in 0..100 {
            assert_eq!(probe.reply(json!({"do": "echo", "value": n})).await, json!(n));
        }
    }
}

async fn every_failure_has_a_name_and_harms_nobody_else(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut neighbour = bench.start_with(&template, None).await.unwrap();
    let mut probe = bench.start_with(&template, None).await.unwrap();
    let common = [("x7", "Exit"), ("4", "OutOfMemory"), ("r", "StackOverflow")];
    let wasm = [("u", "Trap"), ("n", "Trap"), ("B", "OutputTooLarge")];
    let native = [
        ("u", "Signal"),
        ("n", "Signal"),
        ("j", "Signal"),
        ("s2", "Forbidden"),
        ("s9", "Forbidden"),
        ("s57", "Forbidden"),
        // By other gates than that of 64-bit programs: the engine's own filter ends who tries.
        ("S", "Signal"),
        ("B99999999999", "OutputTooLarge"),
        ("A4398046511104", "BadOutput"),
        ("C18446744073709551615", "BadOutput"),
        ("F18446744073709551615", "BadOutput"),
        ("H4398046511104", "TooManyItems"),
        ("J18446744073709551615", "BadOutput"),
        ("N", "BadOutput"),
    ];
    let own: &[_] = if bench.kind == Kind::Wasm { &wasm } else { &native };
    for (order, name) in common.iter().chain(own) {
        let (kind, error) = probe.ask(json!({"do": "order", "value": order})).await.unwrap();
        assert_eq!(kind, invocation::FAILED, "{order}: {error}");
        assert_eq!(error["errorType"], format!("Pure.{name}"), "{order}: {error}");
        assert!(error["errorMessage"].as_str().is_some_and(|text| text.starts_with("sample: ")), "{error}");
        assert_eq!(neighbour.reply(json!({"do": "echo", "value": order})).await, json!(order));
    }
    assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1), "the instance goes on");
}

async fn an_endless_run_ends_at_its_deadline(bench: &Bench) {
    let code = bench.code_with(&json!({"timeout_s": 1}));
    let template = bench.prepare(Some(code)).await.unwrap();
    let mut probe = bench.start_with(&template, None).await.unwrap();
    for _ in 0..2 {
        let (kind, error) = probe.ask(json!({"do": "order", "value": "l"})).await.unwrap();
        assert_eq!((kind, &error["errorType"]), (invocation::FAILED, &json!("Pure.Timeout")));
    }
    assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn a_run_can_be_ended(bench: &Bench) {
    let template = bench.dedicated().await;
    // More than there are engines: those that wait are ended as well.
    let mut endless = Vec::new();
    for _ in 0..20 {
        let mut probe = bench.start_with(&template, None).await.unwrap();
        probe.send(&json!({"do": "order", "value": "l"}));
        endless.push(probe);
    }
    for probe in &mut endless {
        probe.instance.kill();
        assert_eq!(probe.instance.ended().await, End::Exit(0));
    }
    let mut next = bench.start_with(&template, None).await.unwrap();
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn short_runs_do_not_wait_for_long_ones(bench: &Bench) {
    let template = bench.dedicated().await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut short = bench.start_with(&template, None).await.unwrap();
    let mut endless = Vec::new();
    // More than there are engines for them.
    for _ in 0..=cores {
        let mut probe = bench.start_on(&template, EngineClass::Long).await;
        probe.send(&json!({"do": "order", "value": "l"}));
        endless.push(probe);
    }
    assert!(leftovers::engines().len() > cores, "one for each processor, and one that has no long runs");
    for n in 0..100 {
        assert_eq!(short.reply(json!({"do": "echo", "value": n})).await, json!(n));
    }
    for probe in &mut endless {
        probe.instance.kill();
        assert_eq!(probe.instance.ended().await, End::Exit(0));
    }
    let mut next = bench.start_on(&template, EngineClass::Long).await;
    assert_eq!(next.reply(json!({"do": "echo", "value": 1})).await, json!(1));
}

async fn nor_do_long_ones_for_those_that_have_engines_of_their_own(bench: &Bench) {
    let template = bench.dedicated().await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut endless = Vec::new();
    for number in 0..OWN_ENGINES as u8 {
        for _ in 0..cores {
            let mut probe = bench.start_on(&template, EngineClass::Own(number)).await;
            probe.send(&json!({"do": "order", "value": "l"}));
            endless.push(probe);
        }
    }
    assert!(leftovers::engines().len() > OWN_ENGINES * cores);
    for class in [EngineClass::Short, EngineClass::Long] {
        let mut probe = bench.start_on(&template, class).await;
        for n in 0..20 {
            assert_eq!(probe.reply(json!({"do": "echo", "value": n})).await, json!(n), "{class:?}");
        }
    }
    for probe in &mut endless {
        probe.instance.kill();
        assert_eq!(probe.instance.ended().await, End::Exit(0));
    }
    let (mut start, ..) = bench.order(None);
    start.spec.class = EngineClass::Own(OWN_ENGINES as u8);
    let refused = template.spawn(vec![start]).await.pop().unwrap();
    assert!(refused.is_err_and(|error| error.to_string().contains("no processor")), "there are no more numbers");
}

async fn code_that_is_none_is_refused(bench: &Bench) {
    for bytes in [&b""[..], b"#!/bin/sh\n", b"\0asm\x01\0\0\0\xff\xff\xff", b"\x7fELF\x02\x01\x01"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app"), bytes).unwrap();
        let code = Code { folder: folder.path().join(""), layers: None, config: bench.code().config };
        let Err(error) = bench.prepare(Some(code)).await else { panic!("{bytes:?} was taken") };
        assert!(error.is_lasting(), "{bytes:?}: {error}");
    }
}

async fn retiring_leaves_nothing(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut first = bench.start_with(&template, None).await.unwrap();
    first.reply(json!({"do": "echo", "value": 1})).await;
    first.instance.retire().await;
    drop((first.channel, first.log));
    let before = (settled_footprint(None).await, leftovers::of_engines());
    for round in 0..5 {
        for order in ["u", "x7"] {
            let mut probe = bench.start_with(&template, None).await.unwrap();
            probe.ask(json!({"do": "order", "value": order})).await.unwrap();
            probe.reply(json!({"do": "echo", "value": round})).await;
            probe.instance.retire().await;
        }
    }
    assert_eq!(settled_footprint(Some(before.0)).await, before.0);
    // A few come and go with the processes that are kept ready for native functions.
    for ((engine, descriptors), before) in leftovers::of_engines().into_iter().zip(before.1) {
        assert!(engine == before.0 && descriptors <= before.1 + 8, "{engine}: {descriptors} of {before:?}");
    }
}

async fn a_request_that_makes_no_sense_is_refused(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut probe = bench.start_with(&template, None).await.unwrap();
    for garbage in [&b"garbage"[..], &[0xff; 4096], &[0; 64], b""] {
        probe.send_bytes(garbage);
        let (kind, answer) = probe.answer().await.unwrap();
        // No bytes at all, and many zeroes, are no sets.
        let named = answer["errorType"].as_str().unwrap_or_default();
        assert!(kind == invocation::FAILED && named.starts_with("Pure."), "{kind}: {answer}");
        assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1));
    }
}

async fn garbage_in_the_channel_breaks_only_that_channel(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut neighbour = bench.start_with(&template, None).await.unwrap();
    assert_eq!(neighbour.reply(json!({"do": "echo", "value": 1})).await, json!(1));
    for from in [4096, 0] {
        let (start, mut channel, _log) = bench.order(None);
        let region = std::fs::File::from(start.channel.region.try_clone().unwrap());
        let mut instance = template.spawn(vec![start]).await.pop().unwrap().unwrap();
        let len = region.metadata().unwrap().len().min(1 << 20);
        for at in (from..len).step_by(4096) {
            // Where it is sealed against writing by name the mapping is still the gateway's to write, which is not hostile.
            if region.write_at(&[0xff; 4096], at).is_err() {
                println!("skip: the region cannot be written by its name");
                return;
            }
        }
        let _ = channel.sender.send(invocation::INVOKE, b"", b"");
        neighbour.reply(json!({"do": "echo", "value": 2})).await;
        instance.kill();
        instance.ended().await;
        assert_eq!(neighbour.reply(json!({"do": "echo", "value": 3})).await, json!(3));
    }
}

async fn an_engine_that_is_killed_is_replaced(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut probes = Vec::new();
    for _ in 0..4 {
        let mut probe = bench.start_with(&template, None).await.unwrap();
        assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1));
        probes.push(probe);
    }
    let engines = leftovers::engines();
    for engine in &engines {
        os::pidfd::kill(os::pidfd::open(*engine).unwrap()).unwrap();
    }
    for probe in &mut probes {
        assert_eq!(probe.instance.ended().await, End::Signal(libc::SIGKILL));
    }
    let mut next = bench.start_with(&template, None).await.unwrap();
    assert_eq!(next.reply(json!({"do": "echo", "value": 2})).await, json!(2));
    assert!(!engines.is_empty() && leftovers::engines().iter().all(|engine| !engines.contains(engine)));
}

async fn no_secret_stays_in_any_engine(bench: &Bench) {
    let template = bench.dedicated().await;
    for len in [64, 3_000, 200_000] {
        let mut probe = bench.start_with(&template, None).await.unwrap();
        let secret: String = (0..32).map(|n: u32| char::from(b'A' + ((n * 11 + len as u32) % 26) as u8)).collect();
        let given = secret.repeat(len / secret.len());
        assert_eq!(probe.reply(json!({"do": "echo", "value": given})).await, json!(given));
        // A run that fails half-way has it too.
        let (kind, _) = probe.ask(json!({"do": "order", "value": format!("u{given}")})).await.unwrap();
        assert_eq!(kind, invocation::FAILED);
        probe.instance.retire().await;
        drop((probe.channel, probe.log));
        // Orders are followed in turn: what this one has to say comes after the engine has let go of that one.
        let mut next = Vec::new();
        for _ in 0..4 {
            let mut probe = bench.start_with(&template, None).await.unwrap();
            probe.reply(json!({"do": "echo", "value": 1})).await;
            next.push(probe);
        }
        match leftovers::places_of(secret.as_bytes()) {
            Some(places) => assert_eq!(places, Vec::<String>::new(), "{len} bytes"),
            None => println!("skip: this user may not look into the engines' memory"),
        }
    }
}
