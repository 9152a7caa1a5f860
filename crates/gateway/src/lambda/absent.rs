//! Resources that this node does not have: lists of them are empty, one of them is not found, and whoever would make one is
//! told that it cannot be made here. Every operation of Lambda's that no other module has is in this table.

use super::fault::Fault;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::json;

pub const ROUTES: &[Route] = &[
    route!(GET "/2020-04-22/code-signing-configs" ListCodeSigningConfigs => no_signing_configs),
    route!(POST "/2020-04-22/code-signing-configs" CreateCodeSigningConfig => no_signing),
    route!(GET "/2020-04-22/code-signing-configs/*" GetCodeSigningConfig => no_such_signing_config),
    route!(PUT "/2020-04-22/code-signing-configs/*" UpdateCodeSigningConfig => no_such_signing_config),
    route!(DELETE "/2020-04-22/code-signing-configs/*" DeleteCodeSigningConfig => no_such_signing_config),
    route!(GET "/2020-04-22/code-signing-configs/*/functions" ListFunctionsByCodeSigningConfig => no_such_signing_config),
    route!(GET "/2025-11-30/capacity-providers/*/function-versions" ListFunctionVersionsByCapacityProvider => no_such_provider),
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
    route!(GET "/2025-11-30/capacity-providers" ListCapacityProviders => no_providers),
    route!(POST "/2025-11-30/capacity-providers" CreateCapacityProvider => no_capacity),
    route!(GET "/2025-11-30/capacity-providers/*" GetCapacityProvider => no_such_provider),
    route!(PUT "/2025-11-30/capacity-providers/*" UpdateCapacityProvider => no_such_provider),
    route!(DELETE "/2025-11-30/capacity-providers/*" DeleteCapacityProvider => no_such_provider),
];

async fn no_signing_configs(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "CodeSigningConfigs": [] })))
}

async fn no_providers(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "CapacityProviders": [] })))
}

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

async fn no_such_signing_config(exchange: Exchange) -> Answer {
    let message = format!("The Lambda code signing configuration {} can not be found.", exchange.capture(0));
    Err(Fault::not_found(message))
}

async fn no_such_provider(exchange: Exchange) -> Answer {
    Err(Fault::not_found(format!("Capacity provider not found: {}", exchange.capture(0))))
}

async fn no_signing(_: Exchange) -> Answer {
    refused("Code is not signed on this node, and so no code signing configuration can be made. Deploy without one.")
}

async fn no_capacity(_: Exchange) -> Answer {
    refused("This node is all the capacity that there is: no capacity provider was made. Deploy without one.")
}

fn refused(why: &str) -> Answer {
    Err(Fault::not_implemented(why))
}
