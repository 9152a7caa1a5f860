//! The node as a whole: draining, and what it leaves behind.

use crate::{Fixture, function, plain};
use runtime::dispatch::{DispatchConfig, InvokeError};
use sandbox::spec::End;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn draining_refuses_the_new_and_waits_for_the_running() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    node.invoke(&f, "echo").await.unwrap();
    let held = [node.spawn(&f, "hold"), node.spawn(&f, "hold")];
    node.until_node(|node| node.in_flight == 2).await;
    let drained = tokio::spawn({
        let node = node.node.clone();
        async move { node.drain(Duration::from_secs(20)).await }
    });
    node.until_node(|node| node.draining).await;
    assert!(matches!(node.invoke(&f, "echo").await, Err(InvokeError::Draining)));
    assert!(!drained.is_finished());
    node.worker.release();
    for held in held {
        assert_eq!(&held.await.unwrap().unwrap().body[..], b"released");
    }
    drained.await.unwrap();
    node.until(&f, |f| (f.idle, f.busy) == (0, 0)).await;
}

#[tokio::test]
async fn draining_has_an_end() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let held = node.spawn(&f, "hold");
    node.until(&f, |f| f.busy == 1).await;
    node.node.drain(Duration::from_millis(10)).await;
    assert!(!held.is_finished());
    node.worker.release();
    held.await.unwrap().unwrap();
    node.until(&f, |f| (f.idle, f.busy) == (0, 0)).await;
}

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const ALONE: &str = "LICHEN_TEST_ALONE";
/// More descriptors than the kits that are made ahead have: there may be few at one look, and all at another.
const STOCK: usize = 100;

/// Descriptors are counted for a process: the test runs in one of its own.
#[test]
fn nothing_is_left_of_thousands_of_instances() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(thousands_of_instances());
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "node::nothing_is_left_of_thousands_of_instances"]).env(ALONE, "1");
    let output = alone.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn thousands_of_instances() {
    let node = Fixture::new(DispatchConfig::default());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut f = plain("f");
    f.isolation = runtime::function::Isolation::Request;
    let (f, g) = (Arc::new(f), Arc::new(function("g", "ok")));
    let mut first = None;
    for round in 0..3 {
        for _ in 0..40 {
            let burst: Vec<_> = (0..25).map(|i| node.spawn(if i < 20 { &f } else { &g }, "echo")).collect();
            for one in burst {
                one.await.unwrap().unwrap();
            }
        }
        for (i, instance) in node.worker.instances().into_iter().enumerate() {
            if i % 2 == 0 {
                node.worker.kill(instance, End::Signal(9));
            }
        }
        [&f, &g].into_iter().for_each(|f| node.node.withdraw(&f.key));
        node.until_node(|node| node.functions.is_empty() && node.starting == 0).await;
        while !node.worker.instances().is_empty() {
            tokio::task::yield_now().await;
        }
        let before = *first.get_or_insert_with(|| (descriptors(), tasks()));
        // Threads of instances that have ended may still be about to close their last descriptor.
        let (began, mut now) = (Instant::now(), (descriptors(), tasks()));
        while now.0 > before.0 + STOCK || now.1 > before.1 {
            assert!(began.elapsed() < Duration::from_secs(5), "round {round}: {before:?}, then {now:?}");
            tokio::task::yield_now().await;
            now = (descriptors(), tasks());
        }
    }
}
