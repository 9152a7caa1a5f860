//! What children of one template share, and what they do not.

use super::*;
use lang_harness::runnable;

#[test]
fn a_dedicated_child_finds_its_function_loaded() {
    if !runnable("a dedicated child") {
        return;
    }
    let template = dedicated("prepared.handler");
    assert_eq!(template.report["forkable"], true, "{}", template.report);
    let mut answers = Vec::new();
    for stream in [None, Some("another/stream")] {
        let config = stream.map(|stream| json!({ "log_stream": stream }));
        let mut instance = template.fork(config.as_ref(), None, Some("{}")).expect("a child");
        let answer = instance.answer().value();
        assert_eq!(answer["loaded_by"], template.pid());
        assert_ne!(answer["pid"], template.pid());
        assert_eq!(answer["key"], "value");
        let expected = stream.unwrap_or("2026/11/20/[$LATEST]0123456789abcdef0123456789abcdef");
        assert_eq!(answer["stream"], json!([expected, expected]));
        answers.push(answer);
    }
    assert_ne!(answers[0]["random"], answers[1]["random"]);
    // The hooks of libraries run before and after the fork, for each child as if it were the only one.
    assert_eq!(answers[0]["hooked"], json!(["before", "child"]));
    assert_eq!(answers[1]["hooked"], json!(["before", "child"]));
    // A file open for reading is at the same place in each child, whatever its siblings have read.
    assert_eq!(answers[0]["position"], answers[1]["position"]);
    assert_eq!(answers[1]["first"], answers[0]["first"]);
}

#[test]
fn children_draw_different_numbers() {
    if !runnable("random numbers") {
        return;
    }
    let template = preloaded(&["random", "uuid", "ssl", "tempfile", "numpy.random"]);
    let draws: Vec<Value> = (0..3).map(|_| ask(&mut child(&template, "probe.handler"), "draws")).collect();
    if draws[0].get("numpy").is_none() {
        println!("skipped: numpy, {}", template.report["missing"]["numpy.random"]);
    }
    for name in draws[0].as_object().expect("an object").keys() {
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            assert_ne!(draws[first][name], draws[second][name], "{name}");
        }
    }
}

#[test]
fn a_child_holds_nothing_of_its_template() {
    if !runnable("descriptors") {
        return;
    }
    let template = generic();
    let open = ask(&mut child(&template, "probe.handler"), "descriptors");
    let open: Vec<&str> = open.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let (bells, foreign): (Vec<&str>, Vec<&str>) =
        open.into_iter().partition(|name| name.contains("eventfd") || name.starts_with("pipe:"));
    assert!(foreign.is_empty(), "beside its bells a child holds {foreign:?}");
    assert_eq!(bells.iter().filter(|name| name.contains("eventfd")).count(), 1, "what it rings: {bells:?}");
    assert_eq!(bells.len(), 2, "what it rings, and what rings for it: {bells:?}");
}

#[test]
fn a_function_may_fork_by_itself() {
    if !runnable("forks of the function") {
        return;
    }
    let template = preloaded(&["random"]);
    let mut instance = child(&template, "probe.handler");
    let forked = ask(&mut instance, "forks");
    assert_eq!(forked["status"], 0);
    assert_ne!(forked["theirs"], forked["ours"]);
    assert_eq!(ask(&mut instance, "runs_pool"), "from below");
    assert_eq!(ask(&mut instance, "count"), 3);
}

#[test]
fn a_template_goes_on_when_its_children_end() {
    if !runnable("many children") {
        return;
    }
    let template = dedicated("hello.handler");
    for _ in 0..20 {
        assert_eq!(template.fork(None, None, Some("{}")).expect("a child").answer().value()["hello"], "world");
    }
    let mut several: Vec<Instance> = (0..4).map(|_| template.fork(None, None, None).expect("a child")).collect();
    for instance in &mut several {
        instance.wait_until_ready();
    }
    for (number, instance) in several.iter_mut().enumerate() {
        assert_eq!(instance.invoke(&json!({ "name": number }).to_string()).value(), json!({ "hello": number }));
    }
}
