//! The samples of pure functions, and how events and answers look to them.
//!
//! An event is an order of one letter and what belongs to it; see the samples themselves. What `echo` gives back is its value.

use sandbox::spec::Kind;
use serde_json::{Value, json};
use sets::wire::{self, Data};
use sets::{Item, Limits, Set};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with the program `app`. Artefacts are made beside it, so it is of this process alone.
pub fn folder(kind: Kind) -> PathBuf {
    static SAMPLES: OnceLock<tempfile::TempDir> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["wasm", "native"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let wasm = wat::parse_file(source.join("tests/conformance/samples/wasm/app.wat")).expect("a valid sample");
        std::fs::write(folder.path().join("wasm/app"), wasm).expect("a file");
        if cfg!(target_arch = "x86_64") {
            let mut command = Command::new("cc");
            command.args([
                "-O1",
                "-nostdlib",
                "-ffreestanding",
                "-fno-stack-protector",
                "-static",
                "-fno-pie",
                "-no-pie",
            ]);
            command.args(["-Wl,-Ttext-segment=0x10000", "-o"]).arg(folder.path().join("native/app"));
            let built = command.arg(source.join("../engine/tests/guest/guest.c")).output();
            let built = built.expect("a C compiler, which building Lichen takes, too");
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        }
        folder
    });
    samples.path().join(if kind == Kind::Wasm { "wasm" } else { "native" })
}

/// An event as the sample's input sets.
pub fn sets_of(kind: Kind, event: &Value) -> Vec<u8> {
    let order = match event["do"].as_str() {
        Some("echo") => "e".to_owned(),
        _ => event["value"].as_str().expect("an order").to_owned(),
    };
    let value = if order == "e" { event["value"].to_string() } else { String::new() };
    let items = match kind {
        // A single item is what it reads from stdin.
        Kind::Wasm => vec![Item::new("order", 0, (order + &value).into_bytes())],
        _ => vec![Item::new("order", 0, order.into_bytes()), Item::new("value", 0, value.into_bytes())],
    };
    let mut message = Vec::new();
    wire::encode(&[Set::new("in", items)], &mut message).expect("sets of items");
    message
}

/// The value that came back.
pub fn of_sets(kind: Kind, answer: Vec<u8>) -> Value {
    let sets = wire::decode(&bytes::Bytes::from(answer), Limits::default()).expect("an engine answers sets");
    let item = &sets[0].items[if kind == Kind::Wasm { 0 } else { 1 }];
    let Data::Inline(data) = &item.data else { panic!("it is held") };
    serde_json::from_slice(data).unwrap_or_else(|_| json!(String::from_utf8_lossy(data)))
}
