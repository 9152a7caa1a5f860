//! Plays the worker and the gateway to a language runtime: starts templates, makes slots, forks, invokes.
//!
//! | module | what it is |
//! |---|---|
//! | [`languages`] | how each language's template is started |
//! | [`place`] | `/var/runtime` and `/var/task` for templates and slots |
//! | [`slot`] | containers as the sandbox makes them, without limits and filters |
//! | [`template`] | a language runtime at its fork point |
//! | [`instance`] | its children |
//!
//! For tests and measurements, as root. It isolates nothing that matters: the real thing is `crates/sandbox`.

pub mod instance;
pub mod languages;
pub mod place;
pub mod slot;
pub mod template;

pub use instance::{Answer, Instance};
pub use place::Place;
pub use slot::Slot;
pub use template::Template;

use serde_json::{Value, json};

/// Whether this test can run: it needs root. Says so where it cannot.
pub fn runnable(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: {test} makes containers, which needs root here");
    }
    root
}

/// An instance configuration for a handler, as `lang/README.md` has it.
pub fn function(handler: &str) -> Value {
    json!({
        "function_name": "tested", "function_version": "$LATEST",
        "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:tested",
        "handler": handler, "memory_mib": 128, "timeout_s": 3, "region": "us-east-1",
        "log_group": "/aws/lambda/tested", "log_stream": "2026/11/20/[$LATEST]0123456789abcdef0123456789abcdef",
        "initialization_type": "on-demand", "runtime": "python3.11", "environment": {"KEY": "value"},
    })
}
