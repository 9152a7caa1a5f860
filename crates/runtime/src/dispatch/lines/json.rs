//! The platform's lines as JSON records: `{"time", "type", "record"}`, each with a level of its own (AWS's table "System log
//! level event mapping"); those below the level that a function asks for are left out.

use super::{Figures, ms, runtime_version};
use crate::dispatch::failure::Failure;
use crate::function::{Function, SystemLevel};
use sandbox::spec::Version;
use serde_json::{Value, json};
use std::time::Duration;

fn record(wanted: SystemLevel, level: SystemLevel, kind: &str, record: impl FnOnce() -> Value) -> Vec<u8> {
    if level < wanted {
        return Vec::new();
    }
    let time = api::time::rfc3339(api::time::now_ms());
    let mut line = json!({ "time": time, "type": kind, "record": record() }).to_string().into_bytes();
    line.push(b'\n');
    line
}

pub(super) fn init_start(function: &Function, wanted: SystemLevel, version: Version) -> Vec<u8> {
    let kind = if function.snap_start { "platform.restoreStart" } else { "platform.initStart" };
    record(wanted, SystemLevel::Info, kind, || {
        json!({
            "initializationType": function.initialization_type(),
            "phase": if function.snap_start { "restore" } else { "init" },
            "runtimeVersion": runtime_version(function, version),
            "functionName": function.key.name,
            "functionVersion": function.key.version,
        })
    })
}

pub(super) fn init_failed(function: &Function, wanted: SystemLevel, took: Duration, failure: &Failure) -> Vec<u8> {
    let (kind, phase) = match function.snap_start {
        true => ("platform.restoreReport", "restore"),
        false => ("platform.initReport", "init"),
    };
    record(wanted, SystemLevel::Warn, kind, || {
        let mut record = json!({
            "initializationType": function.initialization_type(),
            "phase": phase,
            "status": failure.json_status(),
            "metrics": { "durationMs": rounded(ms(took)) },
        });
        if let Some(kind) = failure.json_type() {
            record["errorType"] = kind.into();
        }
        record
    })
}

pub(super) fn start(function: &Function, wanted: SystemLevel, request_id: &str) -> Vec<u8> {
    record(
        wanted,
        SystemLevel::Info,
        "platform.start",
        || json!({ "requestId": request_id, "version": function.key.version }),
    )
}

pub(super) fn end(
    function: &Function,
    wanted: SystemLevel,
    request_id: &str,
    figures: &Figures,
    failure: Option<&Failure>,
) -> Vec<u8> {
    let ended = |metrics: Value| {
        let mut ended = json!({ "requestId": request_id, "metrics": metrics });
        ended["status"] = failure.map_or("success", Failure::json_status).into();
        if let Some(kind) = failure.and_then(Failure::json_type) {
            ended["errorType"] = kind.into();
        }
        ended
    };
    let (fine, told) = match failure {
        None => (SystemLevel::Debug, SystemLevel::Info),
        Some(_) => (SystemLevel::Warn, SystemLevel::Warn),
    };
    let mut lines = record(wanted, fine, "platform.runtimeDone", || {
        ended(json!({ "durationMs": rounded(ms(figures.duration)), "producedBytes": figures.produced }))
    });
    lines.extend(record(wanted, told, "platform.report", || ended(metrics(function, figures))));
    lines
}

fn metrics(function: &Function, figures: &Figures) -> Value {
    let mut metrics = json!({
        "durationMs": rounded(ms(figures.duration)),
        "billedDurationMs": figures.billed_ms,
        "memorySizeMB": figures.memory_mib,
        "maxMemoryUsedMB": figures.memory_peak.div_ceil(1 << 20),
    });
    match figures.init.map(ms) {
        Some(restored) if function.snap_start => {
            metrics["restoreDurationMs"] = rounded(restored).into();
            metrics["billedRestoreDurationMs"] = (restored.ceil() as u64).into();
        }
        Some(init) => metrics["initDurationMs"] = rounded(init).into(),
        None => {}
    }
    metrics
}

/// To three digits.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::lines::tests::{figures, function};

    fn read(lines: &[u8]) -> Vec<Value> {
        let lines = std::str::from_utf8(lines).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn records_are_awss() {
        let function = function();
        let lines = read(&end(&function, SystemLevel::Info, "r", &figures(Some(Duration::from_millis(7))), None));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["type"], "platform.report");
        assert_eq!(
            lines[0]["record"],
            json!({ "requestId": "r", "status": "success", "metrics": { "durationMs": 1.234, "billedDurationMs": 2,
                "memorySizeMB": 128, "maxMemoryUsedMB": 31, "initDurationMs": 7.0 } })
        );
        let lines = read(&start(&function, SystemLevel::Info, "r"));
        assert_eq!(lines[0]["record"], json!({ "requestId": "r", "version": "$LATEST" }));
        assert_eq!(
            read(&init_start(&function, SystemLevel::Info, Version::default()))[0]["record"]["runtimeVersion"],
            "python:3.11"
        );
    }

    #[test]
    fn levels_leave_records_out() {
        let (function, figures) = (function(), figures(None));
        let kinds = |wanted, failure: Option<&Failure>| -> Vec<String> {
            let lines = [start(&function, wanted, "r"), end(&function, wanted, "r", &figures, failure)].concat();
            read(&lines).iter().map(|line| line["type"].as_str().unwrap().replace("platform.", "")).collect()
        };
        assert_eq!(kinds(SystemLevel::Debug, None), ["start", "runtimeDone", "report"]);
        assert_eq!(kinds(SystemLevel::Info, None), ["start", "report"]);
        assert!(kinds(SystemLevel::Warn, None).is_empty());
        let late = Failure::timed_out("r", Duration::from_secs(1));
        assert_eq!(kinds(SystemLevel::Warn, Some(&late)), ["runtimeDone", "report"]);
        let lines = read(&end(&function, SystemLevel::Warn, "r", &figures, Some(&late)));
        assert_eq!(lines[1]["record"]["status"], "timeout");
    }
}
