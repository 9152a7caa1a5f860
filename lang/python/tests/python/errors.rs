//! What becomes of what goes wrong: Lambda's error objects, word for word where people search for them.

use super::*;
use cfork::invocation;
use lang_harness::runnable;

fn error(instance: &mut Instance, event: &Value) -> Value {
    instance.invoke(&event.to_string()).error()
}

#[test]
fn an_exception_is_described_and_the_next_invocation_works() {
    if !runnable("an exception") {
        return;
    }
    let template = generic();
    let mut instance = child(&template, "probe.handler");
    let described = error(&mut instance, &json!({"ask": "raises"}));
    assert_eq!(described["errorType"], "ValueError");
    assert_eq!(described["errorMessage"], "on purpose");
    assert_eq!(described["requestId"], "request-2");
    let trace = described["stackTrace"].as_array().expect("a list");
    assert_eq!(trace.len(), 2, "the function's own frames alone: {trace:?}");
    let last = "  File \"/var/task/probe.py\", line";
    assert!(trace[1].as_str().is_some_and(|frame| frame.starts_with(last) && frame.contains("raise ValueError")));
    let log = instance.log();
    assert!(log.starts_with("[ERROR] ValueError: on purpose\rTraceback (most recent call last):\r"), "{log:?}");
    assert!(log.ends_with('\n') && log.lines().count() == 1, "one record: {log:?}");
    assert_eq!(ask(&mut instance, "count"), 2);
}

#[test]
fn answers_that_cannot_be_sent_are_errors() {
    if !runnable("bad answers") {
        return;
    }
    let template = generic();
    let mut instance = child(&template, "probe.handler");
    for (question, message) in [
        ("unserialisable", "Unable to marshal response: Object of type set is not JSON serializable"),
        ("coroutine", "Unable to marshal response: Object of type coroutine is not JSON serializable"),
        ("circular", "Unable to marshal response: Circular reference detected"),
    ] {
        let described = error(&mut instance, &json!({ "ask": question }));
        assert_eq!(described["errorType"], "Runtime.MarshalError");
        assert_eq!(described["errorMessage"], message);
    }
    let limit = "Response payload size exceeded maximum allowed payload size (6291556 bytes).";
    for length in [6_291_555, 8_000_000] {
        let described = error(&mut instance, &json!({"ask": "large", "length": length}));
        assert_eq!(described, json!({"errorMessage": limit, "errorType": "Function.ResponseSizeTooLarge"}));
    }
    let largest = instance.invoke(&json!({"ask": "large", "length": 6_291_554}).to_string());
    assert_eq!(largest.body.len(), 6_291_556);
    let described = instance.invoke("{nonsense").error();
    assert_eq!(described["errorType"], "Runtime.UnmarshalError");
    let expected =
        "Unable to unmarshal input: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)";
    assert_eq!(described["errorMessage"], expected);
    let described = instance.invoke("{} {}").error();
    assert_eq!(described["errorMessage"], "Unable to unmarshal input: Extra data: line 1 column 4 (char 3)");
}

#[test]
fn what_cannot_be_loaded_says_why() {
    if !runnable("what cannot be loaded") {
        return;
    }
    let template = generic();
    for (handler, kind, message) in [
        (
            "missing.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'missing': No module named 'missing'",
        ),
        (
            "broken_import.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'broken_import': No module named 'no_such_module'",
        ),
        ("probe.absent", "Runtime.HandlerNotFound", "Handler 'absent' missing on module 'probe'"),
        (
            "probe",
            "Runtime.MalformedHandlerName",
            "Bad handler 'probe': not enough values to unpack (expected 2, got 1)",
        ),
        (
            "builtins.handler",
            "Runtime.BuiltInModuleConflict",
            "Cannot use built-in module builtins as a handler module",
        ),
        ("broken_raise.handler", "LookupError", "nothing to prepare with"),
        (
            "broken_syntax.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'broken_syntax': expected ':' (broken_syntax.py, line 1)",
        ),
    ] {
        let mut instance = child(&template, handler);
        let answer = instance.answer();
        assert_eq!(answer.kind, invocation::INIT_FAILED);
        let described = answer.json();
        assert_eq!((&described["errorType"], &described["errorMessage"]), (&json!(kind), &json!(message)));
        assert!(instance.log().starts_with(&format!("[ERROR] {kind}: ")));
        assert!(instance.next_answer().is_none(), "it ends");
    }
    let trace = child(&template, "broken_syntax.handler").answer().json()["stackTrace"][0].to_string();
    assert!(trace.contains("/var/task/broken_syntax.py") && trace.contains("def handler"), "{trace}");
    let trace = child(&template, "broken_raise.handler").answer().json()["stackTrace"].clone();
    let frames = trace.as_array().expect("a list");
    let last = frames.last().and_then(Value::as_str).expect("a frame");
    assert!(last.starts_with("  File \"/var/task/broken_raise.py\", line 2, in prepare\n"), "{last}");
}

#[test]
fn a_handler_may_end_its_process() {
    if !runnable("ends") {
        return;
    }
    let template = generic();
    for question in ["leaves", "leaves_at_once"] {
        let mut instance = child(&template, "probe.handler");
        instance.send(&json!({ "ask": question }).to_string());
        assert!(instance.next_answer().is_none(), "no answer");
    }
    let mut instance = child(&template, "probe.handler");
    instance.send(&json!({"ask": "leaves_at_once"}).to_string());
    assert!(instance.next_answer().is_none());
    assert_eq!(instance.log(), "last words\n");
    let mut instance = child(&template, "exits.handler");
    assert!(instance.next_answer().is_none(), "no answer from a module that exits");
}

#[test]
fn a_dedicated_template_reports_what_its_children_would_meet() {
    if !runnable("reports") {
        return;
    }
    let report = dedicated("broken_import.handler").report.clone();
    assert_eq!(report["forkable"], false);
    assert_eq!(report["error"]["errorType"], "Runtime.ImportModuleError");
    for (handler, reason) in [
        ("keeps_thread.handler", "1 thread(s) started by the function or its libraries do not end before a fork"),
        ("keeps_socket.handler", "open where the function or its libraries left it: descriptor "),
        ("exits.handler", "the function ends its process when it is imported (SystemExit: 3)"),
    ] {
        let report = dedicated(handler).report.clone();
        assert_eq!((&report["forkable"], &report["error"]), (&json!(false), &Value::Null));
        assert!(report["reason"].as_str().is_some_and(|said| said.starts_with(reason)), "{report}");
    }
    let report = preloaded(&["no_such_module"]).report.clone();
    assert_eq!(report["forkable"], true);
    let missing = json!({"no_such_module": "ModuleNotFoundError: No module named 'no_such_module'"});
    assert_eq!(report["missing"], missing);
}
