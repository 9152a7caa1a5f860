//! The platform's own lines in a function's log, in the format that the function asks for.
//!
//! | module | what it is |
//! |---|---|
//! | [`text`] | `START`, `END`, `REPORT` |
//! | [`json`] | `platform.start`, `platform.report` and the like, down to the level that the function wants |

mod json;
mod text;

use super::failure::Failure;
use crate::function::{Function, LogFormat};
use crate::registry::kind_of;
use sandbox::spec::Version;
use std::time::Duration;

/// What REPORT reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub duration: Duration,
    pub billed_ms: u64,
    pub memory_mib: u32,
    /// Bytes.
    pub memory_peak: u64,
    pub init: Option<Duration>,
    /// Bytes of the answer.
    pub produced: usize,
}

/// An instance begins to start for an invocation, on this version of its language.
pub(super) fn init_start(function: &Function, version: Version) -> Vec<u8> {
    match function.log_format {
        LogFormat::Text => text::init_start(function, version),
        LogFormat::Json(level) => json::init_start(function, level, version),
    }
}

/// An instance could not be loaded, after this time.
pub(super) fn init_failed(function: &Function, took: Duration, failure: &Failure) -> Vec<u8> {
    match function.log_format {
        LogFormat::Text => text::init_failed(function, took, failure),
        LogFormat::Json(level) => json::init_failed(function, level, took, failure),
    }
}

pub(super) fn start(function: &Function, request_id: &str) -> Vec<u8> {
    match function.log_format {
        LogFormat::Text => text::start(function, request_id),
        LogFormat::Json(level) => json::start(function, level, request_id),
    }
}

/// The end, the figures, and what went wrong.
pub(super) fn end(function: &Function, request_id: &str, figures: &Figures, failure: Option<&Failure>) -> Vec<u8> {
    match function.log_format {
        LogFormat::Text => text::end(function, request_id, figures, failure),
        LogFormat::Json(level) => json::end(function, level, request_id, figures, failure),
    }
}

/// A runtime as AWS names its version: `python3.11` is written `python:3.11`, `provided.al2` `provided:al2`. Where the
/// function runs on another version than it asks for, it is told.
fn runtime_version(function: &Function, version: Version) -> String {
    let (name, asked) = function.runtime.split_once('.').filter(|(name, _)| *name == "provided").unwrap_or_else(|| {
        let digits = function.runtime.find(|c: char| c.is_ascii_digit()).unwrap_or(function.runtime.len());
        function.runtime.split_at(digits)
    });
    let colon = if asked.is_empty() { "" } else { ":" };
    if Version::of(kind_of(&function.runtime).unwrap_or(function.kind), &function.runtime).is(version)
        || version == Version::default()
    {
        format!("{name}{colon}{asked}")
    } else {
        format!("{name}:{version} ({}, which was asked for, is not on this machine)", function.runtime)
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::function::{FunctionKey, Isolation};
    use sandbox::spec::{Kind, Network};

    pub fn figures(init: Option<Duration>) -> Figures {
        let duration = Duration::from_micros(1234);
        Figures { duration, billed_ms: 2, memory_mib: 128, memory_peak: (30 << 20) + 1, init, produced: 5 }
    }

    pub fn function() -> Function {
        Function {
            key: FunctionKey { account: "0".into(), region: "r".into(), name: "f".into(), version: "$LATEST".into() }
                .into(),
            arn: "arn".into(),
            revision: "1".into(),
            kind: Kind::Python,
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            code: "/code".into(),
            layers: None,
            memory_mib: 128,
            tmp_mib: 512,
            timeout_s: 3,
            environment: Default::default(),
            isolation: Isolation::Instance,
            network: Network::None,
            min_warm: 0,
            profiles: Vec::new(),
            pure: Default::default(),
            max_concurrency: None,
            log_group: "/aws/lambda/f".into(),
            log_format: LogFormat::Text,
            snap_start: false,
        }
    }

    #[test]
    fn versions_of_runtimes() {
        let of =
            |runtime: &str| runtime_version(&Function { runtime: runtime.into(), ..function() }, Version::default());
        assert_eq!((of("python3.11"), of("nodejs20.x")), ("python:3.11".into(), "nodejs:20.x".into()));
        assert_eq!((of("provided.al2023"), of("python")), ("provided:al2023".into(), "python".into()));
    }

    #[test]
    fn another_version_than_was_asked_for_is_told() {
        let on = |version: &str| runtime_version(&function(), Version::of(Kind::Python, version));
        assert_eq!(on("3.11.7"), "python:3.11");
        assert_eq!(on("3.12.1"), "python:3.12 (python3.11, which was asked for, is not on this machine)");
    }

    #[test]
    fn what_is_restored_is_not_initialised() {
        let function = Function { snap_start: true, ..function() };
        let lines = String::from_utf8(end(&function, "r", &figures(Some(Duration::from_micros(1500))), None)).unwrap();
        assert!(lines.contains("\tRestore Duration: 1.50 ms\tBilled Restore Duration: 2 ms\t\n"), "{lines}");
        assert!(init_start(&function, Version::default()).starts_with(b"RESTORE_START Runtime Version: python:3.11"));
    }
}
