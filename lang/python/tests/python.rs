//! The Python runtime with a worker and a gateway played by the test: starts, errors, libraries, differences.

use lang_harness::{Place, Template, function, place, runnable};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn functions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/functions")
}

fn template(config: &Value, code: Option<&Path>) -> Template {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime");
    let place = Place::new("python", &scripts, &place::library("lichen_python"), "_lichen.so").unwrap();
    let python = std::env::var("LICHEN_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let mut command = Command::new(python);
    command.env_clear().args(["-s", "-S", "-P", "-B", "-X", "utf8", "/var/runtime/python/template.py"]);
    Template::start(command, &place, config, code).unwrap()
}

#[test]
fn a_generic_child_loads_and_answers() {
    if !runnable("a generic child") {
        return;
    }
    let template = template(&json!({"preload": [], "function": null}), None);
    println!("{}", template.report);
    let mut instance =
        template.fork(Some(&function("hello.handler")), Some(&functions()), Some(r#"{"name": "x"}"#)).unwrap();
    let answer = instance.answer();
    println!("{answer:?} {:?} {}", instance.started, instance.decided);
    assert_eq!(answer.value(), json!({"hello": "x"}));
    assert_eq!(instance.invoke("{}").value(), json!({"hello": "world"}));
}
