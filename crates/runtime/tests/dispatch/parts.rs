//! Answers in parts: read, collected, left unread, cut off.

use crate::{Fixture, call, error_type, plain};
use runtime::dispatch::{DispatchConfig, Outcome, Parts, Streamed};
use std::sync::Arc;

const PART: usize = 5000;

async fn stream(fixture: &Fixture, event: &str) -> Streamed {
    fixture.node.stream(&Arc::new(plain("f")), call(event)).await.unwrap()
}

async fn parts(fixture: &Fixture, event: &str) -> Parts {
    match stream(fixture, event).await {
        Streamed::Parts(parts) => parts,
        Streamed::Whole(outcome) => panic!("{outcome:?} is no answer in parts"),
    }
}

/// All bytes, and the end.
async fn read(mut parts: Parts) -> (Vec<u8>, Outcome) {
    let mut body = Vec::new();
    while let Some(part) = parts.part().await {
        body.extend_from_slice(&part);
    }
    (body, std::future::poll_fn(|cx| parts.poll_end(cx)).await.unwrap())
}

fn expected(count: usize, end: &str) -> Vec<u8> {
    [&vec![b'p'; PART * count][..], end.as_bytes()].concat()
}

#[tokio::test]
async fn an_answer_is_read_as_it_comes_and_the_next_one_too() {
    let fixture = Fixture::new(DispatchConfig::default());
    for count in [1, 3, 500] {
        let answer = parts(&fixture, &format!("parts {count}")).await;
        assert_eq!(answer.content_type, "text/plain");
        let (body, outcome) = read(answer).await;
        assert!(body == expected(count, "end"), "{} bytes", body.len());
        assert!(!outcome.failed && outcome.body.is_empty());
    }
    let Streamed::Whole(outcome) = stream(&fixture, "echo whole").await else { panic!("it has no parts") };
    assert_eq!((outcome.body, outcome.failed), ("whole".into(), false));
    assert_eq!(fixture.worker.instances().len(), 1);
}

#[tokio::test]
async fn whoever_wants_it_whole_gets_it_whole() {
    let config = DispatchConfig { response_max: 10 * PART + 3, ..DispatchConfig::default() };
    let fixture = Fixture::new(config);
    let function = Arc::new(plain("f"));
    let outcome = fixture.invoke(&function, "parts 10").await.unwrap();
    assert!(!outcome.failed && outcome.body == expected(10, "end"));
    let outcome = fixture.invoke(&function, "parts 11").await.unwrap();
    assert_eq!(error_type(&outcome), "Function.ResponseSizeTooLarge");
    assert_eq!(fixture.invoke(&function, "echo next").await.unwrap().body, "next");
    assert_eq!(fixture.worker.instances().len(), 1);
}

#[tokio::test]
async fn a_function_waits_for_its_reader() {
    let fixture = Fixture::new(DispatchConfig::default());
    let mut answer = parts(&fixture, "parts 1000").await;
    answer.part().await.unwrap();
    let function = plain("f");
    // Were it not to wait, it would be done by the time that another has been served.
    for _ in 0..20 {
        let other = fixture.invoke(&Arc::new(plain("other")), "echo 1").await.unwrap();
        assert!(!other.failed);
    }
    assert_eq!(fixture.state(&function).busy, 1);
    let (body, _) = read(answer).await;
    assert_eq!(body.len(), 999 * PART + 3);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_nothing() {
    let fixture = Fixture::new(DispatchConfig::default());
    let function = plain("f");
    drop(parts(&fixture, "parts 1000").await);
    fixture.until(&function, |state| state.busy == 0 && state.idle == 1).await;
    assert_eq!(fixture.bills.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_ends_an_answer_early_is_told_at_its_end() {
    let fixture = Fixture::new(DispatchConfig { stream_max: 10 * PART, ..DispatchConfig::default() });
    let (body, outcome) = read(parts(&fixture, "parts-fail 7").await).await;
    assert!(outcome.failed && outcome.body == "{}" && body == expected(7, ""));
    let (body, outcome) = read(parts(&fixture, "parts-exit 7").await).await;
    assert_eq!((error_type(&outcome).as_str(), body), ("Runtime.ExitError", expected(7, "")));
    let (body, outcome) = read(parts(&fixture, "parts 11").await).await;
    assert_eq!((error_type(&outcome).as_str(), body), ("Function.ResponseSizeTooLarge", expected(10, "")));
    let (_, outcome) = read(parts(&fixture, "opens-twice").await).await;
    assert_eq!(error_type(&outcome), "Runtime.ExitError");
}

#[tokio::test]
async fn time_runs_out_for_a_function_whose_reader_does_not_read() {
    let fixture = Fixture::new(DispatchConfig::default());
    let mut function = plain("f");
    function.timeout_s = 1;
    let Streamed::Parts(answer) = fixture.node.stream(&Arc::new(function.clone()), call("parts 1000")).await.unwrap()
    else {
        panic!("it has parts")
    };
    fixture.until(&function, |state| state.busy == 0).await;
    let (body, outcome) = read(answer).await;
    assert_eq!(error_type(&outcome), "Sandbox.Timedout");
    assert!(!body.is_empty() && body.len() < 100 * PART, "{} bytes", body.len());
}
