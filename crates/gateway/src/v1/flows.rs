//! Flows, in their first form: chains, ordered lists of functions, each of which gets the result of the one before.
//!
//! What a chain names is looked up for every request, as it is for an invocation: aliases draw, and functions that are
//! gone by then are named in the refusal.

use crate::gateway::Gateway;
use crate::http::answer;
use crate::lambda::tags::change_resource;
use crate::lambda::{Fault, asked, name, scope};
use crate::route::{Answer, Exchange};
use crate::{delivery, spans};
use api::node::{Flow as Shown, FlowSpec};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::Call;
use runtime::dispatch::chain::{Flow, FlowOutcome, Stage};
use runtime::registry::{Entry, Resource, ResourceId, ResourceKind};
use sandbox::spec::Kind;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The most stages of a chain.
const STAGES_MAX: usize = 64;
const NAME_MAX: usize = 64;
/// Seconds, as of a function.
const TIMEOUT_MAX: u32 = 900;
/// Which stage has failed, counted from 1.
const FAILED_STAGE: HeaderName = HeaderName::from_static("x-lichen-failed-stage");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Makes a flow, or changes it.
pub async fn put(mut exchange: Exchange) -> Answer {
    let gateway = exchange.gateway.clone();
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, gateway.config.functions.request_max, 1).await?,
        None => Bytes::new(),
    };
    let spec: FlowSpec = serde_json::from_slice(&body)
        .map_err(|error| Fault::invalid_content(format!("A flow is {{\"name\": …, \"chain\": […]}}: {error}")))?;
    let value = checked(&exchange, &spec)?;
    let made = change_resource(&exchange, id(&exchange, &spec.name), move |_| Ok(Some(value))).await?;
    let made = made.ok_or_else(|| Fault::unavailable("The flow has been deleted meanwhile."))?;
    // Requests from now on are for the new state; sets of the old one that are idle end.
    gateway.dispatcher.withdraw_flow(&made.id.arn());
    Ok(answer::json(StatusCode::OK, &shown(&made)))
}

/// What is kept of a flow, where it could run.
fn checked(exchange: &Exchange, spec: &FlowSpec) -> Result<Map<String, Value>, Fault> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if spec.name.is_empty() || spec.name.len() > NAME_MAX || !spec.name.bytes().all(is_name) {
        let rule = format!("1 to {NAME_MAX} letters, digits, hyphens and underscores");
        return Err(Fault::invalid_parameter(format!("A flow's name has {rule}; {:?} has not.", spec.name)));
    }
    if !(2..=STAGES_MAX).contains(&spec.chain.len()) {
        let message = format!("A chain has 2 to {STAGES_MAX} functions; this one has {}.", spec.chain.len());
        return Err(Fault::invalid_parameter(message));
    }
    if spec.timeout_s.is_some_and(|seconds| !(1..=TIMEOUT_MAX).contains(&seconds)) {
        return Err(Fault::invalid_parameter(format!("`timeout_s` is 1 to {TIMEOUT_MAX}.")));
    }
    let mut chain = Vec::with_capacity(spec.chain.len());
    for written in &spec.chain {
        let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
        let target = name::resolve(written.as_str().into(), None, scope)?;
        fits(&*target.find(&exchange.gateway)?)?;
        chain.push(Value::from(target.arn()));
    }
    let mut value = Map::from_iter([("chain".to_owned(), chain.into())]);
    value.extend(spec.timeout_s.map(|seconds| ("timeout_s".to_owned(), seconds.into())));
    Ok(value)
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

pub async fn list(exchange: Exchange) -> Answer {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let flows = exchange.gateway.registry.resources(&scope.account, &scope.region, ResourceKind::Flow);
    Ok(answer::json(StatusCode::OK, &flows.iter().map(|flow| shown(flow)).collect::<Vec<_>>()))
}

pub async fn get(exchange: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &shown(&*found(&exchange)?)))
}

pub async fn delete(exchange: Exchange) -> Answer {
    let flow = found(&exchange)?;
    change_resource(&exchange, flow.id.clone(), |_| Ok(None)).await?;
    exchange.gateway.dispatcher.withdraw_flow(&flow.id.arn());
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub async fn invoke(mut exchange: Exchange) -> Answer {
    let resource = found(&exchange)?;
    let flow = Arc::new(at_present(&exchange.gateway, &resource)?);
    let payload = asked::payload(&mut exchange).await?;
    let trace_id = asked::trace_id(&exchange);
    let trace = HeaderValue::from_str(&trace_id).ok();
    let wants_spans = spans::wanted(&exchange);
    let request_id = std::mem::take(&mut exchange.id);
    let call = Call { request_id, payload, trace_id, accepted: exchange.accepted, ..Call::default() };
    let outcome = exchange.gateway.dispatcher.invoke_flow(flow.clone(), call).await?;
    let mut response = answer::json_text(StatusCode::OK, body(&flow, &outcome));
    let headers = response.headers_mut();
    headers.extend(trace.map(|trace| (TRACE_ID, trace)));
    if let Some(failed) = outcome.failed {
        headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
        headers.insert(FAILED_STAGE, HeaderValue::from(failed + 1));
    }
    if wants_spans {
        spans::tell_of_flow(&mut response, &outcome);
    }
    Ok(response)
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

fn chain(resource: &Resource) -> impl Iterator<Item = &str> {
    let chain = resource.value.get("chain").and_then(Value::as_array);
    chain.into_iter().flatten().filter_map(Value::as_str)
}

fn timeout(resource: &Resource) -> Option<u32> {
    resource.value.get("timeout_s")?.as_u64()?.try_into().ok()
}

fn found(exchange: &Exchange) -> Result<Arc<Resource>, Fault> {
    let id = id(exchange, &exchange.capture(0));
    exchange.gateway.registry.resource(&id).ok_or_else(|| Fault::not_found(format!("Flow not found: {}", id.arn())))
}

fn id(exchange: &Exchange, name: &str) -> ResourceId {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let (account, region) = (scope.account.into_owned(), scope.region.into_owned());
    ResourceId { account, region, kind: ResourceKind::Flow, name: name.to_owned() }
}

fn shown(flow: &Resource) -> Shown {
    Shown {
        account: flow.id.account.clone(),
        region: flow.id.region.clone(),
        name: flow.id.name.clone(),
        arn: flow.id.arn(),
        chain: chain(flow).map(str::to_owned).collect(),
        timeout_s: timeout(flow),
        modified: flow.modified_ms,
    }
}
