//! Lichen's own faces.

use crate::place::Place;
use serde_json::json;

#[test]
fn health_and_readiness() {
    let place = Place::new();
    assert_eq!(place.get("/healthz").status, 200);
    let ready = place.get("/readyz");
    assert_eq!((ready.status, &ready.json["waiting_for"]), (503, &json!(["worker"])));
    assert!(!place.client().is_ready());
}

#[test]
fn the_node_describes_itself() {
    let place = Place::with("[node]\nregion = \"eu-west-1\"\n[dispatch]\nconcurrency = 7\n");
    let client = place.client();
    let node = client.node().unwrap();
    assert_eq!(
        (node.region.as_str(), node.concurrency.limit, &node.waiting_for[..]),
        ("eu-west-1", 7, &["worker".to_owned()][..])
    );
    let pus = client.pus().unwrap();
    assert_eq!((pus.len(), pus[0].kind.as_str(), pus[0].ready), (1, "cpu", false));
    assert!(pus[0].cores >= 1);
    place.create("f", json!({}));
    let functions = client.node_functions().unwrap();
    assert_eq!((functions.len(), functions[0].name.as_str(), functions[0].runtime.as_str()), (1, "f", "python3.11"));
    assert_eq!((functions[0].instances, functions[0].counters.invocations), (Default::default(), 0));
    assert!(client.bills("f", 10).unwrap().is_empty());
    assert!(client.usage().unwrap().is_empty());
    assert_eq!(client.logs("f", 0, false).unwrap().count(), 0);
    assert_eq!(client.logs("missing", 0, false).err().unwrap().code(), "ResourceNotFoundException");
    client.instances().unwrap();
    client.templates().unwrap();
}

#[test]
fn a_log_that_is_followed_ends_with_the_node() {
    let mut place = Place::new();
    place.create("f", json!({}));
    let mut log = place.client().logs("f", 0, true).unwrap();
    place.restart();
    // Either the end of the log or, where the connection broke first, an error; but an end.
    assert!(log.next().is_none_or(|record| record.is_err()));
}

#[test]
fn metrics_are_prometheus_text() {
    let place = Place::new();
    place.create("f", json!({}));
    let metrics = String::from_utf8(place.get("/metrics").body).unwrap();
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    assert_eq!(value("lichen_ready"), Some("0"));
    assert_eq!(value("lichen_concurrency_limit"), Some("1000"));
    assert_eq!(value("lichen_http_responses_total{status=\"2xx\"}"), Some("1"));
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("lichen_") && number.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn function_urls_look_for_functions() {
    let place = Place::new();
    let missing = place.get("/f/missing/x");
    assert_eq!((missing.status, missing.code.as_str()), (404, "ResourceNotFoundException"));
    place.create("f", json!({}));
    // It is found, and there is nobody to run it.
    assert_eq!(place.get("/f/f/x?y=1").status, 503);
}
