//! What holds for every backend, and for every kind of function that it runs.
//!
//! Each case is a function of a [`Bench`]: a backend, a kind, and sample code that does the same in every language. The
//! suite runs in one thread and without libtest, because containers are prepared before a process has a second thread.
//! `cargo test -p sandbox --test conformance -- NAME` runs the cases whose names contain NAME.

mod cases;
mod egress;
mod hostile;
mod leftovers;
mod node;
mod probe;
mod pure;
mod samples;

use probe::Bench;
use sandbox::Backend;
use sandbox::config::EnginesConfig;
use sandbox::container::{Containers, Ground, Settings};
use sandbox::pure::Pure;
use sandbox::spec::Kind;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Case = (&'static str, for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = ()> + 'a>>);

/// No case takes longer, whatever goes wrong.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// Cases that are about what a fork of a language runtime shares: a runtime of a function's own is a program that is
/// started, whose code a template does not load, and which has not got the channel.
const FORKED_ONLY: [&str; 3] = [
    "a_function_that_cannot_be_loaded_says_so",
    "children_are_not_charged_to_their_template",
    "garbage_in_the_channel_breaks_only_that_channel",
];

#[macro_export]
macro_rules! case {
    ($name:ident) => {
        (stringify!($name), |bench| Box::pin($name(bench)))
    };
}

/// Where cargo has put the runtimes' shared libraries.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("it lies in target/PROFILE/deps").to_owned()
}

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let stage = tempfile::tempdir().expect("a temporary folder");
    let sdk = sandbox::config::RuntimeConfig::default().sdk(stage.path());
    let settings = Settings {
        stage: stage.path().to_owned(),
        libraries: libraries(),
        sdk,
        interpreters: Vec::new(),
        unit: Default::default(),
    };
    egress::become_host();
    let ground = Ground::prepare(&settings).expect("containers can be prepared here");
    let single_user = !rustix::process::geteuid().is_root();
    let engines = sandbox::pure::Ground::prepare(stage.path().to_owned(), 0, single_user, EnginesConfig::default());
    let engines = engines.expect("engines can be prepared here");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let failed = runtime.block_on(async {
        let containers = Containers::open(ground).expect("the nursery answers");
        let pure = Pure::open(engines, containers.tree()).expect("the nursery of engines answers");
        let (mut passed, mut failed) = run(containers.clone(), &filter).await;
        for kind in [Kind::Wasm, Kind::Native] {
            if kind == Kind::Native && !cfg!(target_arch = "x86_64") {
                println!("skip: native functions are x86-64 programs");
                continue;
            }
            let bench = Bench::new(pure.clone(), kind);
            let (well, ill) = run_cases(&bench, &filter, pure::CASES.iter()).await;
            (passed, failed) = (passed + well, failed + ill);
        }
        pure.end_all();
        containers.end_all();
        containers.close().await;
        println!("\ntest result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
        failed
    });
    // The stage is mounted in this process's own namespace: removing the folder waits for nothing.
    ExitCode::from(u8::from(failed > 0))
}

async fn run(containers: std::sync::Arc<Containers>, filter: &str) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    let kinds: Vec<Kind> = containers.languages().iter().map(|(kind, _)| *kind).collect();
    for kind in [Kind::Python, Kind::Node, Kind::Provided] {
        // The sample that brings its own runtime is written in Python.
        if !kinds.contains(&kind) || !kinds.contains(&Kind::Python) && kind == Kind::Provided {
            println!("skip: no interpreter for {kind:?} functions on this machine");
            continue;
        }
        let bench = Bench::new(containers.clone(), kind);
        let only_node: &'static [Case] = if kind == Kind::Node { node::CASES } else { &[] };
        let all = cases::CASES.iter().chain(hostile::CASES).chain(egress::CASES).chain(only_node);
        let suits = |(name, _): &&Case| kind != Kind::Provided || !FORKED_ONLY.contains(name);
        let (well, ill) = run_cases(&bench, filter, all.filter(suits)).await;
        (passed, failed) = (passed + well, failed + ill);
    }
    (passed, failed)
}

async fn run_cases(bench: &Bench, filter: &str, cases: impl Iterator<Item = &'static Case>) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for &(name, case) in cases {
        let name = format!("{:?}::{name}", bench.kind).to_lowercase();
        if !name.contains(filter) {
            continue;
        }
        let begun = Instant::now();
        let bench = bench.clone();
        let result = tokio::task::LocalSet::new()
            .run_until(async {
                let task = tokio::task::spawn_local(async move { case(&bench).await });
                tokio::time::timeout(CASE_LIMIT, task).await
            })
            .await;
        let ok = matches!(result, Ok(Ok(())));
        let word = if ok {
            "ok"
        } else if result.is_err() {
            "FAILED (too slow)"
        } else {
            "FAILED"
        };
        println!("test {name} ... {word} ({} ms)", begun.elapsed().as_millis());
        if ok { passed += 1 } else { failed += 1 }
    }
    (passed, failed)
}
