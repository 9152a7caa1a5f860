//! Lambda's words for what goes wrong with a function while it runs.

use super::counters::Fault;
use bytes::Bytes;
use cfork::invocation::Cause;
use sandbox::spec::End;
use std::time::Duration;

const CANCELLED: &str = "Pure.Cancelled";

/// How a function failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub fault: Fault,
    /// `Runtime.ExitError` and the like; empty where the function has made its error object itself.
    pub kind: &'static str,
    /// Lambda's error object.
    pub body: Bytes,
    /// What the log says of it.
    pub note: String,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorObject<'a> {
    error_type: &'a str,
    error_message: &'a str,
}

impl Failure {
    fn new(fault: Fault, kind: &'static str, message: &str, note: String) -> Self {
        let object = ErrorObject { error_type: kind, error_message: message };
        // Two strings cannot fail to be written.
        let body = serde_json::to_vec(&object).unwrap_or_default().into();
        Self { fault, kind, body, note }
    }

    /// The function has said so itself.
    pub fn told(fault: Fault, body: Bytes) -> Self {
        Self { fault, kind: "", body, note: String::new() }
    }

    fn exit(fault: Fault, kind: &'static str, request_id: &str, why: &str) -> Self {
        let message = format!("RequestId: {request_id} Error: {why}");
        let note = format!("{message}\n{kind}\n");
        Self::new(fault, kind, &message, note)
    }

    /// An engine has said so of a pure function.
    pub fn of_a_run(cause: Cause, request_id: &str, limit: Duration, body: Bytes) -> Self {
        #[derive(Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Said {
            error_type: String,
            error_message: String,
        }
        let (fault, kind) = match cause {
            Cause::Function => (Fault::Unhandled, ""),
            Cause::Cancelled => (Fault::Unhandled, CANCELLED),
            Cause::Timeout => (Fault::TimedOut, "Pure.Timeout"),
            Cause::OutOfMemory => (Fault::OutOfMemory, "Pure.OutOfMemory"),
            Cause::Engine | Cause::Gone | Cause::Ended => (Fault::Exited, "Pure.Engine"),
        };
        let note = match cause {
            Cause::Timeout => Self::timed_out(request_id, limit).note,
            _ => {
                let said: Said = serde_json::from_slice(&body).unwrap_or_default();
                format!("RequestId: {request_id} Error: {} ({})\n", said.error_message, said.error_type)
            }
        };
        Self { fault, kind, body, note }
    }

    /// Nobody waits for a run any more, and it was ended.
    pub fn cancelled(request_id: &str) -> Self {
        let why = "nobody waits for the answer any more: the run was ended";
        Self::exit(Fault::Unhandled, CANCELLED, request_id, why)
    }

    /// No answer within `timeout`.
    pub fn timed_out(request_id: &str, timeout: Duration) -> Self {
        let why = format!("Task timed out after {:.2} seconds", timeout.as_secs_f64());
        let note = format!("{} {request_id} {why}\n\n", api::time::rfc3339(api::time::now_ms()));
        let message = format!("RequestId: {request_id} Error: {why}");
        Self::new(Fault::TimedOut, "Sandbox.Timedout", &message, note)
    }

    /// Its process is gone.
    pub fn ended(request_id: &str, end: End) -> Self {
        let (fault, kind, why) = match end {
            End::Exit(0) => {
                (Fault::Exited, "Runtime.ExitError", "Runtime exited without providing a reason".to_owned())
            }
            End::Exit(status) => {
                (Fault::Exited, "Runtime.ExitError", format!("Runtime exited with error: exit status {status}"))
            }
            End::Signal(signal) => {
                (Fault::Exited, "Runtime.ExitError", format!("Runtime exited with error: signal: {}", name(signal)))
            }
            End::OutOfMemory => {
                (Fault::OutOfMemory, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed".to_owned())
            }
            End::Lost => (Fault::Exited, "Runtime.ExitError", "Runtime was lost with its worker".to_owned()),
        };
        Self::exit(fault, kind, request_id, &why)
    }

    /// The engine that ran it is gone, with all that it had to do.
    pub fn engine_ended(request_id: &str, end: End) -> Self {
        match end {
            End::OutOfMemory => {
                let why = "The engine that ran the function was ended: more memory than there is for it was in use";
                Self::exit(Fault::OutOfMemory, "Pure.OutOfMemory", request_id, why)
            }
            End::Exit(_) | End::Signal(_) | End::Lost => {
                let how = match end {
                    End::Signal(signal) => format!("was ended by signal {signal} ({})", name(signal)),
                    End::Exit(status) => format!("has ended with exit status {status}"),
                    End::OutOfMemory | End::Lost => "has ended".to_owned(),
                };
                let why = format!("The engine that ran the function {how}, and the run with it. Try again");
                Self::exit(Fault::Exited, "Pure.Engine", request_id, &why)
            }
        }
    }

    /// It has said to the platform what makes no sense.
    pub fn broken(request_id: &str) -> Self {
        let why = "Runtime broke its channel to the platform and was ended";
        Self::exit(Fault::Broken, "Runtime.ExitError", request_id, why)
    }

    /// It has closed the descriptors by which it speaks to the platform.
    pub fn mute(request_id: &str) -> Self {
        let why = "Runtime closed its descriptors and was ended";
        Self::exit(Fault::Broken, "Runtime.ExitError", request_id, why)
    }

    /// The stage before it could not hand it the request.
    pub fn unreachable(request_id: &str, reason: &str) -> Self {
        Self::exit(Fault::Exited, "Runtime.ExitError", request_id, &format!("Runtime could not be reached: {reason}"))
    }

    /// It has printed too much.
    pub fn log_limit(request_id: &str, mib: u64) -> Self {
        let why = format!(
            "the function printed more than {mib} MiB in one invocation and was ended: print less, or raise \
             log_max_mib in the section [dispatch] of lichen.toml"
        );
        Self::exit(Fault::LogLimit, "Runtime.LogLimitExceeded", request_id, &why)
    }

    /// It has answered with too much.
    pub fn response_too_large(limit: usize) -> Self {
        let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
        let note = format!("{message}\n");
        Self::new(Fault::ResponseTooLarge, "Function.ResponseSizeTooLarge", &message, note)
    }

    /// What REPORT says of it after the figures.
    pub fn status(&self) -> String {
        match self.fault {
            Fault::Unhandled | Fault::ResponseTooLarge => String::new(),
            Fault::TimedOut => "Status: timeout\t".into(),
            Fault::Init => format!("Status: error\tError Type: {}\t", self.init_type()),
            _ => format!("Status: error\tError Type: {}\t", self.kind),
        }
    }
}

/// What records say of it.
impl Failure {
    pub fn json_status(&self) -> &'static str {
        match self.fault {
            Fault::TimedOut => "timeout",
            Fault::Unhandled | Fault::ResponseTooLarge => "error",
            _ => "failure",
        }
    }

    pub fn json_type(&self) -> Option<String> {
        match self.fault {
            Fault::TimedOut | Fault::Unhandled => None,
            Fault::Init => Some(self.init_type()),
            _ => Some(self.kind.to_owned()),
        }
    }

    /// What a function that could not be loaded says of it, where that is one of Lambda's own words for it.
    fn init_type(&self) -> String {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Told {
            error_type: String,
        }
        let is_word =
            |word: &str| word.starts_with(char::is_uppercase) && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_known = |kind: &String| {
            let word = kind.strip_prefix("Runtime.").or_else(|| kind.strip_prefix("Function."));
            word.is_some_and(is_word)
        };
        let told = serde_json::from_slice::<Told>(&self.body).ok().map(|told| told.error_type);
        told.filter(is_known).unwrap_or_else(|| "Runtime.Unknown".to_owned())
    }
}

/// A signal, as AWS's runtime names it.
fn name(signal: i32) -> String {
    let known = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return other.to_string(),
    };
    known.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: &Failure) -> &str {
        std::str::from_utf8(&failure.body).unwrap()
    }

    #[test]
    fn a_function_that_cannot_be_loaded_names_lambdas_kinds_only() {
        let status = |kind: &str| {
            let body = serde_json::json!({ "errorType": kind }).to_string();
            Failure::told(Fault::Init, body.into()).status()
        };
        assert_eq!(status("Runtime.ImportModuleError"), "Status: error\tError Type: Runtime.ImportModuleError\t");
        for own in ["ValueError", "Runtime.", "Runtime.A\nREPORT", "Runtime.lower", ""] {
            assert_eq!(status(own), "Status: error\tError Type: Runtime.Unknown\t", "{own}");
        }
    }

    #[test]
    fn errors_are_worded_as_lambda_words_them() {
        assert_eq!(
            text(&Failure::timed_out("r", Duration::from_secs(1))),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r Error: Task timed out after 1.00 seconds"}"#
        );
        assert_eq!(
            text(&Failure::ended("r", End::Exit(127))),
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited with error: exit status 127"}"#
        );
        assert_eq!(
            text(&Failure::ended("r", End::Exit(0))),
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited without providing a reason"}"#
        );
        assert!(text(&Failure::ended("r", End::Signal(11))).ends_with(r#"signal: segmentation fault"}"#));
        assert_eq!(
            text(&Failure::ended("r", End::OutOfMemory)),
            r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: r Error: Runtime exited with error: signal: killed"}"#
        );
        assert_eq!(
            text(&Failure::response_too_large(6_291_556)),
            r#"{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}"#
        );
    }
}
