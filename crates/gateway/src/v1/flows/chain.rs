//! Flows in their first form: chains, ordered lists of functions, each of which gets the result of the one before.
//!
//! What a chain names is looked up for every request, as it is for an invocation: aliases draw, and functions that are
//! gone by then are named in the refusal.

use super::{TIMEOUT_MAX, timeout};
use crate::gateway::Gateway;
use crate::http::{Response, answer};
use crate::lambda::{Fault, asked, name, scope};
use crate::route::{Answer, Exchange};
use crate::{delivery, spans};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::chain::{Flow, FlowOutcome, Stage};
use runtime::dispatch::{Call, InvokeError};
use runtime::registry::{Entry, Resource};
use sandbox::spec::Kind;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The most stages of a chain.
const STAGES_MAX: usize = 64;
/// Which stage has failed, counted from 1.
const FAILED_STAGE: HeaderName = HeaderName::from_static("x-lichen-failed-stage");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// What is kept of a chain, where it could run.
pub fn checked(exchange: &Exchange, written: &[String]) -> Result<Vec<Value>, Fault> {
    if !(2..=STAGES_MAX).contains(&written.len()) {
        let message = format!("A chain has 2 to {STAGES_MAX} functions; this one has {}.", written.len());
        return Err(Fault::invalid_parameter(message));
    }
    let mut chain = Vec::with_capacity(written.len());
    for written in written {
        let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
        let target = name::resolve(written.as_str().into(), None, scope)?;
        fits(&*target.find(&exchange.gateway)?)?;
        chain.push(Value::from(target.arn()));
    }
    Ok(chain)
}

/// Whether a function can be a stage.
fn fits(entry: &Entry) -> Result<(), Fault> {
    let refuse = |why: &str| Err(Fault::invalid_parameter(format!("{} cannot be in a chain: {why}", entry.id.arn())));
    match entry.function.kind {
        Kind::Provided => refuse("chains are of Python and Node.js functions without wrappers and extensions."),
        Kind::Wasm | Kind::Native => refuse("chains are of Python and Node.js functions, and this is a pure one."),
        _ if entry.is_per_tenant() => refuse("it has an instance per tenant."),
        _ => Ok(()),
    }
}

pub async fn invoke(mut exchange: Exchange, resource: &Resource) -> Answer {
    let flow = Arc::new(at_present(&exchange.gateway, resource)?);
    let payload = asked::payload(&mut exchange).await?;
    let trace_id = asked::trace_id(&exchange);
    let trace = HeaderValue::from_str(&trace_id).ok();
    let wants_spans = spans::wanted(&exchange);
    let request_id = std::mem::take(&mut exchange.id);
    let call = Call { request_id, payload, trace_id, accepted: exchange.accepted, ..Call::default() };
    let outcome = exchange.gateway.dispatcher.invoke_flow(flow.clone(), call).await?;
    let mut response = answered(&flow, &outcome);
    let headers = response.headers_mut();
    headers.extend(trace.map(|trace| (TRACE_ID, trace)));
    if wants_spans {
        spans::tell_of_flow(&mut response, &outcome);
    }
    Ok(response)
}

/// Runs a chain for the queue: the answer, and whether it is an error object.
pub async fn deliver(gateway: &Gateway, resource: &Resource, call: Call) -> Result<(Bytes, bool), Fault> {
    let flow = Arc::new(at_present(gateway, resource)?);
    let outcome: Result<FlowOutcome, InvokeError> = gateway.dispatcher.invoke_flow(flow.clone(), call).await;
    let outcome = outcome?;
    Ok((body(&flow, &outcome), outcome.failed.is_some()))
}

fn answered(flow: &Flow, outcome: &FlowOutcome) -> Response {
    let mut response = answer::json_text(StatusCode::OK, body(flow, outcome));
    if let Some(failed) = outcome.failed {
        let headers = response.headers_mut();
        headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
        headers.insert(FAILED_STAGE, HeaderValue::from(failed + 1));
    }
    response
}

/// The answer; an error says at which stage of the chain.
fn body(flow: &Flow, outcome: &FlowOutcome) -> Bytes {
    let Some(failed) = outcome.failed else { return outcome.body.clone() };
    // What a function fails with need not be an object, or JSON at all.
    let Ok(mut error) = serde_json::from_slice::<Map<String, Value>>(&outcome.body) else {
        return outcome.body.clone();
    };
    error.insert("stage".to_owned(), json!(failed + 1));
    error.insert("function".to_owned(), json!(flow.stages[failed].arn));
    serde_json::to_vec(&error).map_or(outcome.body.clone(), Bytes::from)
}

/// A flow with its functions in their present state.
fn at_present(gateway: &Gateway, resource: &Resource) -> Result<Flow, Fault> {
    let mut stages = Vec::new();
    for (at, arn) in chain(resource).enumerate() {
        let entry = delivery::function(gateway, arn).and_then(|(record, qualifier)| name::pick(&record, &qualifier));
        let entry = entry.ok_or_else(|| {
            Fault::not_found(format!("Function not found: {arn}, stage {} of {}", at + 1, resource.id.arn()))
        })?;
        fits(&entry)?;
        stages.push(Stage { function: entry.function.clone(), arn: arn.to_owned() });
    }
    let own = stages.iter().map(|stage| stage.function.timeout_s).fold(0, u32::saturating_add).min(TIMEOUT_MAX);
    let seconds = timeout(resource).unwrap_or(own);
    Ok(Flow { id: resource.id.arn(), stages, timeout: Duration::from_secs(seconds.into()) })
}

pub fn chain(resource: &Resource) -> impl Iterator<Item = &str> {
    let chain = resource.value.get("chain").and_then(Value::as_array);
    chain.into_iter().flatten().filter_map(Value::as_str)
}
