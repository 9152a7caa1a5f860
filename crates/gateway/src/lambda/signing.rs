//! Code signing configurations, and which functions have one: kept and answered as on AWS. No code is looked at for a
//! signature: this node has no signing profiles that it could be checked against.

use super::fault::Fault;
use super::function::read_object;
use super::page::Page;
use super::scope::{self, Scope};
use super::tags::change_resource;
use super::{attach, name};
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::StatusCode;
use runtime::registry::{Facet, FunctionId, Resource, ResourceId, ResourceKind};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub const ROUTES: &[Route] = &[
    route!(GET "/2020-04-22/code-signing-configs" ListCodeSigningConfigs => list),
    route!(POST "/2020-04-22/code-signing-configs" CreateCodeSigningConfig => create),
    route!(GET "/2020-04-22/code-signing-configs/*" GetCodeSigningConfig => get),
    route!(PUT "/2020-04-22/code-signing-configs/*" UpdateCodeSigningConfig => update),
    route!(DELETE "/2020-04-22/code-signing-configs/*" DeleteCodeSigningConfig => delete),
    route!(GET "/2020-04-22/code-signing-configs/*/functions" ListFunctionsByCodeSigningConfig => functions),
    route!(GET "/2020-06-30/functions/*/code-signing-config" GetFunctionCodeSigningConfig => of_function),
    route!(PUT "/2020-06-30/functions/*/code-signing-config" PutFunctionCodeSigningConfig => put),
    route!(DELETE "/2020-06-30/functions/*/code-signing-config" DeleteFunctionCodeSigningConfig => take_away),
];

const MEMBER: &str = "CodeSigningConfigArn";
const ID: &str = "csc-";
/// Letters and digits of an id.
const ID_LENGTH: usize = 17;
const MEMBERS: [&str; 3] = ["Description", "AllowedPublishers", "CodeSigningPolicies"];

async fn create(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "CreateCodeSigningConfig").await?;
    let random = Uuid::new_v4().simple().to_string();
    let id = named(&exchange, &format!("{ID}{}", &random[..ID_LENGTH]));
    let mut value = Map::from_iter([
        ("Description".to_owned(), json!("")),
        ("CodeSigningPolicies".to_owned(), json!({ "UntrustedArtifactOnDeployment": "Warn" })),
    ]);
    let is_kept = |name: &str| MEMBERS.contains(&name) || name == "Tags";
    value.extend(request.into_iter().filter(|(name, value)| is_kept(name) && !value.is_null()));
    let made = change_resource(&exchange, id, |_| Ok(Some(value))).await?;
    Ok(answer::json(StatusCode::CREATED, &json!({ "CodeSigningConfig": made.as_deref().map(shown) })))
}

async fn get(exchange: Exchange) -> Answer {
    let found = found(&exchange)?;
    Ok(answer::json(StatusCode::OK, &json!({ "CodeSigningConfig": shown(&found) })))
}

async fn update(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "UpdateCodeSigningConfig").await?;
    let (old, absent) = (found(&exchange)?, missing(&exchange));
    let changed = change_resource(&exchange, old.id.clone(), move |old| {
        let mut value = old.ok_or(absent)?.value.clone();
        value.extend(request.into_iter().filter(|(name, value)| MEMBERS.contains(&&**name) && !value.is_null()));
        Ok(Some(value))
    });
    Ok(answer::json(StatusCode::OK, &json!({ "CodeSigningConfig": changed.await?.as_deref().map(shown) })))
}

async fn delete(exchange: Exchange) -> Answer {
    let old = found(&exchange)?;
    if let Some(function) = users(&exchange, &old.id.arn()).first() {
        return Err(Fault::conflict(format!(
            "The code signing configuration {} cannot be deleted: the function {function} has it.",
            old.id.arn()
        )));
    }
    change_resource(&exchange, old.id.clone(), |_| Ok(None)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let all = exchange.gateway.registry.resources(&account, &region, ResourceKind::CodeSigning);
    let keyed = all.iter().map(|config| (config.id.name.clone(), config));
    Ok(answer::json(StatusCode::OK, &page.cut("CodeSigningConfigs", keyed, |config| shown(config))))
}

async fn functions(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let users = users(&exchange, &found(&exchange)?.id.arn()).into_iter().map(|arn| (arn.clone(), arn.into()));
    Ok(answer::json(StatusCode::OK, &page.cut("FunctionArns", users, |arn: Value| arn)))
}

async fn of_function(exchange: Exchange) -> Answer {
    let record = name::function_of_path(&exchange)?.record(&exchange.gateway)?;
    // Of a function that has none nothing is said, not even its name.
    let config = record.attached(Facet::CodeSigning, LATEST);
    let shown = config.map(|config| json!({ MEMBER: config.text(MEMBER), "FunctionName": record.latest.id.name }));
    Ok(answer::json(StatusCode::OK, &shown.unwrap_or_else(|| json!({}))))
}

async fn put(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutFunctionCodeSigningConfig").await?;
    let arn = request.get(MEMBER).and_then(Value::as_str).unwrap_or_default().to_owned();
    let target = name::function_of_path(&exchange)?;
    check(&exchange.gateway, &target.id(), &arn)?;
    let id = target.find(&exchange.gateway)?.id.clone();
    let shown = json!({ MEMBER: arn, "FunctionName": id.name });
    attach::put(&exchange, id, (Facet::CodeSigning, LATEST.to_owned()), |_, _| Ok(having(arn))).await?;
    Ok(answer::json(StatusCode::OK, &shown))
}

async fn take_away(exchange: Exchange) -> Answer {
    let id = name::function_of_path(&exchange)?.find(&exchange.gateway)?.id.clone();
    attach::attach(&exchange, id, (Facet::CodeSigning, LATEST.to_owned()), |_, _| Ok(None)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// What hangs on a function that has this configuration.
pub fn having(arn: String) -> Map<String, Value> {
    Map::from_iter([(MEMBER.to_owned(), arn.into())])
}

/// Takes the configuration out of what a creation asks for; there has to be one of that ARN.
pub fn wanted(
    gateway: &Gateway,
    function: &FunctionId,
    request: &mut Map<String, Value>,
) -> Result<Option<String>, Fault> {
    match request.remove(MEMBER) {
        Some(Value::String(arn)) => check(gateway, function, &arn).map(|()| Some(arn)),
        _ => Ok(None),
    }
}

fn is_of(id: &ResourceId, account: &str, region: &str) -> bool {
    (id.account.as_str(), id.region.as_str()) == (account, region)
}

/// Whether a function may have the configuration of this ARN: it is one of its own account and region.
fn check(gateway: &Gateway, function: &FunctionId, arn: &str) -> Result<(), Fault> {
    let id = parse(arn).filter(|id| is_of(id, &function.account, &function.region));
    let found = id.and_then(|id| gateway.registry.resource(&id));
    found.map(drop).ok_or_else(|| {
        Fault::no_code_signing(format!(
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
        ))
    })
}

/// `arn:aws:lambda:REGION:ACCOUNT:code-signing-config:ID`.
fn parse(arn: &str) -> Option<ResourceId> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", _, "lambda", region, account, word, name] = parts[..] else { return None };
    let kind = ResourceKind::CodeSigning;
    (word == kind.word()).then(|| ResourceId {
        account: account.into(),
        region: region.into(),
        kind,
        name: name.into(),
    })
}

fn named(exchange: &Exchange, name: &str) -> ResourceId {
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let kind = ResourceKind::CodeSigning;
    ResourceId { account: account.into(), region: region.into(), kind, name: name.into() }
}

fn found(exchange: &Exchange) -> Result<std::sync::Arc<Resource>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let id = parse(&exchange.capture(0)).filter(|id| is_of(id, &scope.account, &scope.region));
    id.and_then(|id| exchange.gateway.registry.resource(&id)).ok_or_else(|| missing(exchange))
}

fn missing(exchange: &Exchange) -> Fault {
    let message = format!("The Lambda code signing configuration {} can not be found.", exchange.capture(0));
    Fault::not_found(message).without_party()
}

/// The ARNs of the functions that have a configuration.
fn users(exchange: &Exchange, arn: &str) -> Vec<String> {
    let records = exchange.gateway.registry.records();
    let has = |record: &&std::sync::Arc<runtime::registry::Record>| {
        record.attached(Facet::CodeSigning, LATEST).is_some_and(|config| config.text(MEMBER) == arn)
    };
    records.iter().filter(has).map(|record| record.latest.id.arn()).collect()
}

/// The shape `CodeSigningConfig`.
fn shown(config: &Resource) -> Value {
    let mut shape = json!({ "CodeSigningConfigId": config.id.name, "CodeSigningConfigArn": config.id.arn() });
    for member in MEMBERS {
        shape[member] = config.value.get(member).cloned().unwrap_or_default();
    }
    shape["LastModified"] = api::time::lambda(config.modified_ms).into();
    shape
}
