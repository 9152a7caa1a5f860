//! Measures starts and warm calls of a language runtime, without the rest of Lichen: `starts python|node [--dedicated]
//! [--preload A,B] [--handler app.handler] [--code FOLDER] [--idle MS] [-n N]`.
//!
//! A start is counted from its decision (before the channel is made) to the handler's first line. Slots are made
//! beforehand, as the worker does.

use cfork::invocation::{Served, Started};
use lang_harness::{Instance, Template, function, languages};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Wish {
    language: String,
    dedicated: bool,
    preload: Vec<String>,
    handler: String,
    code: PathBuf,
    event: String,
    idle: Duration,
    count: usize,
}

fn wish() -> Wish {
    let mut arguments = std::env::args().skip(1);
    let language = arguments.next().expect("python or node");
    let code = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(&language).join("tests/functions");
    let mut wish = Wish {
        language,
        dedicated: false,
        preload: Vec::new(),
        handler: "hello.handler".into(),
        code,
        event: "{}".into(),
        idle: Duration::ZERO,
        count: 200,
    };
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match name.as_str() {
            "--dedicated" => wish.dedicated = true,
            "--preload" => wish.preload = value().split(',').map(str::to_owned).collect(),
            "--handler" => wish.handler = value(),
            "--code" => wish.code = value().into(),
            "--event" => wish.event = value(),
            "--idle" => wish.idle = Duration::from_millis(value().parse().expect("milliseconds")),
            "-n" => wish.count = value().parse().expect("a number"),
            other => panic!("{other} is unknown"),
        }
    }
    wish
}

fn main() {
    let wish = wish();
    let config = function(&wish.handler);
    let own = wish.dedicated.then_some(&config);
    let template_config = json!({"preload": wish.preload, "function": own});
    let code = Some(wish.code.as_path());
    let template = match wish.language.as_str() {
        "python" => languages::python(&template_config, code.filter(|_| wish.dedicated)),
        _ => languages::node(&template_config, code.filter(|_| wish.dedicated)),
    }
    .expect("the template starts");
    println!("{}", template.report);
    let mut spans = Spans::default();
    for _ in 0..wish.count {
        let slot = template.slot().expect("a slot");
        if !wish.idle.is_zero() {
            wait(wish.idle);
        }
        let (config, code) = if wish.dedicated { (None, None) } else { (Some(&config), code) };
        let mut instance = template.fork_into(slot, config, code, Some(&wish.event)).expect("a fork");
        let answer = instance.answer();
        answer.value();
        spans.add(&instance, answer.served);
    }
    spans.print();
    stems(&template, &wish);
    warm(&template, &wish);
}

/// Nothing happens for a while, as between requests of a quiet node.
fn wait(time: Duration) {
    let timer = rustix::time::Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    let _ = rustix::thread::nanosleep(&timer);
}

#[derive(Default)]
struct Spans {
    of: [Vec<u64>; 6],
}

impl Spans {
    const NAMES: [&str; 6] = [
        "decided → forked",
        "forked → entered",
        "entered → loaded",
        "loaded → begun",
        "begun → ended",
        "decided → begun",
    ];

    fn add(&mut self, instance: &Instance, Served { begun, ended }: Served) {
        let Started { forked, entered, loaded } = instance.started.expect("it was ready before it answered");
        let stations = [instance.decided, forked, entered, loaded, begun, ended];
        for (span, pair) in self.of.iter_mut().zip(stations.windows(2)) {
            span.push(pair[1] - pair[0]);
        }
        self.of[5].push(begun - instance.decided);
    }

    fn print(&mut self) {
        for (name, values) in Self::NAMES.iter().zip(&mut self.of) {
            println!("{name:18} {}", quantiles(values));
        }
    }
}

fn quantiles(values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |share: usize| values[(values.len() - 1) * share / 100] as f64 / 1000.0;
    format!("p50 {:8.1} µs   p99 {:8.1} µs   min {:8.1} µs", at(50), at(99), at(0))
}

/// First calls of instances that were forked ahead of time and have been waiting.
fn stems(template: &Template, wish: &Wish) {
    let config = function(&wish.handler);
    let (config, code) = if wish.dedicated { (None, None) } else { (Some(&config), Some(wish.code.as_path())) };
    let mut times = Vec::new();
    for _ in 0..wish.count.min(100) {
        let mut instance = template.fork(config, code, None).expect("a fork");
        instance.wait_until_ready();
        wait(Duration::from_millis(10));
        let decided = os::monotonic_ns();
        let served = instance.invoke(&wish.event).served;
        times.push(served.begun - decided);
    }
    println!("{:18} {}", "stem → begun", quantiles(&mut times));
}

/// Calls of one instance, one after the other, and the processor time it takes for them.
fn warm(template: &Template, wish: &Wish) {
    let config = function(&wish.handler);
    let (config, code) = if wish.dedicated { (None, None) } else { (Some(&config), Some(wish.code.as_path())) };
    let mut instance = template.fork(config, code, Some(&wish.event)).expect("a fork");
    instance.answer().value();
    let (count, mut trips) = (20_000, Vec::new());
    for _ in 0..1000 {
        instance.invoke(&wish.event);
    }
    let before = processor_ns(instance.pid);
    let began = Instant::now();
    for _ in 0..count {
        let sent = os::monotonic_ns();
        instance.invoke(&wish.event).value();
        trips.push(os::monotonic_ns() - sent);
    }
    let (time, processor) = (began.elapsed(), processor_ns(instance.pid) - before);
    println!("{:18} {}", "warm round trip", quantiles(&mut trips));
    println!(
        "{:18} {:.0}/s, {:.1} µs of processor each",
        "warm",
        f64::from(count) / time.as_secs_f64(),
        processor as f64 / 1000.0 / f64::from(count)
    );
    println!(
        "{:18} {} KiB private, {} KiB proportional",
        "memory",
        rollup(instance.pid, "Private_Dirty:"),
        rollup(instance.pid, "Pss:")
    );
}

/// Nanoseconds on a processor, by the scheduler's count.
fn processor_ns(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn rollup(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
