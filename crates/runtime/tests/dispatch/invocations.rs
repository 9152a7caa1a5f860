//! What becomes of one invocation.

use crate::{Fixture, call, error_message, error_type, fake, function, plain};
use runtime::dispatch::{DispatchConfig, InvokeError, PlatformError, StartKind};
use runtime::function::{Function, Isolation};
use sandbox::spec::End;
use std::sync::Arc;
use worker::protocol::Command;

#[tokio::test]
async fn the_first_is_cold_and_the_next_is_warm() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let cold = node.invoke(&f, "echo one").await.unwrap();
    assert_eq!((&cold.body[..], cold.failed, cold.report.start), (&b"one"[..], false, StartKind::Cold));
    let spans = cold.report.spans;
    let order = [spans.accepted, spans.decided, spans.loaded, spans.begun, spans.ended, spans.received];
    assert!(order.is_sorted() && spans.accepted > 0, "{spans:?}");
    assert_eq!((spans.forked, spans.entered), (1, 2), "as the instance told");
    assert!(cold.report.init.is_some());
    let warm = node.invoke(&f, "echo two").await.unwrap();
    assert_eq!((&warm.body[..], warm.report.start, warm.report.init), (&b"two"[..], StartKind::Warm, None));
    assert_eq!(warm.report.instance, cold.report.instance);
    assert_eq!(warm.report.memory_peak, fake::MEMORY_PEAK);
    let tally = node.state(&f).tally;
    assert_eq!((tally.invocations, tally.cold, tally.warm), (2, 1, 1));
    let bills = node.bills.0.lock().unwrap();
    assert_eq!((bills.len(), bills[0].start, bills[1].start), (2, StartKind::Cold, StartKind::Warm));
    assert_eq!((bills[0].memory_mib, bills[0].memory_peak), (128, fake::MEMORY_PEAK));
    let paid = bills[0].duration + bills[0].init.unwrap();
    assert_eq!(u128::from(bills[0].billed_ms), paid.as_nanos().div_ceil(1_000_000));
}

#[tokio::test]
async fn large_events_and_answers_pass() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let text = "x".repeat((6 << 20) - 5);
    for _ in 0..3 {
        let outcome = node.invoke(&f, &format!("echo {text}")).await.unwrap();
        assert!(outcome.body == text.as_bytes());
    }
    let outcome = node.invoke(&f, "big 6291556").await.unwrap();
    assert_eq!((outcome.body.len(), outcome.failed), (6_291_556, false));
    let outcome = node.invoke(&f, "big 6291557").await.unwrap();
    assert_eq!(error_type(&outcome), "Function.ResponseSizeTooLarge");
    let error = node.invoke(&f, &"x".repeat((6 << 20) + 1)).await.unwrap_err();
    assert!(matches!(error, InvokeError::PayloadTooLarge { len: 6_291_457, limit: 6_291_456 }));
    let mut long = call("echo");
    long.client_context = "x".repeat(9000);
    let error = node.node.invoke(&f, long).await.unwrap_err();
    assert!(matches!(error, InvokeError::ContextTooLarge { len, .. } if len > 9000));
    assert_eq!(node.invoke(&f, "echo still").await.unwrap().report.start, StartKind::Warm);
}

/// An invocation that goes wrong, and the next, which needs a new instance or does not.
async fn goes_wrong(f: Function, config: DispatchConfig, event: &str, next: StartKind) -> (String, String) {
    let node = Fixture::new(config);
    let f = Arc::new(f);
    let outcome = node.invoke(&f, event).await.unwrap();
    assert!(outcome.failed);
    let after = node.invoke(&f, "echo again").await.unwrap();
    assert_eq!((&after.body[..], after.report.start), (&b"again"[..], next));
    assert_eq!(node.state(&f).tally.faults.iter().sum::<u64>(), 1);
    (error_type(&outcome), error_message(&outcome))
}

fn kind_of((kind, _): (String, String)) -> String {
    kind
}

#[tokio::test]
async fn a_handler_that_raises_keeps_its_instance() {
    let event = r#"fail {"errorType":"ValueError","errorMessage":"no"}"#;
    let wrong = goes_wrong(plain("f"), DispatchConfig::default(), event, StartKind::Warm).await;
    assert_eq!(wrong, ("ValueError".into(), "no".into()));
}

#[tokio::test]
async fn processes_that_end_are_errors_of_their_invocation() {
    let config = DispatchConfig::default;
    let (kind, message) = goes_wrong(plain("f"), config(), "exit 7", StartKind::Cold).await;
    assert_eq!(kind, "Runtime.ExitError");
    assert!(message.starts_with("RequestId: request-"), "{message}");
    assert!(message.ends_with(" Error: Runtime exited with error: exit status 7"), "{message}");
    let (_, message) = goes_wrong(plain("f"), config(), "exit 0", StartKind::Cold).await;
    assert!(message.ends_with(" Error: Runtime exited without providing a reason"), "{message}");
    let (_, message) = goes_wrong(plain("f"), config(), "signal 11", StartKind::Cold).await;
    assert!(message.ends_with("signal: segmentation fault"), "{message}");
    let (kind, message) = goes_wrong(plain("f"), config(), "oom", StartKind::Cold).await;
    assert_eq!(kind, "Runtime.OutOfMemory");
    assert!(message.ends_with("Runtime exited with error: signal: killed"), "{message}");
    assert_eq!(kind_of(goes_wrong(plain("f"), config(), "break", StartKind::Cold).await), "Runtime.ExitError");
}

#[tokio::test]
async fn a_timeout_ends_the_instance() {
    let mut f = plain("f");
    f.timeout_s = 1;
    let (kind, message) = goes_wrong(f, DispatchConfig::default(), "never", StartKind::Cold).await;
    assert_eq!(kind, "Sandbox.Timedout");
    assert!(message.ends_with(" Error: Task timed out after 1.00 seconds"), "{message}");
}

#[tokio::test]
async fn one_that_has_closed_all_its_descriptors_is_ended() {
    let mut f = plain("f");
    f.timeout_s = 1;
    // Its answer is seen by chance, or not at all.
    let kind = kind_of(goes_wrong(f, DispatchConfig::default(), "mute", StartKind::Cold).await);
    assert!(["Runtime.ExitError", "Sandbox.Timedout"].contains(&kind.as_str()), "{kind}");
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    assert_eq!(&node.invoke(&f, "redirect").await.unwrap().body[..], b"redirected");
    let next = node.invoke(&f, "echo fine").await.unwrap();
    assert_eq!(
        (&next.body[..], next.report.start),
        (&b"fine"[..], StartKind::Warm),
        "it prints elsewhere: its own affair"
    );
}

#[tokio::test]
async fn a_deadline_that_was_met_ends_nothing_later() {
    let mut node = Fixture::new(DispatchConfig::default());
    let mut f = plain("f");
    f.timeout_s = 1;
    let f = Arc::new(f);
    node.invoke(&f, "echo").await.unwrap();
    let mut other = plain("other");
    other.timeout_s = 1;
    let late = node.invoke(&Arc::new(other), "never").await.unwrap();
    assert_eq!(error_type(&late), "Sandbox.Timedout", "by now the first function's deadline is past too");
    let ended = node.worker.told(|command| matches!(command, Command::Retire { .. }).then(|| command.clone())).await;
    assert_eq!(ended, Command::Retire { instance: late.report.instance });
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Warm);
}

#[tokio::test]
async fn one_that_prints_too_much_is_ended() {
    let config = DispatchConfig { log_max_mib: 3, ..DispatchConfig::default() };
    let (kind, message) = goes_wrong(plain("f"), config, "flood", StartKind::Cold).await;
    assert_eq!(kind, "Runtime.LogLimitExceeded");
    assert!(message.contains("3 MiB") && message.contains("log_max_mib"), "{message}");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    node.invoke(&f, "echo").await.unwrap();
    let twice = node.invoke(&f, "twice").await.unwrap();
    assert_eq!(&twice.body[..], b"1");
    let next = node.invoke(&f, "echo mine").await.unwrap();
    assert_eq!((&next.body[..], next.report.start), (&b"mine"[..], StartKind::Cold));
}

#[tokio::test]
async fn a_function_that_cannot_be_loaded_says_why() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(function("f", "init-failed"));
    for _ in 0..2 {
        let outcome = node.invoke(&f, "echo").await.unwrap();
        assert_eq!((error_type(&outcome), outcome.report.start), ("Runtime.ImportModuleError".into(), StartKind::Cold));
    }
    let f = Arc::new(function("g", "init-exit"));
    let outcome = node.invoke(&f, "echo").await.unwrap();
    assert!(error_message(&outcome).ends_with("exit status 3"));
    let config = DispatchConfig { init_timeout_s: 2, ..DispatchConfig::default() };
    let mut f = function("h", "init-never");
    f.timeout_s = 1;
    let outcome = Fixture::new(config).invoke(&Arc::new(f), "echo").await.unwrap();
    assert_eq!(error_type(&outcome), "Sandbox.Timedout");
    assert!(error_message(&outcome).ends_with("Task timed out after 2.00 seconds"), "{}", error_message(&outcome));
}

#[tokio::test]
async fn what_the_platform_fails_at_is_tried_once_more() {
    let node = Fixture::new(DispatchConfig::default());
    for way in ["not-spawned", "not-entered", "init-exit"] {
        let f = Arc::new(function(&format!("once-{way}"), &format!("once-{way}")));
        assert_eq!(&node.invoke(&f, "echo fine").await.unwrap().body[..], b"fine", "{way}");
    }
    let f = Arc::new(function("a", "not-spawned"));
    let error = node.invoke(&f, "echo").await.unwrap_err();
    assert!(matches!(&error, InvokeError::Platform(PlatformError::NotStarted { reason }) if reason == "no slot"));
    let f = Arc::new(function("b", "not-entered"));
    let error = node.invoke(&f, "echo").await.unwrap_err().to_string();
    assert_eq!(error, "no instance could be started: it could not enter its cgroup: no such file");
    assert_eq!(node.state(&f).tally.platform_errors, 1);
}

#[tokio::test]
async fn an_instance_that_died_while_it_waited_fails_nobody() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let first = node.invoke(&f, "echo").await.unwrap();
    node.worker.kill(first.report.instance, End::Signal(9));
    let next = node.invoke(&f, "echo fine").await.unwrap();
    assert_eq!((&next.body[..], next.failed), (&b"fine"[..], false));
    node.worker.kill(next.report.instance, End::Signal(9));
    node.until(&f, |f| f.idle == 0).await;
}

#[tokio::test]
async fn isolation_by_request_uses_each_instance_once() {
    let mut node = Fixture::new(DispatchConfig::default());
    let mut f = plain("f");
    f.isolation = Isolation::Request;
    let f = Arc::new(f);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let outcome = node.invoke(&f, "echo").await.unwrap();
        assert_eq!(outcome.report.start, StartKind::Cold);
        seen.push(outcome.report.instance);
    }
    for instance in seen {
        node.worker.told(|command| (*command == Command::Retire { instance }).then_some(())).await;
    }
    node.until(&f, |f| (f.idle, f.busy, f.starting) == (0, 0, 0)).await;
}

#[tokio::test]
async fn an_invocation_goes_on_when_its_caller_has_gone() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let caller = node.spawn(&f, "hold");
    node.until(&f, |f| f.busy == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(node.state(&f).busy, 1);
    node.worker.release();
    node.until(&f, |f| (f.idle, f.busy) == (1, 0)).await;
    assert_eq!(node.state(&f).tally.invocations, 1);
    assert_eq!(node.bills.0.lock().unwrap().len(), 1);
    assert_eq!(node.node.snapshot().in_flight, 0);
    assert_eq!(node.invoke(&f, "echo").await.unwrap().report.start, StartKind::Warm);
}

#[tokio::test]
async fn the_log_is_whole_and_reads_like_lambdas() {
    let node = Fixture::new(DispatchConfig::default());
    let f = Arc::new(plain("f"));
    let mut call = call("print 3");
    call.log_tail = true;
    let id = call.request_id.clone();
    let outcome = node.node.invoke(&f, call).await.unwrap();
    let log = node.log(&f).await;
    let start = format!("START RequestId: {id} Version: $LATEST");
    let expected = ["INIT_START Runtime Version: python:3.11", &start, "line 0", "line 1", "line 2"];
    assert_eq!(log[..5], expected);
    assert_eq!(log[5], format!("END RequestId: {id}"));
    let report = format!("REPORT RequestId: {id}\tDuration: ");
    assert!(log[6].starts_with(&report), "{}", log[6]);
    for part in ["Memory Size: 128 MB\tMax Memory Used: 12 MB\t", "Init Duration: ", "Billed Duration: "] {
        assert!(log[6].contains(part), "{}", log[6]);
    }
    let tail = String::from_utf8(outcome.log_tail.unwrap()).unwrap();
    assert_eq!(tail.lines().collect::<Vec<_>>(), log[1..], "the tail begins with START, as on AWS");
    let outcome = node.invoke(&f, "print 100000").await.unwrap();
    assert_eq!(outcome.log_tail, None);
    let log = node.log(&f).await;
    assert_eq!(log.len(), 7 + 100_000 + 3);
    assert_eq!(log[7 + 1 + 99_999], "line 99999");
}
