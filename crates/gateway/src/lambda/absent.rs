//! Resources that this node does not have: lists of them are empty, and one of them is not found. Every operation of
//! Lambda's that no other module has is in this table.

use super::fault::Fault;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::json;

pub const ROUTES: &[Route] = &[
    route!(GET "/2025-12-01/functions/*/durable-executions" ListDurableExecutionsByFunction => no_executions),
    route!(GET "/2025-12-01/durable-executions/*" GetDurableExecution => no_such_execution),
    route!(DELETE "/2025-12-01/durable-executions/*" DeleteDurableExecution => no_such_execution),
    route!(GET "/2025-12-01/durable-executions/*/history" GetDurableExecutionHistory => no_such_execution),
    route!(GET "/2025-12-01/durable-executions/*/state" GetDurableExecutionState => no_such_execution),
    route!(POST "/2025-12-01/durable-executions/*/checkpoint" CheckpointDurableExecution => no_such_execution),
    route!(POST "/2025-12-01/durable-executions/*/pause" PauseDurableExecution => no_such_execution),
    route!(POST "/2025-12-01/durable-executions/*/resume" ResumeDurableExecution => no_such_execution),
    route!(POST "/2025-12-01/durable-executions/*/stop" StopDurableExecution => no_such_execution),
    route!(POST "/2025-12-01/durable-execution-callbacks/*/succeed" SendDurableExecutionCallbackSuccess => no_such_callback),
    route!(POST "/2025-12-01/durable-execution-callbacks/*/fail" SendDurableExecutionCallbackFailure => no_such_callback),
    route!(POST "/2025-12-01/durable-execution-callbacks/*/heartbeat" SendDurableExecutionCallbackHeartbeat => no_such_callback),
];

/// Executions are those of durable functions, which this node does not run as such.
async fn no_executions(exchange: Exchange) -> Answer {
    super::name::of_path(&exchange)?.find(&exchange.gateway)?;
    Ok(answer::json(StatusCode::OK, &json!({ "DurableExecutions": [] })))
}

async fn no_such_execution(exchange: Exchange) -> Answer {
    Err(Fault::not_found(format!("Durable execution not found: {}", exchange.capture(0))))
}

async fn no_such_callback(exchange: Exchange) -> Answer {
    Err(Fault::not_found(format!("Callback not found: {}", exchange.capture(0))))
}
