//! What is kept and what goes; who runs and who waits.

use super::*;
use std::task::{Context, Poll, Waker};

fn key(number: u8) -> Key {
    [number; 32]
}

fn body(length: usize) -> Bytes {
    vec![7; length].into()
}

/// The answer that is there at once.
fn now(results: &Arc<Results>, number: u8) -> Option<Found> {
    let mut taking = Box::pin(results.take(key(number)));
    match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => None,
    }
}

fn is_hit(results: &Arc<Results>, number: u8) -> bool {
    matches!(now(results, number), Some(Found::Hit(_)))
}

fn turn(results: &Arc<Results>, number: u8) -> Turn {
    match now(results, number) {
        Some(Found::Run(turn)) => turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_not_asked_for_longest_goes_first() {
    let results = Results::new(8 * (1000 + OVERHEAD));
    for number in 0..8 {
        turn(&results, number).keep(&body(1000));
    }
    assert!(is_hit(&results, 0));
    turn(&results, 8).keep(&body(1000));
    assert_eq!((is_hit(&results, 0), is_hit(&results, 1), is_hit(&results, 8)), (true, false, true));
    let fill = results.fill();
    assert_eq!((fill.entries, fill.bytes, fill.evictions), (8, 8 * (1000 + OVERHEAD), 1));
    // One that takes the room of two.
    let results = Results::new(8 * (1000 + OVERHEAD));
    for number in 0..16 {
        turn(&results, number).keep(&body(500 - OVERHEAD / 2));
    }
    turn(&results, 16).keep(&body(1000));
    assert_eq!((is_hit(&results, 0), is_hit(&results, 1), is_hit(&results, 2)), (false, false, true));
}

#[test]
fn what_takes_too_much_room_is_not_kept() {
    let results = Results::new(8 * 1000);
    turn(&results, 0).keep(&body(1001 - OVERHEAD));
    assert!(!is_hit(&results, 0));
    turn(&results, 1).keep(&body(1000 - OVERHEAD));
    assert!(is_hit(&results, 1));
    assert!(Results::new(0).is_off());
}

#[test]
fn a_key_that_is_kept_twice_is_counted_once() {
    let results = Results::new(80_000);
    let failed = turn(&results, 0);
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(results.take(key(0)))).collect();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.iter_mut().all(|waiting| waiting.as_mut().poll(&mut cx).is_pending()));
    failed.fail();
    for mut waiting in waiting {
        let Poll::Ready(Found::Run(turn)) = waiting.as_mut().poll(&mut cx) else { panic!("they run it too") };
        turn.keep(&body(1000));
    }
    assert_eq!((results.fill().entries, results.fill().bytes), (1, 1000 + OVERHEAD));
}

#[tokio::test]
async fn one_runs_and_the_others_wait() {
    let results = Results::new(80_000);
    let first = turn(&results, 0);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let results = results.clone();
            tokio::spawn(async move { matches!(results.take(key(0)).await, Found::Hit(body) if body == "out") })
        })
        .collect();
    assert!(now(&results, 0).is_none(), "somebody runs it");
    turn(&results, 1).fail();
    first.keep(&Bytes::from_static(b"out"));
    for waiting in waiting {
        assert!(waiting.await.unwrap());
    }
    assert!(results.state().running.is_empty());
}

#[tokio::test]
async fn a_turn_that_is_let_go_of_is_somebody_elses() {
    let results = Results::new(80_000);
    let first = turn(&results, 0);
    let (mut second, mut third) = (Box::pin(results.take(key(0))), Box::pin(results.take(key(0))));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(second.as_mut().poll(&mut cx).is_pending() && third.as_mut().poll(&mut cx).is_pending());
    drop(first);
    let Found::Run(turn) = second.await else { panic!("nothing is kept") };
    assert!(third.as_mut().poll(&mut cx).is_pending(), "it waits for the second now");
    turn.keep(&Bytes::from_static(b"out"));
    assert!(matches!(third.await, Found::Hit(_)));
}

#[test]
fn failures_are_not_kept() {
    let results = Results::new(80_000);
    turn(&results, 0).fail();
    assert!(!is_hit(&results, 0) && results.fill().entries == 0);
    assert!(results.state().running.is_empty());
}
