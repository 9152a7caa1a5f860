//! What the binary says to those who type it, where no node is needed.

use std::process::{Command, Output, Stdio};

fn lichen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lichen"));
    command.args(arguments).env_remove("LICHEN_ENDPOINT").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn nothing_typed_is_answered_with_a_way_in() {
    let output = lichen(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(said.contains("lichen run") && said.contains("lichen help") && said.lines().count() < 15, "{said}");
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    for (arguments, part) in [
        (&["inovke", "x"][..], "invoke"),
        (&["deploy", "examples"], "--name"),
        (&["deploy", "x", "--name", "f", "--runtime", "cuda"], "not supported yet"),
        (&["run", "no-such-folder"], "no-such-folder"),
        (&["invoke", "f", "-d", "{"], "not JSON"),
        (&["ls", "-o", "xml"], "table"),
        (&["ls", "--endpoint", "localhost"], "http://"),
        (&["serve", "--account", "1"], "12 digits"),
        (&["logs", "f", "--since", "noon"], "10m"),
    ] {
        let output = lichen(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn no_node_is_3_and_says_how_to_start_one() {
    let output = lichen(&["ls", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("lichen serve"), "{}", text(&output.stderr));
}

#[test]
fn roles_are_not_started_by_hand() {
    let worker = ["worker", "--stage", "x", "--libraries", "x", "--shim", "x"];
    for role in [&["gateway"][..], &worker, &["shim", "--pu", "1", "--socket", "x"]] {
        let output = lichen(role);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(text(&output.stderr).contains("started by `lichen serve`"), "{}", text(&output.stderr));
    }
}

#[test]
fn man_pages_and_completions_come_from_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let output = lichen(&["man", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for page in ["lichen.1", "lichen-deploy.1", "lichen-serve.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    assert!(!folder.path().join("lichen-worker.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        let script = lichen(&["completions", shell]).stdout;
        assert!(text(&script).contains("deploy"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lichen"));
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn the_doctor_can_be_read_by_programs() {
    let output = lichen(&["doctor", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if report["fit"] == true { 0 } else { 3 }));
    let checks = report["checks"].as_array().unwrap();
    for name in ["kernel", "namespaces", "cgroups", "seccomp", "python", "node"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}");
    }
}
