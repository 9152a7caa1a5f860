//! Many invocations at once: limits, the queue, and starts that travel together.

use crate::{Fixture, function, plain};
use runtime::dispatch::{DispatchConfig, InvokeError, StartKind, ThrottleReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use worker::protocol::Command;

fn reason(error: InvokeError) -> ThrottleReason {
    match error {
        InvokeError::Throttled { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn limits_throttle() {
    let node = Fixture::new(DispatchConfig { concurrency: 3, ..DispatchConfig::default() });
    let (mut f, g) = (plain("f"), Arc::new(plain("g")));
    f.max_concurrency = Some(2);
    let f = Arc::new(f);
    let held = [node.spawn(&f, "hold"), node.spawn(&f, "hold")];
    node.until_node(|node| node.in_flight == 2).await;
    let reserved = reason(node.invoke(&f, "echo").await.unwrap_err());
    assert_eq!(reserved, ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
    let other = node.spawn(&g, "hold");
    node.until_node(|node| node.in_flight == 3).await;
    let limit = reason(node.invoke(&g, "echo").await.unwrap_err());
    assert_eq!(limit, ThrottleReason::ConcurrentInvocationLimitExceeded);
    node.worker.release();
    for held in held.into_iter().chain([other]) {
        assert_eq!(&held.await.unwrap().unwrap().body[..], b"released");
    }
    assert_eq!(&node.invoke(&f, "echo fine").await.unwrap().body[..], b"fine");
    assert_eq!((node.state(&f).tally.throttles, node.state(&g).tally.throttles), (1, 1));
    let mut off = plain("off");
    off.max_concurrency = Some(0);
    let off = reason(node.invoke(&Arc::new(off), "echo").await.unwrap_err());
    assert_eq!(off, ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_served_with_few_starts_in_flight() {
    let mut node = Fixture::new(DispatchConfig { starts_per_core: 1, ..DispatchConfig::default() });
    let cores = std::thread::available_parallelism().unwrap().get() as u32;
    let f = Arc::new(plain("f"));
    let burst: Vec<_> = (0..200).map(|_| node.spawn(&f, "hold")).collect();
    let most = AtomicU32::new(0);
    node.until(&f, |f| {
        most.fetch_max(f.starting, Relaxed);
        f.busy == 200
    })
    .await;
    let most = most.into_inner();
    assert!(most <= cores, "{most} starts in flight");
    node.worker.release();
    for held in burst {
        assert_eq!(held.await.unwrap().unwrap().report.start, StartKind::Cold);
    }
    let spawns = node.worker.told_so_far().into_iter().filter_map(|command| match command {
        Command::Spawn(order) => Some(order.starts.len()),
        _ => None,
    });
    assert_eq!(spawns.sum::<usize>(), 200);
    assert_eq!((node.state(&f).idle, node.state(&f).busy), (200, 0));
}

#[tokio::test]
async fn whoever_waits_gets_the_instance_that_is_free_first() {
    // One start in flight at a time, and that one does not come to an end.
    let config = DispatchConfig { starts_per_core: 0, init_timeout_s: 1, ..DispatchConfig::default() };
    let node = Fixture::new(config);
    let (f, mut stuck) = (Arc::new(plain("f")), function("stuck", "init-never"));
    stuck.timeout_s = 2;
    node.invoke(&f, "echo").await.unwrap();
    let first = node.spawn(&f, "hold");
    node.until(&f, |f| f.busy == 1).await;
    let stuck = node.spawn(&Arc::new(stuck), "echo");
    node.until_node(|node| node.starting == 1).await;
    let waiting = [node.spawn(&f, "echo a"), node.spawn(&f, "echo b")];
    node.until(&f, |f| f.queued == 2).await;
    node.worker.release();
    let first = first.await.unwrap().unwrap();
    for waiting in waiting {
        let served = waiting.await.unwrap().unwrap();
        assert_eq!((served.report.instance, served.report.start), (first.report.instance, StartKind::Warm));
    }
    assert!(!stuck.is_finished(), "nobody waited for the start that does not come to an end");
    assert!(stuck.await.unwrap().unwrap().failed);
}

#[tokio::test]
async fn no_function_keeps_the_others_from_starting() {
    let node = Fixture::new(DispatchConfig { starts_per_core: 0, ..DispatchConfig::default() });
    let (f, g) = (Arc::new(plain("f")), Arc::new(plain("g")));
    let many: Vec<_> = (0..50).map(|_| node.spawn(&f, "hold")).collect();
    node.until_node(|node| node.in_flight == 50).await;
    let one = node.spawn(&g, "echo");
    let one = one.await.unwrap().unwrap();
    assert_eq!(one.report.start, StartKind::Cold);
    node.worker.release();
    for held in many {
        held.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn where_there_are_too_many_the_longest_idle_goes() {
    let mut node = Fixture::new(DispatchConfig { instances: 2, ..DispatchConfig::default() });
    let functions = ["a", "b", "c"].map(|name| Arc::new(plain(name)));
    let mut first = 0;
    for (i, f) in functions.iter().enumerate() {
        let outcome = node.invoke(f, "echo").await.unwrap();
        first = if i == 0 { outcome.report.instance } else { first };
    }
    node.worker.told(|command| (*command == Command::Retire { instance: first }).then_some(())).await;
    assert_eq!(functions.map(|f| node.state(&f).idle), [0, 1, 1]);
}
