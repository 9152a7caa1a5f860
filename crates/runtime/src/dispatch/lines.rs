//! The platform's own lines in a function's log, as AWS writes them.

use super::failure::Failure;
use crate::function::Function;
use std::io::Write;
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
}

/// An instance begins to start for an invocation. `python3.11` is written `python:3.11` there, `provided.al2` `provided:al2`.
pub(super) fn init_start(function: &Function) -> Vec<u8> {
    let (name, version) =
        function.runtime.split_once('.').filter(|(name, _)| *name == "provided").unwrap_or_else(|| {
            let digits = function.runtime.find(|c: char| c.is_ascii_digit()).unwrap_or(function.runtime.len());
            function.runtime.split_at(digits)
        });
    let colon = if version.is_empty() { "" } else { ":" };
    format!("INIT_START Runtime Version: {name}{colon}{version}\n").into_bytes()
}

pub(super) fn start(request_id: &str, version: &str) -> Vec<u8> {
    format!("START RequestId: {request_id} Version: {version}\n").into_bytes()
}

/// END and REPORT, and what went wrong.
pub(super) fn end(request_id: &str, figures: &Figures, failure: Option<&Failure>) -> Vec<u8> {
    let Figures { duration, billed_ms, memory_mib, memory_peak, init } = figures;
    let mut lines = Vec::with_capacity(320);
    // Writing to memory cannot fail.
    let _ = write!(
        lines,
        "END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {billed_ms} ms\t\
         Memory Size: {memory_mib} MB\tMax Memory Used: {} MB\t",
        ms(*duration),
        memory_peak.div_ceil(1 << 20),
    );
    if let Some(init) = init {
        let _ = write!(lines, "Init Duration: {:.2} ms\t", ms(*init));
    }
    if let Some(failure) = failure {
        let _ = write!(lines, "{}\n{}", failure.status(), failure.note);
    } else {
        lines.push(b'\n');
    }
    lines
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(init: Option<Duration>) -> Figures {
        let duration = Duration::from_micros(1234);
        Figures { duration, billed_ms: 2, memory_mib: 128, memory_peak: (30 << 20) + 1, init }
    }

    fn text(lines: Vec<u8>) -> String {
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_report_reads_like_one_of_awss() {
        assert_eq!(
            text(end("r", &figures(Some(Duration::from_millis(7))), None)),
            "END RequestId: r\nREPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax \
             Memory Used: 31 MB\tInit Duration: 7.00 ms\t\n"
        );
        let late = Failure::timed_out("r", Duration::from_secs(3));
        let lines = text(end("r", &figures(None), Some(&late)));
        assert!(lines.contains("Max Memory Used: 31 MB\tStatus: timeout\t\n"), "{lines}");
        assert!(lines.ends_with(" r Task timed out after 3.00 seconds\n\n"), "{lines}");
    }
}
