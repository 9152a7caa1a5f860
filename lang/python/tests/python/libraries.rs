//! Libraries that were imported in the template, at work in its children.

use super::*;
use lang_harness::runnable;

#[test]
fn threads_work_in_children() {
    if !runnable("threads") {
        return;
    }
    let template = preloaded(&["threading", "concurrent.futures", "asyncio"]);
    let threads = ask(&mut child(&template, "probe.handler"), "threads");
    let expected = json!({"found": 1, "squares": [0, 1, 4, 9, 16, 25, 36, 49], "later": "later", "main": true});
    assert_eq!(threads, expected);
}

#[test]
fn numpy_multiplies_in_children_with_all_its_threads() {
    if !runnable("numpy") {
        return;
    }
    let template = preloaded(&["numpy"]);
    if template.report["missing"].get("numpy").is_some() {
        println!("skipped: {}", template.report["missing"]);
        return;
    }
    assert_eq!(template.report["forkable"], true, "{}", template.report);
    let answer = ask(&mut child(&template, "probe.handler"), "multiplies");
    assert_eq!(answer["sum"], 400.0 * 400.0 * 400.0);
    let threads = answer["threads"].as_u64().expect("a number");
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    assert!(threads >= processors.min(2), "{threads} threads on {processors} processors");
}

#[test]
fn requests_speaks_http_in_children() {
    if !runnable("requests") {
        return;
    }
    let template = preloaded(&["requests"]);
    if template.report["missing"].get("requests").is_some() {
        println!("skipped: {}", template.report["missing"]);
        return;
    }
    assert_eq!(template.report["forkable"], true, "{}", template.report);
    assert_eq!(ask(&mut child(&template, "probe.handler"), "requests_itself"), "hello");
}
