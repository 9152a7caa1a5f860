//! Runs of flows: for somebody who waits, through either API, and for the queue.
//!
//! A run that is not waited for is accepted when it is on disk, as asynchronous invocations are: should the node be killed,
//! it runs again, under the same id. What it came to is in memory, and does not outlive the node.

use super::text::{self, Ready, Text};
use super::{chain, found};
use crate::gateway::Gateway;
use crate::http::{Response, answer};
use crate::lambda::{Fault, asked, event, name, scope};
use crate::route::{Answer, Exchange};
use crate::v1::inputs::{self, Inputs};
use crate::v1::outputs;
use api::lambda::LATEST;
use bytes::Bytes;
use flow::Program;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::Call;
use runtime::flow::{Order, RunError, State};
use runtime::queue::{Event, Performed};
use runtime::registry::{Resource, ResourceId, ResourceKind};
use sets::{Limits, Sets};
use std::sync::Arc;

const RUN: HeaderName = HeaderName::from_static("x-lichen-run");

/// `POST /v1/flows/NAME/invoke`.
pub async fn invoke(mut exchange: Exchange) -> Answer {
    let resource = found(&exchange)?;
    let wants_async = exchange.query("async").is_some() || exchange.header("x-amz-invocation-type") == Some("Event");
    if wants_async {
        let id = accept(&mut exchange, &resource).await?;
        let body = serde_json::json!({ "run": id, "flow": resource.id.name });
        return Ok(with_run(answer::json(StatusCode::ACCEPTED, &body), &id));
    }
    let Some(text) = Text::of(&resource) else { return chain::invoke(exchange, &resource).await };
    let ready = text::ready(&exchange.gateway, &resource, &text)?;
    let inputs = body(&mut exchange).await?.into_sets(first(&ready.program));
    let (id, result) = run(&mut exchange, &resource, ready, inputs).await;
    Ok(with_run(answered(result, |sets| outputs::answer(&exchange, sets))?, &id))
}

/// Lambda's `Invoke` by the name of a flow: JSON in, JSON out, as it is with functions.
pub async fn invoke_as_function(mut exchange: Exchange, resource: &Resource) -> Answer {
    let Some(text) = Text::of(resource) else { return chain::invoke(exchange, resource).await };
    let ready = text::ready(&exchange.gateway, resource, &text)?;
    let inputs = sets_of(&ready.program, asked::payload(&mut exchange).await?)?;
    let (id, result) = run(&mut exchange, resource, ready, inputs).await;
    let mut response = answered(result, |sets| answer::json_text(StatusCode::OK, outputs::json(&sets)))?;
    response.headers_mut().insert("x-amz-executed-version", HeaderValue::from_static(LATEST));
    Ok(with_run(response, &id))
}

/// The flow that a request to invoke a function means, where there is no such function: by its name, its own ARN, or a
/// name that a function of its name would have. Flows have no versions and no aliases.
pub fn meant(exchange: &Exchange) -> Option<Arc<Resource>> {
    let text = exchange.capture(0);
    let qualifier = exchange.query("Qualifier");
    let is_latest = |qualifier: Option<&str>| qualifier.is_none_or(|qualifier| qualifier == LATEST);
    if let Some((_, name)) = text.rsplit_once(":flow:") {
        let flow = text::named(exchange, name)?;
        return (is_latest(qualifier.as_deref()) && flow.id.arn() == text).then_some(flow);
    }
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let own = scope.account.clone();
    let target = name::resolve(text, qualifier, scope).ok()?;
    let is_meant = is_latest(target.qualifier.as_deref()) && target.account == own;
    is_meant.then(|| text::named(exchange, &target.name)).flatten()
}

async fn run(
    exchange: &mut Exchange,
    resource: &Resource,
    ready: Ready,
    inputs: Sets<Bytes>,
) -> (String, Result<Sets<Bytes>, RunError>) {
    let Ready { program, performer, timeout } = ready;
    let id = std::mem::take(&mut exchange.id);
    let trace_id = asked::trace_id(exchange);
    let order = Order { id: id.clone(), flow: resource.id.arn(), trace_id, timeout, keeps: false };
    // What is dropped when the client goes away is the run.
    (id, exchange.gateway.flows.run(program, performer, inputs, order).await)
}

/// A flow's inputs may be as much as one run may hold, where the client says beforehand how much they are: only then is
/// no more memory set aside for them than they take.
async fn body(exchange: &mut Exchange) -> Result<Inputs, Fault> {
    let config = &exchange.gateway.config;
    let announced = exchange.body.as_ref().is_some_and(|body| body.announced().is_some());
    let (run, event) = (config.flows.run_mib << 20, config.dispatch.payload_max);
    let limit = if announced { usize::try_from(run).unwrap_or(usize::MAX).max(event) } else { event };
    inputs::read(exchange, limit).await
}

/// The set that a body goes to which is no sets. A flow without inputs has no use for it.
fn first(program: &Program) -> Option<&str> {
    program.main().inputs.first().map(|(name, _)| name.as_str())
}

fn sets_of(program: &Program, payload: Bytes) -> Result<Sets<Bytes>, Fault> {
    if !sets::json::is_sets(&payload) {
        return Ok(Inputs::Body(payload.into()).into_sets(first(program)));
    }
    sets::json::decode(&payload, Limits::default()).map_err(|error| Fault::invalid_content(error.to_string()))
}

/// What a run came to: its outputs, an error object, or a refusal.
pub fn answered(
    result: Result<Sets<Bytes>, RunError>,
    form: impl FnOnce(Sets<Bytes>) -> Response,
) -> Result<Response, Fault> {
    match result {
        Ok(outputs) => Ok(form(outputs)),
        Err(error) if error.is_busy() => Err(Fault::busy(error.to_string())),
        Err(error @ RunError::UnknownSet(_)) => Err(Fault::invalid_content(error.to_string())),
        Err(error) => Ok(failed(error.object())),
    }
}

pub fn failed(object: Bytes) -> Response {
    let mut response = answer::json_text(StatusCode::OK, object);
    response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    response
}

fn with_run(mut response: Response, id: &str) -> Response {
    response.headers_mut().extend(HeaderValue::from_str(id).ok().map(|id| (RUN, id)));
    response
}

/// Takes a run into the queue: its id.
pub async fn accept(exchange: &mut Exchange, resource: &Resource) -> Result<String, Fault> {
    let payload = match Text::of(resource) {
        None => asked::payload(exchange).await?,
        Some(text) => {
            let program = exchange.gateway.programs.get(&exchange.gateway, resource, &text)?;
            let inputs = inputs::read(exchange, exchange.gateway.config.dispatch.payload_max).await?;
            // The queue keeps JSON.
            sets::json::encode(&inputs.into_sets(first(&program))).into()
        }
    };
    let (id, arn) = (exchange.id.clone(), resource.id.arn());
    let gateway = exchange.gateway.clone();
    gateway.flows.runs.enter(&id, &arn, true);
    let accepted = event::accept(exchange, arn, payload, String::new()).await;
    if accepted.is_err() {
        gateway.flows.runs.refuse(&id);
    }
    accepted.map(|()| id)
}

/// The name of a flow's ARN.
pub fn is_flow(target: &str) -> Option<ResourceId> {
    let parts: Vec<&str> = target.split(':').collect();
    let ["arn", _, "lambda", region, account, "flow", name] = parts[..] else { return None };
    let [account, region, name] = [account, region, name].map(str::to_owned);
    Some(ResourceId { account, region, kind: ResourceKind::Flow, name })
}

/// Runs what the queue has.
pub async fn deliver(gateway: &Arc<Gateway>, id: &ResourceId, event: Event) -> Performed {
    let runs = &gateway.flows.runs;
    let run = runs.enter(&event.request_id, &event.target, true);
    let result = match gateway.registry.resource(id) {
        Some(resource) => deliver_to(gateway, &resource, event).await,
        None => Err(Refused::Forever(format!("Flow not found: {}", id.arn()))),
    };
    match result {
        Ok((body, failed)) => Performed::Answered { body, failed, version: String::new() },
        Err(Refused::Busy) => Performed::Throttled,
        Err(Refused::Forever(reason)) => {
            runs.end(&run, State::Failed(runtime::flow::shard::object("Flow.NotRun", &reason)));
            Performed::Impossible { reason }
        }
    }
}

enum Refused {
    /// Nothing has run: it waits in its place.
    Busy,
    Forever(String),
}

async fn deliver_to(gateway: &Arc<Gateway>, resource: &Resource, event: Event) -> Result<(Bytes, bool), Refused> {
    let forever = |fault: Fault| Refused::Forever(fault.message().to_owned());
    let Some(text) = Text::of(resource) else { return deliver_chain(gateway, resource, event).await };
    let Ready { program, performer, timeout } = text::ready(gateway, resource, &text).map_err(forever)?;
    let inputs = sets_of(&program, event.payload).map_err(forever)?;
    let Event { request_id: id, target: flow, trace_id, .. } = event;
    let order = Order { id, flow, trace_id, timeout, keeps: true };
    match gateway.flows.run(program, performer, inputs, order).await {
        Ok(outputs) => Ok((outputs::json(&outputs), false)),
        Err(error) if error.is_busy() => Err(Refused::Busy),
        Err(error) => Ok((error.object(), true)),
    }
}

async fn deliver_chain(gateway: &Arc<Gateway>, resource: &Resource, event: Event) -> Result<(Bytes, bool), Refused> {
    let run = gateway.flows.runs.enter(&event.request_id, &event.target, true);
    let call =
        Call { request_id: event.request_id, payload: event.payload, trace_id: event.trace_id, ..Call::default() };
    match chain::deliver(gateway, resource, call).await {
        Ok((body, failed)) => {
            let answer = vec![sets::Set::new("answer", vec![sets::Item::new("answer", 0, body.clone())])];
            let state = if failed { State::Failed(body.clone()) } else { State::Done(Some(Arc::new(answer))) };
            gateway.flows.runs.end(&run, state);
            Ok((body, failed))
        }
        Err(fault) if fault.may_pass() => Err(Refused::Busy),
        Err(fault) => Err(Refused::Forever(fault.message().to_owned())),
    }
}
