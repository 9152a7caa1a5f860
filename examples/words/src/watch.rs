//! An extension: prints what it is told of a function's invocations, of its records, and of its end.

#![forbid(unsafe_code)]

use lambda_extension::{Error, Extension, LambdaEvent, LambdaTelemetry, LambdaTelemetryRecord, NextEvent};
use lambda_extension::{SharedService, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Extension::new()
        .with_events(&["INVOKE", "SHUTDOWN"])
        .with_events_processor(service_fn(on_event))
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_processor(SharedService::new(service_fn(on_records)))
        .run()
        .await
}

async fn on_event(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(event) => println!("watch: invoke {}", event.request_id),
        NextEvent::Shutdown(event) => println!("watch: shutdown {}", event.shutdown_reason),
    }
    Ok(())
}

async fn on_records(records: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for LambdaTelemetry { record, .. } in records {
        match record {
            LambdaTelemetryRecord::Function(line) => println!("watch: printed {}", line.trim_end()),
            record => println!("watch: record {record:?}"),
        }
    }
    Ok(())
}
