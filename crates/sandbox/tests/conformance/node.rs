//! What a forked Node.js must still be able to do.

use crate::probe::{Bench, config};
use crate::{Case, case};
use sandbox::spec::Code;
use serde_json::json;

pub const CASES: &[Case] = &[case!(everything_of_node_works_in_the_child), case!(modules_and_callbacks_are_handlers)];

async fn everything_of_node_works_in_the_child(bench: &Bench) {
    let code = Code { config: config("works.handler"), ..bench.code() };
    let template = bench.prepare(Some(code)).await.expect("a dedicated template");
    for _ in 0..2 {
        let mut probe = bench.start_with(&template, None).await.unwrap();
        let results = probe.reply(json!({})).await;
        for (what, result) in results.as_object().expect("a table of results") {
            assert_eq!(result, &json!(true), "{what}; log: {}", probe.said());
        }
    }
}

async fn modules_and_callbacks_are_handlers(bench: &Bench) {
    let template = bench.generic().await;
    for handler in ["module.handler", "callback.handler"] {
        let code = Code { config: config(handler), ..bench.code() };
        let mut probe = bench.start_with(&template, Some(code)).await.unwrap();
        assert_eq!(probe.reply(json!({"value": 5})).await, json!(5), "{handler}");
    }
}
