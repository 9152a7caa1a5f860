//! The baselines start, answer, and leave nothing.

use super::*;
use crate::http::{Connection, Request};
use crate::spans::{HEADER, Spans};
use std::fs;

fn function() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.py"), "def handler(event, context):\n    return {'seen': event}\n").unwrap();
    fs::write(folder.path().join("index.js"), "exports.handler = async (event) => ({ seen: event });\n").unwrap();
    folder
}

fn answers(start: Start, keep: bool) {
    let server = if keep { OneShot::serve_warm(start) } else { OneShot::serve(start) }.unwrap();
    let request = Request::new(server.address, "POST", "/", &[], b"[1, \"two\"]");
    let mut connection = Connection::new();
    for _ in 0..2 {
        let answer = connection.call(&request).unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            serde_json::json!({ "seen": [1, "two"] })
        );
        let start = Spans::parse(answer.header(HEADER).unwrap()).unwrap().start();
        assert!(keep || start.as_micros() > 1000);
    }
}

fn interpreter(language: Language) -> Option<Interpreter> {
    let found = Interpreter::find(language, &std::env::var("PATH").unwrap());
    if found.is_none() {
        println!("skip: no {} on this machine", language.as_str());
    }
    found
}

#[test]
fn plain_processes_answer() {
    for language in [Language::Python, Language::Node] {
        let Some(interpreter) = interpreter(language) else { continue };
        let code = function();
        for keep in [false, true] {
            answers(Start::process(&interpreter, code.path()).unwrap(), keep);
        }
    }
}

#[test]
fn containers_answer() {
    if !rustix::process::geteuid().is_root() || !has_crun() {
        println!("skip: crun needs root, and to be installed");
        return;
    }
    for language in [Language::Python, Language::Node] {
        let Some(interpreter) = interpreter(language) else { continue };
        let code = function();
        for keep in [false, true] {
            answers(Start::Crun(Bundle::new(&interpreter, code.path(), 256).unwrap()), keep);
        }
    }
}

#[test]
fn a_function_that_fails_is_an_answer_too() {
    let Some(interpreter) = interpreter(Language::Python) else { return };
    let code = tempfile::tempdir().unwrap();
    let server = OneShot::serve(Start::process(&interpreter, code.path()).unwrap()).unwrap();
    let answer = Connection::new().call(&Request::new(server.address, "POST", "/", &[], b"1")).unwrap();
    assert_eq!(answer.status, 502);
    assert!(String::from_utf8_lossy(&answer.body).contains("Traceback"));
}
