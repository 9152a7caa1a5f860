//! What a handler finds: its arguments, its environment, its log.

use super::*;
use cfork::invocation::Invocation;
use lang_harness::runnable;

#[test]
fn a_generic_child_loads_and_answers_and_remembers() {
    if !runnable("a generic child") {
        return;
    }
    let template = generic();
    assert_eq!(template.report["forkable"], true, "{}", template.report);
    assert_eq!(template.threads, 1);
    let event = json!({"ask": "count"}).to_string();
    let mut instance =
        template.fork(Some(&function("probe.handler")), Some(&functions()), Some(&event)).expect("a child");
    assert_eq!(instance.answer().value(), 1);
    assert_eq!(ask(&mut instance, "count"), 2);
    assert_eq!(ask(&mut child(&template, "probe.handler"), "count"), 1);
}

#[test]
fn the_context_is_lambdas() {
    if !runnable("the context") {
        return;
    }
    let template = generic();
    let mut instance = child(&template, "probe.handler");
    let head = Invocation {
        deadline_unix_ms: 1_000_000_000_000,
        request_id: "the-request",
        function_arn: "the-arn",
        trace_id: "Root=1-2-3",
        client_context: r#"{"client": {"app_title": "app"}, "custom": {"key": 1}}"#,
        cognito_identity: r#"{"cognitoIdentityId": "someone"}"#,
        tenant_id: "tenant",
    };
    instance.send_with(&head.encode(), r#"{"ask": "described"}"#);
    let described = instance.answer().value();
    let expected = json!({
        "aws_request_id": "the-request", "invoked_function_arn": "the-arn", "function_name": "tested",
        "function_version": "$LATEST", "memory_limit_in_mb": "128", "log_group_name": "/aws/lambda/tested",
        "log_stream_name": "2026/11/20/[$LATEST]0123456789abcdef0123456789abcdef", "tenant_id": "tenant",
    });
    assert_eq!(described["known"], expected);
    assert_eq!(described["remaining"], 0);
    assert_eq!((&described["identity"], &described["client"]), (&json!("someone"), &json!("app")));
    assert_eq!(described["custom"], json!({"key": 1}));
    assert_eq!(ask(&mut instance, "place")["environ"].get("_X_AMZN_TRACE_ID"), None);
    instance.send_with(&Invocation { trace_id: "Root=4", ..head }.encode(), r#"{"ask": "place"}"#);
    assert_eq!(instance.answer().value()["environ"]["_X_AMZN_TRACE_ID"], "Root=4");
    let remaining = ask(&mut instance, "described")["remaining"].as_u64().expect("a number");
    assert!((1..=3000).contains(&remaining), "{remaining}");
    instance.send_with(&Invocation { client_context: "[", ..head }.encode(), "{}");
    assert_eq!(instance.answer().error()["errorType"], "Runtime.LambdaContextUnmarshalError");
}

#[test]
fn the_environment_is_the_functions_alone() {
    if !runnable("the environment") {
        return;
    }
    let template = generic();
    let place = ask(&mut child(&template, "probe.handler"), "place");
    let environ = &place["environ"];
    for (name, value) in [
        ("KEY", "value"),
        ("_HANDLER", "probe.handler"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "tested"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("TZ", ":UTC"),
        ("PWD", "/var/task"),
    ] {
        assert_eq!(environ[name], value, "{name}");
    }
    assert!(environ.get("PYTHONHASHSEED").is_none() && environ.get("LICHEN_PYTHONPATH").is_none());
    let inherited = place["inherited"].as_object().expect("an object");
    let mut expected = environ.as_object().expect("an object").clone();
    // The interpreter that was asked has added its own.
    expected.extend(inherited.iter().filter(|(name, _)| *name == "LC_CTYPE").map(|(k, v)| (k.clone(), v.clone())));
    assert_eq!(inherited, &expected, "what Python shows and what programs inherit");
    assert_eq!((&place["cwd"], &place["path"][0]), (&json!("/var/task"), &json!("/var/task")));
    assert!(!place["path"].to_string().contains("/var/runtime"), "{}", place["path"]);
    assert_eq!(place["ids"], json!([1000, 1000]));
    let file = "/var/task/probe.py";
    assert_eq!(place["spec"], json!(["probe", file, file, "", "probe", "SourceFileLoader"]));
}

#[test]
fn handlers_are_found_in_folders_and_packages() {
    if !runnable("folders and packages") {
        return;
    }
    let template = generic();
    assert_eq!(child(&template, "package.handler").invoke("{}").value(), "package");
    assert_eq!(child(&template, "package.part.handler").invoke("{}").value(), "package");
    let deep = child(&template, "folder/inner/deep.handler").invoke("{}").value();
    assert_eq!(deep, json!(["neighbour", "folder.inner.deep"]));
}

#[test]
fn what_is_printed_is_in_the_log_before_the_answer() {
    if !runnable("the log") {
        return;
    }
    let template = generic();
    let mut instance = child(&template, "probe.handler");
    assert_eq!(ask(&mut instance, "prints"), Value::Null);
    let log = instance.log();
    assert!(log.starts_with("a line\nno end") && log.contains("an error"), "{log:?}");
    let warning = log.lines().find(|line| line.contains("a warning")).expect("a warning");
    let fields: Vec<&str> = warning.split('\t').collect();
    let [level, time, request, text] = fields[..] else { panic!("four fields: {warning:?}") };
    assert!(level.ends_with("[WARNING]") && (request, text) == ("request-2", "a warning"), "{warning:?}");
    assert!(time.len() == "2026-11-20T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    assert!(!log.contains("not seen"));
    assert_eq!(ask(&mut instance, "closes_output"), "still here");
    assert_eq!(ask(&mut instance, "count"), 3);
}

#[test]
fn bodies_of_all_sizes_and_alphabets_arrive() {
    if !runnable("bodies") {
        return;
    }
    let template = generic();
    let mut instance = child(&template, "probe.handler");
    for text in ["", "é", "日本語 😀", "\"\\\n\u{1}"] {
        let answer = instance.invoke(&json!({"ask": "unicode", "text": text}).to_string()).value();
        assert_eq!(answer, json!({"text": text, "length": text.chars().count()}));
    }
    for length in [0, 100, 9_000, 1_000_000, 6_000_000] {
        let event = json!({"ask": "echo", "body": "y".repeat(length)});
        assert_eq!(instance.invoke(&event.to_string()).value(), event);
    }
    let spaced = instance.invoke(" \n {\"ask\" : \"echo\" }\t\r\n").value();
    assert_eq!(spaced, json!({"ask": "echo"}));
    assert_eq!(instance.invoke(&json!({"ask": "raw"}).to_string()).body, b"\x00bytes\xff");
    let text = instance.invoke(&json!({"ask": "decimals"}).to_string());
    assert_eq!(text.body, br#"{"number": 12345678901234567890.123, "marked": "lichen-decimal"}"#);
}
