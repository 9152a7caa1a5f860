//! Event source mappings: made, shown, changed, deleted. What they do is `sources`' business.
//!
//! On AWS a change takes a while. Here it is over when it is answered, but for a poller that has yet to find its source.

use super::constraint;
use super::fault::Fault;
use super::function::read_object;
use super::mapping_rules as rules;
use super::name::{self, Target};
use super::page::Page;
use super::{schema, scope};
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::StatusCode;
use runtime::registry::Entry;
use serde_json::{Map, Value};
use sources::{Kind, Mapping, State};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

pub const ROUTES: &[Route] = &[
    route!(GET "/2015-03-31/event-source-mappings" ListEventSourceMappings => list),
    route!(POST "/2015-03-31/event-source-mappings" CreateEventSourceMapping => create),
    route!(GET "/2015-03-31/event-source-mappings/*" GetEventSourceMapping => get),
    route!(PUT "/2015-03-31/event-source-mappings/*" UpdateEventSourceMapping => update),
    route!(DELETE "/2015-03-31/event-source-mappings/*" DeleteEventSourceMapping => delete),
];

const NO_FUNCTION: &str = "Function does not exist";
/// Members of an update that would make another mapping of it.
const FIXED: [&str; 5] =
    ["EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "SelfManagedEventSource", "Topics"];

async fn create(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "CreateEventSourceMapping").await?;
    let gateway = exchange.gateway.clone();
    let tags = request.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default();
    schema::check_tags(&tags, &gateway.config.functions)?;
    let (kind, source) = rules::source(&request)?;
    let settings = rules::new_settings(kind, &request);
    rules::check_sense(kind, &source, &request, &settings)?;
    let (function, entry) = function(&exchange, &request)?;
    rules::check_source(&gateway, kind, &source, &entry).await?;
    let now = api::time::now_ms();
    let mapping = Mapping {
        uuid: Uuid::new_v4().to_string(),
        account: entry.id.account.clone(),
        region: entry.id.region.clone(),
        function,
        kind,
        source,
        settings,
        tags,
        enabled: request.get("Enabled") != Some(&Value::Bool(false)),
        created_ms: now,
        modified_ms: now,
    };
    let made = gateway.blocking(move |gateway| {
        // Two requests for the same are told apart by the order in which they come here.
        let _turn = gateway.mapping_turn();
        match gateway.sources.all().iter().find(|other| is_same(other, &mapping)) {
            Some(other) => Err(exists(other, &entry)),
            None => gateway.sources.put(mapping).map_err(|error| Fault::internal(&error)),
        }
    });
    let made = made.await??;
    Ok(answer::json(StatusCode::ACCEPTED, &shown(&gateway, &made, Some("Creating"))))
}

fn is_same(one: &Mapping, other: &Mapping) -> bool {
    (&one.source, &one.function, one.settings.get("Topics"))
        == (&other.source, &other.function, other.settings.get("Topics"))
}

fn exists(other: &Mapping, entry: &Entry) -> Fault {
    let Mapping { source, uuid, .. } = other;
    let name = &entry.id.name;
    let advice = format!("already exists. Please update or delete the existing mapping with UUID {uuid}");
    Fault::conflict(match other.kind {
        Kind::Sqs => {
            format!("An event source mapping with SQS arn (\" {source} \") and function (\" {name} \") {advice}")
        }
        Kind::Kafka => {
            let topics = other.settings.get("Topics").and_then(Value::as_array);
            let topics: Vec<&str> = topics.into_iter().flatten().filter_map(Value::as_str).collect();
            let (function, topics) = (&other.function, topics.join(","));
            format!(
                "An event source mapping with event source (\"{source}\"), function (\"{function}\"), topics \
                 (\"{topics}\") {advice}"
            )
        }
        Kind::Kinesis | Kind::DynamoDb => {
            format!("The event source arn (\" {source} \") and function (\" {name} \") provided mapping {advice}")
        }
    })
}

async fn get(exchange: Exchange) -> Answer {
    let mapping = of_path(&exchange)?;
    Ok(answer::json(StatusCode::OK, &shown(&exchange.gateway, &mapping, None)))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let gateway = &exchange.gateway;
    let scope = scope::of(&exchange.head, &gateway.config.node);
    let source = exchange.query("EventSourceArn").filter(|source| !source.is_empty());
    let function = match exchange.query("FunctionName").filter(|name| !name.is_empty()) {
        Some(name) => Some(name::resolve(name, None, scope.clone())?.arn()),
        None => None,
    };
    let all = gateway.sources.all();
    let wanted = all.iter().filter(|mapping| {
        mapping.account == scope.account
            && mapping.region == scope.region
            && source.as_deref().is_none_or(|source| mapping.source == source)
            && function.as_deref().is_none_or(|function| mapping.function == function)
    });
    let keyed = wanted.map(|mapping| (mapping.uuid.clone(), mapping));
    let shown = page.cut("EventSourceMappings", keyed, |mapping| shown(gateway, mapping, None));
    Ok(answer::json(StatusCode::OK, &shown))
}

async fn update(mut exchange: Exchange) -> Answer {
    let mut request = read_object(&mut exchange, "UpdateEventSourceMapping").await?;
    let gateway = exchange.gateway.clone();
    let uuid = of_path(&exchange)?.uuid.clone();
    FIXED.into_iter().for_each(|name| drop(request.shift_remove(name)));
    let target = match request.get("FunctionName").is_some_and(|name| !name.is_null()) {
        true => Some(function(&exchange, &request)?.0),
        false => None,
    };
    let changed = gateway.blocking(move |gateway| {
        // Read in the same turn in which it is written: two changes at once are made one upon the other.
        let _turn = gateway.mapping_turn();
        // Deleted meanwhile, it is not made anew.
        let old = gateway.sources.get(&uuid).ok_or_else(not_found)?;
        let (changed, moment) = change((*old).clone(), &request, target)?;
        let changed = gateway.sources.put(changed).map_err(|error| Fault::internal(&error))?;
        Ok::<_, Fault>((changed, moment))
    });
    let (changed, moment) = changed.await??;
    Ok(answer::json(StatusCode::ACCEPTED, &shown(&gateway, &changed, Some(moment))))
}

/// A mapping as a request wants it, for the function that it names if it names one, and what happens to it by that.
fn change(
    mut mapping: Mapping,
    request: &Map<String, Value>,
    target: Option<String>,
) -> Result<(Mapping, &'static str), Fault> {
    mapping.function = target.unwrap_or(mapping.function);
    rules::change_settings(&mut mapping.settings, request);
    rules::check_sense(mapping.kind, &mapping.source, request, &mapping.settings)?;
    mapping.modified_ms = api::time::now_ms();
    let moment = match request.get("Enabled").and_then(Value::as_bool) {
        Some(enabled) if enabled != mapping.enabled => {
            mapping.enabled = enabled;
            if enabled { "Enabling" } else { "Disabling" }
        }
        _ => "Updating",
    };
    Ok((mapping, moment))
}

async fn delete(exchange: Exchange) -> Answer {
    let mapping = of_path(&exchange)?;
    let deleted = shown(&exchange.gateway, &mapping, Some("Deleting"));
    let uuid = mapping.uuid.clone();
    let gone = exchange.gateway.blocking(move |gateway| {
        let _turn = gateway.mapping_turn();
        gateway.sources.delete(&uuid)
    });
    match gone.await? {
        Ok(Some(_)) => Ok(answer::json(StatusCode::ACCEPTED, &deleted)),
        Ok(None) => Err(not_found()),
        Err(error) => Err(Fault::internal(&error)),
    }
}

fn not_found() -> Fault {
    Fault::not_found("The resource you requested does not exist.")
}

/// The mapping that the path means, if its caller may see it.
fn of_path(exchange: &Exchange) -> Result<Arc<Mapping>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let mapping = exchange.gateway.sources.get(&exchange.capture(0).to_ascii_lowercase());
    let is_here = |mapping: &Arc<Mapping>| mapping.account == scope.account && mapping.region == scope.region;
    mapping.filter(is_here).ok_or_else(not_found)
}

/// The mapping that an ARN means; nothing where it is not one of a mapping.
pub fn of_arn(exchange: &Exchange, arn: &str) -> Option<Result<Arc<Mapping>, Fault>> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _, "lambda", region, account, "event-source-mapping", uuid] = parts[..] else { return None };
    let is_here = (region, account) == (&*scope.region, &*scope.account);
    let mapping = exchange.gateway.sources.get(uuid).filter(|_| is_here);
    Some(mapping.ok_or_else(|| Fault::not_found(format!("Event source mapping not found: {arn}"))))
}

/// Changes a mapping's tags.
pub async fn tag(
    exchange: &Exchange,
    uuid: &str,
    change: impl FnOnce(&mut Map<String, Value>) + Send + 'static,
) -> Result<(), Fault> {
    let uuid = uuid.to_owned();
    let tagged = exchange.gateway.blocking(move |gateway| {
        let _turn = gateway.mapping_turn();
        let mut tags = gateway.sources.get(&uuid).map(|mapping| mapping.tags.clone()).unwrap_or_default();
        change(&mut tags);
        schema::check_tags(&tags, &gateway.config.functions)?;
        gateway.sources.annotate(&uuid, |mapping| mapping.tags = tags).map_err(|error| Fault::internal(&error))
    });
    if tagged.await?? { Ok(()) } else { Err(not_found()) }
}

fn text<'a>(request: &'a Map<String, Value>, member: &str) -> &'a str {
    constraint::find(request, member).and_then(Value::as_str).unwrap_or_default()
}

/// The function that a request names: its ARN with the qualifier that was given, and what it is now.
fn function(exchange: &Exchange, request: &Map<String, Value>) -> Result<(String, Arc<Entry>), Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let written = text(request, "FunctionName");
    let target = name::resolve(written.into(), None, scope)?;
    let entry = target.find(&exchange.gateway).map_err(|_| Fault::invalid_parameter(NO_FUNCTION))?;
    // As on AWS: of an ARN that names it nothing is left.
    let named = |qualifier: &Cow<'_, str>| !written.starts_with("arn:") || qualifier != LATEST;
    Ok((Target { qualifier: target.qualifier.clone().filter(named), ..target }.arn(), entry))
}

/// The shape `EventSourceMappingConfiguration`; `moment` is what is happening to it, where something is.
fn shown(gateway: &Gateway, mapping: &Mapping, moment: Option<&str>) -> Value {
    let (state, result) = gateway.sources.state(&mapping.uuid).unwrap_or((State::Disabled, String::new()));
    let state = moment.unwrap_or(match state {
        State::Disabled => "Disabled",
        State::Enabled => "Enabled",
        State::Starting if mapping.modified_ms == mapping.created_ms => "Creating",
        State::Starting => "Updating",
    });
    let is_stream = mapping.kind.is_stream();
    let mut shape = Map::new();
    shape.insert("UUID".into(), mapping.uuid.clone().into());
    shape.extend(mapping.settings.clone());
    if mapping.kind != Kind::Kafka {
        shape.insert("EventSourceArn".into(), mapping.source.clone().into());
    }
    shape.insert("FunctionArn".into(), mapping.function.clone().into());
    shape.insert("LastModified".into(), (mapping.modified_ms as f64 / 1000.0).into());
    if is_stream {
        shape.insert("LastProcessingResult".into(), result.into());
    }
    shape.insert("State".into(), state.into());
    let reason = match mapping.kind {
        Kind::Kinesis | Kind::DynamoDb => "User action",
        Kind::Sqs | Kind::Kafka => "USER_INITIATED",
    };
    shape.insert("StateTransitionReason".into(), reason.into());
    shape.insert("EventSourceMappingArn".into(), mapping.arn().into());
    shape.into()
}
