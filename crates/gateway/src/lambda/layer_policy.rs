//! Who may use a layer's version: its own account, and whom its policy names.
//!
//! Organizations are not known here: a statement for one lets nobody in.

use super::constraint::find;
use super::fault::Fault;
use super::function::read_object;
use super::layers::{number, own_of_path};
use super::policy;
use super::scope::Scope;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use daemon::node::Account;
use hyper::StatusCode;
use runtime::registry::{LayerId, LayerPolicy, LayerVersion, PolicyError};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(GET "/2018-10-31/layers/*/versions/*/policy" GetLayerVersionPolicy => get),
    route!(POST "/2018-10-31/layers/*/versions/*/policy" AddLayerVersionPermission => add),
    route!(DELETE "/2018-10-31/layers/*/versions/*/policy/*" RemoveLayerVersionPermission => remove),
];

async fn add(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "AddLayerVersionPermission").await?;
    let (id, number) = version(&exchange, "AddLayerVersionPermission")?;
    let statement = statement(&request, &format!("{}:{number}", id.arn()));
    let (expected, added) = (policy::expected(&exchange), statement.clone());
    let limit = exchange.gateway.config.functions.policy_max;
    let changed = change(&exchange, (id, number), move |old| {
        check_revision(old, expected.as_deref())?;
        policy::with(old.map(|old| &old.value), added, limit).map(Some)
    });
    let changed = changed.await?;
    let revision = changed.policy.as_ref().map(|policy| policy.revision.clone());
    Ok(answer::json(StatusCode::CREATED, &json!({ "Statement": statement.to_string(), "RevisionId": revision })))
}

async fn get(exchange: Exchange) -> Answer {
    let (id, number) = version(&exchange, "GetLayerVersionPolicy")?;
    let found = exchange.gateway.registry.layer_version(&id, number).ok_or_else(|| missing(&id, number))?;
    let policy = found.policy.as_ref().ok_or_else(none)?;
    let text = Value::Object(policy.value.clone()).to_string();
    Ok(answer::json(StatusCode::OK, &json!({ "Policy": text, "RevisionId": policy.revision })))
}

async fn remove(exchange: Exchange) -> Answer {
    let (sid, expected) = (exchange.capture(2).into_owned(), policy::expected(&exchange));
    let removed = change(&exchange, version(&exchange, "RemoveLayerVersionPermission")?, move |old| {
        let old = old.ok_or_else(none)?;
        let left = policy::without(&old.value, &sid)?;
        check_revision(Some(old), expected.as_deref())?;
        Ok(left)
    });
    removed.await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Whether an account may use a version: its own may, and those that its policy lets in.
pub fn check_use(scope: &Scope<'_>, version: &LayerVersion) -> Result<(), Fault> {
    let permits = |statement: &Value| {
        let principal = &statement["Principal"];
        let named = principal["AWS"].as_str().and_then(account);
        statement.get("Condition").is_none() && (principal == "*" || named == Some(&*scope.account))
    };
    let statements = policy::statements(version.policy.as_ref().map(|policy| &policy.value));
    if version.id.account == scope.account || statements.iter().any(permits) {
        return Ok(());
    }
    Err(denied(&scope.account, "GetLayerVersion", &version.arn()))
}

/// What an account is told that may not do this with somebody else's layer.
pub fn denied(account: &str, operation: &str, resource: &str) -> Fault {
    Fault::access_denied(format!(
        "User: arn:aws:iam::{account}:root is not authorized to perform: lambda:{operation} on resource: {resource} because \
         no resource-based policy allows the lambda:{operation} action"
    ))
}

/// Changes a version's policy without holding up others.
async fn change(
    exchange: &Exchange,
    (id, number): (LayerId, u64),
    change: impl FnOnce(Option<&LayerPolicy>) -> Result<Option<Map<String, Value>>, Fault> + Send + 'static,
) -> Result<Arc<LayerVersion>, Fault> {
    let changed = exchange.gateway.blocking(move |gateway| gateway.registry.change_layer_policy(&id, number, change));
    changed.await?.map_err(|error| match error {
        PolicyError::NotFound(id, number) => missing(&id, number),
        PolicyError::Refused(fault) => fault,
        PolicyError::Store(error) => error.into(),
    })
}

fn version(exchange: &Exchange, operation: &str) -> Result<(LayerId, u64), Fault> {
    let id = own_of_path(exchange, operation)?;
    let number = number(exchange)?.ok_or_else(|| missing(&id, 0))?;
    Ok((id, number))
}

fn missing(id: &LayerId, number: u64) -> Fault {
    Fault::not_found(format!("Layer version {}:{number} does not exist.", id.arn()))
}

fn none() -> Fault {
    Fault::not_found("No policy is associated with the given resource.")
}

fn check_revision(policy: Option<&LayerPolicy>, expected: Option<&str>) -> Result<(), Fault> {
    policy::check_revision(policy.map(|policy| &*policy.revision), expected, "GetLayerPolicy")
}

fn statement(request: &Map<String, Value>, resource: &str) -> Value {
    let principal = request.get("Principal").and_then(Value::as_str).unwrap_or_default();
    let principal = match account(principal) {
        Some(account) => json!({ "AWS": format!("arn:aws:iam::{account}:root") }),
        None => principal.into(),
    };
    let mut statement = json!({
        "Sid": request.get("StatementId"),
        "Effect": "Allow",
        "Principal": principal,
        "Action": request.get("Action"),
        "Resource": resource,
    });
    if let Some(organization) = find(request, "OrganizationId") {
        statement["Condition"] = json!({ "StringEquals": { "aws:PrincipalOrgID": organization } });
    }
    statement
}

/// The account that a principal means: its number, or the ARN of its root.
fn account(principal: &str) -> Option<&str> {
    let rest = principal.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    Some(rest.unwrap_or(principal)).filter(|account| Account::is_valid(account))
}
