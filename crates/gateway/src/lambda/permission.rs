//! Policies of functions, versions and aliases: who else may invoke them. They are kept and shown here; where the node has
//! keys, `auth` asks them.

use super::attach;
use super::fault::Fault;
use super::function::read_object;
use super::name;
use super::policy;
use super::update::revision;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use daemon::node::Account;
use hyper::StatusCode;
use runtime::registry::{Attached, Facet, Record};
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions/*/policy" AddPermission => add),
    route!(GET "/2015-03-31/functions/*/policy" GetPolicy => get),
    route!(DELETE "/2015-03-31/functions/*/policy/*" RemovePermission => remove),
    route!(GET "/2026-07-09/resource-policy/*" GetResourcePolicy => get),
    route!(PUT "/2026-07-09/resource-policy/*" PutResourcePolicy => put_whole),
    route!(DELETE "/2026-07-09/resource-policy/*" DeleteResourcePolicy => delete_whole),
];

/// Members of a request that restrict a permission: the operator and the key of the condition that says so.
const CONDITIONS: [(&str, &str, &str); 6] = [
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
];

/// Where AWS's services have their names as principals.
const SERVICES: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];

async fn add(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "AddPermission").await?;
    let target = name::of_path(&exchange)?;
    if target.qualifier.as_deref() == Some(LATEST) {
        return Err(Fault::invalid_parameter("We currently do not support adding policies for $LATEST."));
    }
    let place = target.place(&*target.record(&exchange.gateway)?)?;
    let statement = statement(&request, &target.arn())?;
    let (id, added) = (target.id(), statement.clone());
    let limit = exchange.gateway.config.functions.policy_max;
    let on = place.clone();
    let put = attach::put(&exchange, id, (Facet::Policy, place), move |record, old| {
        check_first(record, &on, old, revision(&request).as_deref())?;
        policy::with(old.map(|old| &old.value), added, limit)
    });
    put.await?;
    Ok(answer::json(StatusCode::CREATED, &json!({ "Statement": statement.to_string() })))
}

async fn get(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let missing = || Fault::not_found("The resource you requested does not exist.");
    let record = target.record(&exchange.gateway).map_err(|_| missing())?;
    let found = record.attached(Facet::Policy, target.qualifier.as_deref().unwrap_or(LATEST)).ok_or_else(missing)?;
    Ok(answer::json(StatusCode::OK, &told(found)))
}

async fn remove(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let missing = || Fault::not_found(format!("No policy found for: {}", target.id().arn()));
    let record = target.record(&exchange.gateway).map_err(|_| missing())?;
    let place = target.place(&record)?;
    let sid = exchange.capture(1).into_owned();
    let expected = policy::expected(&exchange);
    let removed = attach::attach(&exchange, target.id(), (Facet::Policy, place), move |_, old| {
        let old = old.ok_or_else(|| Fault::not_found("No policy is associated with the given resource."))?;
        let left = policy::without(&old.value, &sid)?;
        check_revision(Some(old), expected.as_deref())?;
        Ok(left)
    });
    removed.await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// A policy as a whole, in the place of the one that there is.
async fn put_whole(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutResourcePolicy").await?;
    let text = request.get("Policy").and_then(Value::as_str).unwrap_or_default();
    let whole = serde_json::from_str::<Map<String, Value>>(text).ok().filter(is_policy);
    let whole = whole.ok_or_else(|| {
        Fault::invalid_parameter(
            "The policy is malformed: it is a JSON object with a Version and a list of Statements.",
        )
    })?;
    let target = name::of_path(&exchange)?;
    let place = target.place(&*target.record(&exchange.gateway)?)?;
    let put = attach::put(&exchange, target.id(), (Facet::Policy, place), move |_, old| {
        check_revision(old, revision(&request).as_deref())?;
        Ok(whole)
    });
    Ok(answer::json(StatusCode::OK, &told(&*put.await?)))
}

async fn delete_whole(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let place = target.place(&*target.record(&exchange.gateway)?)?;
    let expected = policy::expected(&exchange);
    let deleted = attach::attach(&exchange, target.id(), (Facet::Policy, place), move |_, old| {
        let old = old.ok_or_else(|| Fault::not_found("The resource you requested does not exist."))?;
        check_revision(Some(old), expected.as_deref())?;
        Ok(None)
    });
    deleted.await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Whether something has the form of a policy. What its statements mean is for those who ask it.
fn is_policy(policy: &Map<String, Value>) -> bool {
    let statements = policy.get("Statement").and_then(Value::as_array);
    policy.get("Version").is_some_and(Value::is_string)
        && statements.is_some_and(|statements| !statements.is_empty() && statements.iter().all(Value::is_object))
}

fn told(policy: &Attached) -> Value {
    json!({ "Policy": Value::Object(policy.value.clone()).to_string(), "RevisionId": policy.revision })
}

fn check_revision(policy: Option<&Attached>, expected: Option<&str>) -> Result<(), Fault> {
    policy::check_revision(policy.map(|policy| &*policy.revision), expected, "GetPolicy")
}

/// The same where there may be no policy yet: then it is what the policy is to hang on that must not have changed.
fn check_first(record: &Record, place: &str, old: Option<&Attached>, expected: Option<&str>) -> Result<(), Fault> {
    let alias = record.attached(Facet::Alias, place).map(|alias| alias.revision.as_str());
    let bare = || alias.or_else(|| record.version(place).map(|entry| entry.revision.as_str()));
    let found = old.map(|old| old.revision.as_str()).or_else(bare);
    policy::check_revision(found, expected, "GetPolicy")
}

/// What a request permits, in the language of policies.
fn statement(request: &Map<String, Value>, resource: &str) -> Result<Value, Fault> {
    let mut statement = json!({
        "Sid": request.get("StatementId"),
        "Effect": "Allow",
        "Principal": principal(request.get("Principal").and_then(Value::as_str).unwrap_or_default())?,
        "Action": request.get("Action"),
        "Resource": resource,
    });
    for (member, operator, key) in CONDITIONS {
        let given = match request.get(member) {
            None | Some(Value::Null) => continue,
            Some(Value::Bool(flag)) => flag.to_string().into(),
            Some(given) => given.clone(),
        };
        statement["Condition"][operator][key] = given;
    }
    Ok(statement)
}

/// Everybody, an account, somebody by ARN, or a service.
fn principal(text: &str) -> Result<Value, Fault> {
    match text {
        "*" => Ok("*".into()),
        account if Account::is_valid(account) => Ok(json!({ "AWS": format!("arn:aws:iam::{account}:root") })),
        arn if arn.starts_with("arn:") => Ok(json!({ "AWS": arn })),
        service if SERVICES.iter().any(|domain| service.ends_with(domain)) => Ok(json!({ "Service": service })),
        _ => Err(Fault::invalid_parameter(
            "The provided principal was invalid. Please check the principal and try again.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_as_lambda_writes_them() {
        let request = json!({ "StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com",
            "SourceArn": "arn:aws:s3:::b", "SourceAccount": "123456789012", "InvokedViaFunctionUrl": true });
        let statement = statement(request.as_object().unwrap(), "arn").unwrap();
        assert_eq!(
            statement,
            json!({ "Sid": "s3", "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" },
            "Action": "lambda:InvokeFunction", "Resource": "arn", "Condition": {
                "StringEquals": { "AWS:SourceAccount": "123456789012" }, "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::b" },
                "Bool": { "lambda:InvokedViaFunctionUrl": "true" } } })
        );
        assert_eq!(principal("123456789012"), Ok(json!({ "AWS": "arn:aws:iam::123456789012:root" })));
        assert!(principal("nobody").is_err() && principal("invalid.nonaws.com").is_err());
    }
}
