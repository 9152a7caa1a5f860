//! Instances that ask to be told of their end.

use crate::{Fixture, function};
use runtime::dispatch::DispatchConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};
use worker::protocol::Command;

fn retired(command: &Command) -> Option<()> {
    matches!(command, Command::Retire { .. }).then_some(())
}

#[tokio::test]
async fn one_that_asks_hears_of_its_end_and_its_words_count() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "farewell"));
    node.invoke(&f, "echo").await.unwrap();
    node.node.drain(Duration::from_secs(5)).await;
    assert!(node.worker.instances().is_empty(), "the node's end has waited for it");
    assert!(!node.worker.told_so_far().iter().any(|command| retired(command).is_some()), "it has ended by itself");
    let log = node.log(&f).await;
    assert!(log.iter().any(|line| line.contains("farewell spindown")), "{log:?}");
}

#[tokio::test]
async fn one_that_does_not_end_is_ended_after_a_while() {
    let mut node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "farewell-deaf"));
    node.invoke(&f, "echo").await.unwrap();
    let begun = Instant::now();
    node.node.withdraw(&f.key);
    node.worker.told(retired).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_waits_for_a_farewell() {
    let node = Fixture::new(DispatchConfig::default());
    let mut f = function("f", "farewell-deaf");
    f.timeout_s = 1;
    let begun = Instant::now();
    let outcome = node.invoke(&Arc::new(f), "never").await.unwrap();
    assert!(outcome.failed && begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
