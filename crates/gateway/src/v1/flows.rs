//! Flows: put, listed, shown, removed.
//!
//! | module | what it is |
//! |---|---|
//! | [`text`] | flows in the flow language: checked, kept, made ready to run |
//! | [`known`] | what they may apply |
//! | [`chain`] | flows that are ordered lists of functions |
//! | [`invoke`] | a run that somebody waits for, or that the queue has |
//! | [`runs`] | what became of runs |

mod chain;
pub mod invoke;
mod known;
pub mod runs;
pub mod text;

use crate::gateway::Gateway;
use crate::http::answer;
use crate::lambda::tags::change_resource;
use crate::lambda::{Fault, scope};
use crate::route::{Answer, Exchange};
use api::node::{Flow as Shown, FlowSpec};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::registry::{Resource, ResourceId, ResourceKind};
use serde_json::{Map, Value};
use std::sync::Arc;
use text::Text;

const NAME_MAX: usize = 64;
/// Seconds, as of a function.
const TIMEOUT_MAX: u32 = 900;
/// Bytes of a flow with the files that it names.
const SPEC_MAX: usize = 8 << 20;

/// Makes a flow, or changes it.
pub async fn put(mut exchange: Exchange) -> Answer {
    let spec = spec(&mut exchange).await?;
    let (mut value, mut warnings) = (Map::new(), Vec::new());
    match &spec.text {
        Some(text) => match text::checked(&exchange, &spec, text) {
            Ok(checked) => (value, warnings) = checked,
            Err(text::Refusal::Fault(fault)) => return Err(fault),
            Err(text::Refusal::Text(checked)) => return Ok(text::refused(&checked)),
        },
        None => {
            value.insert("chain".to_owned(), chain::checked(&exchange, &spec.chain)?.into());
        }
    }
    value.insert("revision".to_owned(), uuid::Uuid::new_v4().to_string().into());
    value.extend(spec.timeout_s.map(|seconds| ("timeout_s".to_owned(), seconds.into())));
    let (gateway, name) = (exchange.gateway.clone(), id(&exchange, &spec.name));
    let wanted = name.clone();
    let made = change_resource(&exchange, name, move |_| free(&gateway, &wanted).map(|()| Some(value))).await?;
    let made = made.ok_or_else(|| Fault::unavailable("The flow has been deleted meanwhile."))?;
    // Requests from now on are for the new state; sets of the old one that are idle end.
    exchange.gateway.dispatcher.withdraw_flow(&made.id.arn());
    exchange.gateway.programs.forget();
    Ok(answer::json(StatusCode::OK, &Shown { warnings, ..shown(&made) }))
}

/// What a text would come to; nothing is kept.
pub async fn check(mut exchange: Exchange) -> Answer {
    let gateway = exchange.gateway.clone();
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, flow::language::LONGEST, 1).await?,
        None => Bytes::new(),
    };
    let text = std::str::from_utf8(&body).map_err(|_| Fault::invalid_content("The text of a flow is UTF-8."))?;
    let checked = flow::check(text, None, &Text::known(&exchange, None));
    Ok(answer::json(StatusCode::OK, &checked.diagnostics))
}

async fn spec(exchange: &mut Exchange) -> Result<FlowSpec, Fault> {
    let gateway = exchange.gateway.clone();
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, SPEC_MAX, 1).await?,
        None => Bytes::new(),
    };
    let spec: FlowSpec = serde_json::from_slice(&body).map_err(|error| {
        let forms = "{\"name\": …, \"text\": …} or {\"name\": …, \"chain\": […]}";
        Fault::invalid_content(format!("A flow is {forms}: {error}"))
    })?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if spec.name.is_empty() || spec.name.len() > NAME_MAX || !spec.name.bytes().all(is_name) {
        let rule = format!("1 to {NAME_MAX} letters, digits, hyphens and underscores");
        return Err(Fault::invalid_parameter(format!("A flow's name has {rule}; {:?} has not.", spec.name)));
    }
    if spec.text.is_some() && !spec.chain.is_empty() {
        return Err(Fault::invalid_parameter("A flow is a `text` or a `chain`, not both."));
    }
    if spec.timeout_s.is_some_and(|seconds| !(1..=TIMEOUT_MAX).contains(&seconds)) {
        return Err(Fault::invalid_parameter(format!("`timeout_s` is 1 to {TIMEOUT_MAX}.")));
    }
    free(&gateway, &id(exchange, &spec.name))?;
    Ok(spec)
}

/// Functions and flows share their names.
fn free(gateway: &Gateway, id: &ResourceId) -> Result<(), Fault> {
    match gateway.registry.record(&id.account, &id.region, &id.name) {
        None => Ok(()),
        Some(_) => Err(Fault::conflict(format!(
            "There is a function {:?}: a flow cannot have the same name. Choose another one, or delete the function.",
            id.name
        ))),
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

/// The flow as a picture.
pub async fn graph(exchange: Exchange) -> Answer {
    let flow = found(&exchange)?;
    let Some(text) = Text::of(&flow) else {
        return Err(Fault::invalid_parameter("This flow is a chain: its functions run one after the other."));
    };
    let program = exchange.gateway.programs.get(&exchange.gateway, &flow, &text)?;
    Ok(svg(flow::svg::draw(&program, None)))
}

fn svg(picture: String) -> crate::http::Response {
    answer::with(StatusCode::OK, HeaderValue::from_static("image/svg+xml"), picture)
}

pub async fn delete(exchange: Exchange) -> Answer {
    let flow = found(&exchange)?;
    change_resource(&exchange, flow.id.clone(), |_| Ok(None)).await?;
    exchange.gateway.dispatcher.withdraw_flow(&flow.id.arn());
    exchange.gateway.programs.forget();
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn timeout(resource: &Resource) -> Option<u32> {
    resource.value.get("timeout_s")?.as_u64()?.try_into().ok()
}

fn found(exchange: &Exchange) -> Result<Arc<Resource>, Fault> {
    let id = id(exchange, &exchange.capture(0));
    exchange.gateway.registry.resource(&id).ok_or_else(|| Fault::not_found(format!("Flow not found: {}", id.arn())))
}

pub fn id(exchange: &Exchange, name: &str) -> ResourceId {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let (account, region) = (scope.account.into_owned(), scope.region.into_owned());
    ResourceId { account, region, kind: ResourceKind::Flow, name: name.to_owned() }
}

fn shown(flow: &Resource) -> Shown {
    let string = |key: &str| flow.value.get(key).and_then(Value::as_str).map(str::to_owned);
    let functions = flow.value.get("functions").and_then(Value::as_array).into_iter().flatten();
    Shown {
        account: flow.id.account.clone(),
        region: flow.id.region.clone(),
        name: flow.id.name.clone(),
        arn: flow.id.arn(),
        chain: chain::chain(flow).map(str::to_owned).collect(),
        text: string("text"),
        functions: functions.filter_map(Value::as_str).map(str::to_owned).collect(),
        revision: string("revision"),
        timeout_s: timeout(flow),
        modified: flow.modified_ms,
        warnings: Vec::new(),
    }
}
