//! The node that is measured, its functions and flows, and the requests.

use super::STAGES;
use crate::Plan;
use crate::error::BenchError;
use crate::http::Request;
use crate::node::{Node, Settings};
use crate::pure::programs::guest;
use api::node::FlowSpec;
use std::fmt::Write;

/// Bodies that no item of these flows is too large for.
const BODIES: &str = "payload_max = 134217728\nresponse_max = 134217728";

/// A node with all of it; `flows`: lines of the section `[flows]`.
pub fn node(plan: &Plan<'_>, flows: &str) -> Result<Node, BenchError> {
    let (dispatch, path) = (format!("{BODIES}\n[flows]\n{flows}"), std::env::var("PATH").unwrap_or_default());
    let node = Node::start(&plan.program, &Settings { dispatch, path, ..Settings::default() })?;
    // `bytes` has two inputs and takes either, so it declares none.
    for (name, inputs, outputs) in
        [("echo", Some("in"), "out"), ("sum", Some("pairs"), "totals"), ("bytes", None, "out")]
    {
        let file = guest(&format!("{name}.wasm"));
        if !file.is_file() {
            return Err(BenchError::Broken(format!(
                "{} is not here: make guest, or LICHEN_GUEST=FOLDER",
                file.display()
            )));
        }
        let mut options = vec!["--runtime", "wasm", "--outputs", outputs, "--memory", "512"];
        options.extend(inputs.into_iter().flat_map(|inputs| ["--inputs", inputs]));
        node.deploy(name, &file, &options)?;
    }
    for (name, body) in [("map", map()), ("chain", chain()), ("hand-on", hand_on())] {
        let text = format!("flow {}(In) => (Out) {{\n{body}}}\n", name.replace('-', "_"));
        node.client.put_flow(&FlowSpec { name: name.to_owned(), text: Some(text), ..FlowSpec::default() })?;
    }
    Ok(node)
}

fn map() -> String {
    "echo(in = each In) => (Mid = out);\nsum(pairs = all Mid) => (Out = totals);\n".to_owned()
}

fn chain() -> String {
    let mut text = String::new();
    for stage in 0..STAGES {
        let name = |at: usize| match at {
            0 => "In".to_owned(),
            STAGES => "Out".to_owned(),
            at => format!("S{at}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "echo(in = all {}) => ({} = out);", name(stage), name(stage + 1));
    }
    text
}

fn hand_on() -> String {
    "bytes(make = all In) => (Made = out);\nbytes(measure = all Made) => (Out = out);\n".to_owned()
}

/// So many items of one word, as a body.
pub fn words(count: usize) -> Vec<u8> {
    let items = vec!["\"word 1\""; count].join(",");
    format!("{{\"sets\":{{\"In\":[{items}]}}}}").into_bytes()
}

/// A run of a flow.
pub fn flow(node: &Node, name: &str, body: &[u8]) -> Request {
    Request::new(node.address, "POST", &format!("/v1/flows/{name}/invoke"), &[], body)
}

/// One request of a function.
pub fn function(node: &Node, name: &str, body: &[u8]) -> Request {
    Request::new(node.address, "POST", &format!("/v1/functions/{name}/invoke"), &[], body)
}
