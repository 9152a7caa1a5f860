//! The platform's lines as text, as AWS writes them.

use super::{Figures, ms, runtime_version};
use crate::dispatch::failure::Failure;
use crate::function::Function;
use sandbox::spec::Version;
use std::io::Write;
use std::time::Duration;

pub(super) fn init_start(function: &Function, version: Version) -> Vec<u8> {
    let what = if function.snap_start { "RESTORE_START" } else { "INIT_START" };
    format!("{what} Runtime Version: {}\n", runtime_version(function, version)).into_bytes()
}

pub(super) fn init_failed(function: &Function, took: Duration, failure: &Failure) -> Vec<u8> {
    let (kind, phase) =
        if function.snap_start { ("RESTORE_REPORT Restore", "") } else { ("INIT_REPORT Init", "Phase: init\t") };
    format!("{kind} Duration: {:.2} ms\t{phase}{}\n", ms(took), failure.status()).into_bytes()
}

pub(super) fn start(function: &Function, request_id: &str) -> Vec<u8> {
    format!("START RequestId: {request_id} Version: {}\n", function.key.version).into_bytes()
}

/// END and REPORT, and what went wrong.
pub(super) fn end(function: &Function, request_id: &str, figures: &Figures, failure: Option<&Failure>) -> Vec<u8> {
    let Figures { duration, billed_ms, memory_mib, memory_peak, init, .. } = figures;
    let mut lines = Vec::with_capacity(320);
    // Writing to memory cannot fail.
    let _ = write!(
        lines,
        "END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {billed_ms} ms\t\
         Memory Size: {memory_mib} MB\tMax Memory Used: {} MB\t",
        ms(*duration),
        memory_peak.div_ceil(1 << 20),
    );
    if let Some(restore) = init.filter(|_| function.snap_start).map(ms) {
        let _ = write!(lines, "Restore Duration: {restore:.2} ms\tBilled Restore Duration: {:.0} ms\t", restore.ceil());
    } else if let Some(init) = init {
        let _ = write!(lines, "Init Duration: {:.2} ms\t", ms(*init));
    }
    if let Some(failure) = failure {
        let _ = write!(lines, "{}\n{}", failure.status(), failure.note);
    } else {
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::lines::tests::{figures, function};

    fn text(lines: Vec<u8>) -> String {
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_report_reads_like_one_of_awss() {
        assert_eq!(
            text(end(&function(), "r", &figures(Some(Duration::from_millis(7))), None)),
            "END RequestId: r\nREPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax \
             Memory Used: 31 MB\tInit Duration: 7.00 ms\t\n"
        );
        let late = Failure::timed_out("r", Duration::from_secs(3));
        let lines = text(end(&function(), "r", &figures(None), Some(&late)));
        assert!(lines.contains("Max Memory Used: 31 MB\tStatus: timeout\t\n"), "{lines}");
        assert!(lines.ends_with(" r Task timed out after 3.00 seconds\n\n"), "{lines}");
    }
}
