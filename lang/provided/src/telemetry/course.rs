//! The platform's own records: the initialisation, and each invocation from its start to its report, in AWS's words.
//!
//! They are as this process sees them; what is billed the gateway decides, and its REPORT is in the log.

use super::{Class, Telemetry};
use crate::config::Config;
use cfork::invocation::Invocation;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Instant;

struct Serving {
    id: String,
    begun: Instant,
    tracing: Option<Value>,
    /// How it ended, with which error, and its milliseconds.
    done: Option<(&'static str, Option<Value>, f64)>,
}

/// Where this instance is.
pub struct Course {
    config: Rc<Config>,
    begun: Instant,
    /// Until it was told.
    init_ms: Option<f64>,
    /// The most so far.
    memory_mib: u64,
    serving: Option<Serving>,
}

impl Course {
    pub fn begin(config: Rc<Config>, telemetry: &mut Telemetry) -> Self {
        let record = json!({
            "initializationType": config.initialization_type,
            "phase": "init",
            "functionName": config.function_name,
            "functionVersion": config.function_version,
            "runtimeVersion": config.runtime,
            "instanceId": config.log_stream,
            "instanceMaxMemory": u64::from(config.memory_mib) << 20,
        });
        telemetry.tell(Class::Platform, "platform.initStart", &record);
        Self { config, begun: Instant::now(), init_ms: None, memory_mib: 0, serving: None }
    }

    /// The initialisation is over.
    pub fn ready(&mut self, telemetry: &mut Telemetry) {
        let (kind, took) = (&self.config.initialization_type, milliseconds(self.begun));
        let done = json!({ "initializationType": kind, "phase": "init", "status": "success" });
        telemetry.tell(Class::Platform, "platform.initRuntimeDone", &done);
        let report = json!({
            "initializationType": kind, "phase": "init", "status": "success", "metrics": { "durationMs": took },
        });
        telemetry.tell(Class::Platform, "platform.initReport", &report);
        self.init_ms = Some(took);
    }

    pub fn start(&mut self, invocation: &Invocation<'_>, telemetry: &mut Telemetry) {
        if !telemetry.is_on() {
            return;
        }
        let trace = invocation.trace_id;
        let tracing = (!trace.is_empty()).then(|| json!({ "type": "X-Amzn-Trace-Id", "value": trace }));
        let id = invocation.request_id.to_owned();
        let mut record = json!({ "requestId": id, "version": self.config.function_version });
        add(&mut record, "tracing", tracing.clone());
        telemetry.tell(Class::Platform, "platform.start", &record);
        self.serving = Some(Serving { id, begun: Instant::now(), tracing, done: None });
    }

    /// The runtime has answered, or will not any more.
    pub fn done(&mut self, status: &'static str, error: Option<&str>, bytes: usize, telemetry: &mut Telemetry) {
        let Some(serving) = self.serving.as_mut().filter(|serving| serving.done.is_none()) else { return };
        let took = milliseconds(serving.begun);
        let error = error.map(Value::from);
        serving.done = Some((status, error.clone(), took));
        let mut record = json!({
            "requestId": serving.id, "status": status, "metrics": { "durationMs": took, "producedBytes": bytes },
        });
        add(&mut record, "errorType", error);
        add(&mut record, "tracing", serving.tracing.clone());
        telemetry.tell(Class::Platform, "platform.runtimeDone", &record);
    }

    /// Extensions are done with the invocation too.
    pub fn over(&mut self, memory_mib: u64, telemetry: &mut Telemetry) {
        let Some(Serving { id, tracing, done: Some((status, error, took)), .. }) = self.serving.take() else { return };
        self.memory_mib = self.memory_mib.max(memory_mib);
        telemetry.tell(Class::Platform, "platform.end", &json!({ "requestId": id }));
        let init = self.init_ms.take();
        let mut metrics = json!({
            "durationMs": took,
            "billedDurationMs": (took + init.unwrap_or(0.0)).ceil() as u64,
            "memorySizeMB": self.config.memory_mib,
            "maxMemoryUsedMB": self.memory_mib,
        });
        add(&mut metrics, "initDurationMs", init.map(Value::from));
        let mut record = json!({ "requestId": id, "status": status, "metrics": metrics });
        add(&mut record, "errorType", error);
        add(&mut record, "tracing", tracing);
        telemetry.tell(Class::Platform, "platform.report", &record);
    }

    /// Whether an invocation has been answered whose report is still to be told.
    pub fn owes_report(&self) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.done.is_some())
    }
}

fn add(record: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        record[name] = value;
    }
}

/// Since then, to the microsecond.
fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_micros() as f64) / 1000.0
}
