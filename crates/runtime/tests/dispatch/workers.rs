//! Workers that come and go.

use crate::fake::FakeWorker;
use crate::{Bills, Fixture, call, function, plain};
use runtime::dispatch::{DispatchConfig, Dispatcher, InvokeError, PlatformError, StartKind};
use runtime::logs::LogStore;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn without_worker(config: DispatchConfig) -> (Arc<Dispatcher>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let logs = LogStore::open(folder.path(), Default::default()).unwrap();
    (Dispatcher::new(config, logs, Bills::default()), folder)
}

#[tokio::test]
async fn without_one_requests_wait_for_a_while() {
    let (node, _folder) = without_worker(DispatchConfig { worker_wait_s: 1, ..DispatchConfig::default() });
    assert!(!node.worker_ready());
    let f = Arc::new(plain("f"));
    assert!(matches!(node.invoke(&f, call("echo")).await, Err(InvokeError::NoWorker)));
    let waiting = node.invoke(&f, call("echo fine"));
    let (outcome, _worker) = tokio::join!(waiting, async { FakeWorker::attach(&node) });
    assert_eq!(&outcome.unwrap().body[..], b"fine");
    assert!(node.worker_ready());
}

#[tokio::test]
async fn when_one_dies_running_invocations_end_at_once() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let idle = node.invoke(&f, "echo").await.unwrap().report.instance;
    let held: Vec<_> = (0..20).map(|_| node.spawn(&f, "hold")).collect();
    node.until(&f, |f| f.busy == 20).await;
    let fresh = FakeWorker::attach(&node.node);
    let died = Instant::now();
    std::mem::replace(&mut node.worker, fresh).die();
    for held in held {
        let error = held.await.unwrap().unwrap_err();
        assert!(matches!(error, InvokeError::Platform(PlatformError::WorkerLost)), "{error:?}");
    }
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    let after = node.invoke(&f, "echo fine").await.unwrap();
    assert_eq!((&after.body[..], after.report.start), (&b"fine"[..], StartKind::Cold));
    assert_ne!(after.report.instance, idle, "what the old worker ran is gone");
    assert_eq!(node.node.snapshot().pus[0].losses, 1);
}

#[tokio::test]
async fn requests_that_had_not_begun_are_served_by_the_next() {
    let mut node = Fixture::new(DispatchConfig::default());
    // Which instances fail once is known to the node's first worker only: the second finds a function that works.
    let f = Arc::new(function("f", "init-never-at-first"));
    let starting = node.spawn(&f, "echo fine");
    node.until_node(|node| node.starting == 1).await;
    let fresh = FakeWorker::attach(&node.node);
    std::mem::replace(&mut node.worker, fresh).die();
    assert_eq!(&starting.await.unwrap().unwrap().body[..], b"fine");
}

#[tokio::test]
async fn after_a_restart_everything_is_prepared_anew() {
    let mut node = Fixture::new(DispatchConfig::default());
    let mut f = function("f", "ok");
    f.min_warm = 2;
    let f = Arc::new(f);
    node.node.deploy(f.clone());
    node.until(&f, |f| f.stems == 2).await;
    let fresh = FakeWorker::attach(&node.node);
    std::mem::replace(&mut node.worker, fresh).die();
    node.until_node(|node| node.pus[0].losses == 1 && node.pus[0].ready).await;
    node.until(&f, |f| f.stems == 2).await;
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Stem);
}
