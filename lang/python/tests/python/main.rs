//! The Python runtime, with the worker and the gateway played by the test: what a handler finds, and what becomes of
//! what it does. That sandboxes isolate is `crates/sandbox`'s subject.

mod errors;
mod forks;
mod libraries;
mod place;

use lang_harness::{Instance, Template, function, languages};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions")
}

/// A template that has loaded no function.
fn generic() -> Template {
    preloaded(&[])
}

fn preloaded(modules: &[&str]) -> Template {
    languages::python(&json!({"preload": modules, "function": null}), None).expect("a generic template")
}

/// A template that has loaded this handler.
fn dedicated(handler: &str) -> Template {
    let config = json!({"preload": [], "function": function(handler)});
    languages::python(&config, Some(&functions())).expect("a dedicated template")
}

/// A child of a generic template, without an invocation.
fn child(template: &Template, handler: &str) -> Instance {
    template.fork(Some(&function(handler)), Some(&functions()), None).expect("a child")
}

/// Asks a function of `functions/probe.py`.
fn ask(instance: &mut Instance, question: &str) -> Value {
    instance.invoke(&json!({ "ask": question }).to_string()).value()
}
