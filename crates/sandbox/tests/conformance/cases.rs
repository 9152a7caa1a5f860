//! What a function sees, and what becomes of it.

use crate::probe::{Bench, config};
use crate::{Case, case};
use cfork::invocation;
use sandbox::spec::{Code, End, Kind, Limits};
use serde_json::{Value, json};
use std::collections::HashSet;

pub const CASES: &[Case] = &[
    case!(a_generic_template_runs_a_function),
    case!(a_dedicated_template_runs_its_function),
    case!(layers_are_seen_by_whom_they_belong_to),
    case!(a_start_is_quick),
    case!(large_events_and_answers_arrive),
    case!(a_vector_of_starts_has_an_answer_each),
    case!(an_exception_is_the_invocations_error),
    case!(a_function_that_cannot_be_loaded_says_so),
    case!(what_is_printed_is_there_with_the_answer),
    case!(children_differ_in_what_is_random),
    case!(an_exit_is_reported),
    case!(an_instance_can_be_ended),
    case!(retiring_leaves_nothing),
    case!(slots_that_are_too_many_go),
    case!(a_discarded_template_takes_its_instances_along),
    case!(children_are_not_charged_to_their_template),
];

async fn a_generic_template_runs_a_function(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    for n in 0..3 {
        assert_eq!(probe.reply(json!({"do": "echo", "value": n})).await, json!(n));
    }
    assert_eq!(probe.reply(json!({"do": "environment", "name": "SAMPLE"})).await, "of the environment");
    assert_eq!(probe.reply(json!({"do": "context"})).await, json!(["r-1", "sample"]));
}

async fn layers_are_seen_by_whom_they_belong_to(bench: &Bench) {
    let layers = bench.code().folder;
    let with = Code { layers: Some(layers.clone()), ..bench.code() };
    let (own, others) = (bench.prepare(Some(with.clone())).await.unwrap(), bench.generic().await);
    let from_own = bench.start_with(&own, None).await.unwrap();
    let from_others = bench.start_with(&others, Some(with)).await.unwrap();
    let name = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let file = json!({"do": "read", "path": format!("/opt/{name}")});
    for mut probe in [from_own, from_others] {
        assert_eq!(probe.ask(file.clone()).await.unwrap().0, invocation::REPLY);
        let (kind, _) = probe.ask(json!({"do": "write", "path": "/opt/x"})).await.unwrap();
        assert_eq!(kind, invocation::FAILED, "layers can be written");
    }
    let mut without = bench.start(&others).await;
    assert_eq!(without.ask(file).await.unwrap().0, invocation::FAILED, "another one's layers are seen");
    let gone = Code { layers: Some("/nonexistent".into()), ..bench.code() };
    assert!(bench.start_with(&others, Some(gone)).await.is_err());
}

async fn a_dedicated_template_runs_its_function(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut first = bench.start_with(&template, None).await.unwrap();
    let mut second = bench.start_with(&template, None).await.unwrap();
    assert_eq!(first.reply(json!({"do": "count"})).await, json!(1));
    assert_eq!(first.reply(json!({"do": "count"})).await, json!(2));
    assert_eq!(second.reply(json!({"do": "count"})).await, json!(1), "instances share no state");
    assert_eq!(second.reply(json!({"do": "environment", "name": "SAMPLE"})).await, "of the environment");
}

async fn a_start_is_quick(bench: &Bench) {
    for (name, template, code) in
        [("generic", bench.generic().await, Some(bench.code())), ("dedicated", bench.dedicated().await, None)]
    {
        template.reserve(2);
        let mut total: Vec<u64> = Vec::new();
        let mut split: Vec<[u64; 5]> = Vec::new();
        for _ in 0..60 {
            let (start, channel, log) = bench.order(code.clone());
            let mut probe_channel = channel;
            let decided = os::monotonic_ns();
            let head =
                cfork::invocation::Invocation { deadline_unix_ms: u64::MAX, request_id: "r", ..Default::default() };
            probe_channel.sender.send(invocation::INVOKE, &head.encode(), br#"{"do":"echo","value":1}"#).unwrap();
            let instance = template.spawn(vec![start]).await.pop().unwrap().unwrap();
            let forked_told = os::monotonic_ns();
            let mut probe = crate::probe::Probe {
                kind: bench.kind,
                instance,
                channel: probe_channel,
                log,
                started: None,
                served: Default::default(),
            };
            let (kind, _) = probe.answer().await.unwrap();
            assert_eq!(kind, invocation::REPLY);
            let started = probe.started.expect("an instance tells when it is ready");
            total.push(probe.served.begun - decided);
            split.push([
                started.forked - decided,
                started.entered - started.forked,
                started.loaded - started.entered,
                probe.served.begun - started.loaded,
                forked_told - decided,
            ]);
            probe.instance.retire().await;
        }
        total.sort_unstable();
        let median = |i: usize| {
            let mut column: Vec<u64> = split.iter().map(|row| row[i]).collect();
            column.sort_unstable();
            column[column.len() / 2] / 1000
        };
        println!(
            "    {name}: p50 {} µs, p90 {} µs (forked {}, entered {}, loaded {}, begun {}; told {})",
            total[total.len() / 2] / 1000,
            total[total.len() * 9 / 10] / 1000,
            median(0),
            median(1),
            median(2),
            median(3),
            median(4)
        );
        assert!(total[total.len() / 2] < 500_000_000, "a start takes less than half a second even on a loaded machine");
    }
}

pub async fn large_events_and_answers_arrive(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    for len in [10, 9_000, 100_000, 6_000_000] {
        let text = "x".repeat(len);
        assert_eq!(probe.reply(json!({"do": "echo", "value": text})).await, Value::String(text));
    }
}

pub async fn a_vector_of_starts_has_an_answer_each(bench: &Bench) {
    let template = bench.generic().await;
    let nowhere = Code { folder: "/nonexistent".into(), layers: None, config: bench.code().config };
    let codes = [bench.code(), nowhere, bench.code(), bench.code()];
    let (starts, rest): (Vec<_>, Vec<_>) = codes
        .into_iter()
        .map(|code| {
            let (start, channel, log) = bench.order(Some(code));
            (start, (channel, log))
        })
        .unzip();
    let answers = template.spawn(starts).await;
    let ok: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, true, true], "a failed start does not fail its neighbours");
    for (answer, (channel, log)) in answers.into_iter().zip(rest) {
        let Ok(instance) = answer else { continue };
        let mut probe =
            crate::probe::Probe { kind: bench.kind, instance, channel, log, started: None, served: Default::default() };
        assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1));
    }
}

async fn an_exception_is_the_invocations_error(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    let (kind, error) = probe.ask(json!({"do": "raise", "text": "it broke"})).await.unwrap();
    assert_eq!(kind, invocation::FAILED);
    assert_eq!(error["errorMessage"], "it broke");
    assert!(error["errorType"].is_string() && (error["stackTrace"].is_array() || error["trace"].is_array()));
    assert_eq!(probe.reply(json!({"do": "echo", "value": 1})).await, json!(1), "the instance goes on");
}

async fn a_function_that_cannot_be_loaded_says_so(bench: &Bench) {
    let missing = Code { folder: bench.code().folder, layers: None, config: config("nowhere.handler") };
    let template = bench.generic().await;
    let mut probe = bench.start_with(&template, Some(missing.clone())).await.unwrap();
    let (kind, error) = probe.ask(json!({})).await.unwrap();
    assert_eq!((kind, &error["errorType"]), (invocation::INIT_FAILED, &json!("Runtime.ImportModuleError")));
    assert!(bench.prepare(Some(missing)).await.is_err(), "there is no dedicated template for it");
}

async fn what_is_printed_is_there_with_the_answer(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    probe.said();
    probe.reply(json!({"do": "print", "text": "words for the log"})).await;
    assert!(probe.said().contains("words for the log"));
}

async fn children_differ_in_what_is_random(bench: &Bench) {
    let template = bench.dedicated().await;
    let mut seen: HashSet<String> = HashSet::new();
    for _ in 0..3 {
        let mut probe = bench.start_with(&template, None).await.unwrap();
        let Value::Array(values) = probe.reply(json!({"do": "random"})).await else { panic!("a list of values") };
        for value in values {
            assert!(seen.insert(value.to_string()), "{value} came up twice");
        }
    }
}

async fn an_exit_is_reported(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    assert_eq!(probe.ask(json!({"do": "exit", "status": 7})).await.unwrap_err(), End::Exit(7));
    let mut probe = bench.start(&template).await;
    assert_eq!(probe.ask(json!({"do": "kill-self"})).await.unwrap_err(), End::Signal(9));
}

async fn an_instance_can_be_ended(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    probe.reply(json!({"do": "echo", "value": 1})).await;
    probe.send(&json!({"do": "spin"}));
    probe.instance.kill();
    assert_eq!(probe.instance.ended().await, End::Signal(9));
}

/// Folders of cgroups below this process's place, descriptors of this process, and processes below it.
fn footprint() -> (usize, usize) {
    let own = std::process::id();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let memory = groups.lines().find_map(|line| line.split_once(":memory:")).map_or("", |(_, path)| path);
    let place = std::fs::read_dir(format!("/sys/fs/cgroup/memory{memory}"))
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&format!("lichen-{own}-")));
    let folders = place.map_or(0, |place| {
        std::fs::read_dir(place.path()).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).count()
    });
    (folders, std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
}

/// The footprint once it has stayed the same for a while, or is the expected one.
pub async fn settled_footprint(expected: Option<(usize, usize)>) -> (usize, usize) {
    let (mut last, mut same) = (footprint(), 0);
    while same < 20 && Some(last) != expected {
        // tidy: allow test-sleep: the kernel takes namespaces and cgroups apart in its own time and tells nobody
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let now = footprint();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

async fn retiring_leaves_nothing(bench: &Bench) {
    let template = bench.generic().await;
    let mut first = bench.start(&template).await;
    first.reply(json!({"do": "echo", "value": 1})).await;
    first.instance.retire().await;
    drop((first.channel, first.log));
    let before = settled_footprint(None).await;
    for _ in 0..5 {
        let mut probe = bench.start(&template).await;
        probe.reply(json!({"do": "leave-children"})).await;
        let usage = probe.instance.retire().await;
        assert!(usage.memory_peak > 0 || before.0 == 0, "memory is accounted for");
    }
    assert_eq!(settled_footprint(Some(before)).await, before);
}

async fn slots_that_are_too_many_go(bench: &Bench) {
    let template = bench.generic().await;
    template.reserve(1);
    let before = settled_footprint(None).await;
    template.reserve(9);
    let more = settled_footprint(None).await;
    assert!(more.0 >= before.0 && more.1 > before.1, "{before:?} {more:?}");
    template.reserve(1);
    assert_eq!(settled_footprint(Some(before)).await, before);
    let mut probe = bench.start(&template).await;
    probe.reply(json!({"do": "echo", "value": 1})).await;
}

pub async fn a_discarded_template_takes_its_instances_along(bench: &Bench) {
    let template = bench.generic().await;
    let mut probe = bench.start(&template).await;
    probe.reply(json!({"do": "echo", "value": 1})).await;
    template.discard();
    template.ended().await;
    probe.instance.ended().await;
    assert!(bench.start_with(&template, Some(bench.code())).await.is_err());
}

/// What the kernel keeps for each child, some hundred kilobytes, would add up to more than the template may use.
async fn children_are_not_charged_to_their_template(bench: &Bench) {
    let memory = if bench.kind == Kind::Python { 96 << 20 } else { 192 << 20 };
    let limits = Limits { memory, ..bench.limits() };
    let template = bench.prepare_within(Some(bench.code()), limits).await.expect("a dedicated template");
    template.reserve(8);
    let mut probes = Vec::new();
    for round in 0..900 {
        let mut probe =
            bench.start_with(&template, None).await.unwrap_or_else(|error| panic!("start {round}: {error}"));
        if probe.instance.memory_gauge().is_none() {
            println!("skip: no cgroups on this machine, or not for this user");
            return;
        }
        assert_eq!(probe.reply(json!({"do": "count"})).await, json!(1));
        probes.push(probe);
    }
    for mut probe in probes {
        assert_eq!(probe.reply(json!({"do": "count"})).await, json!(2));
    }
}
