//! Targets of rules: put, removed, listed. What is wrong with one is told of that one.

use super::fault::Fault;
use super::request::{Request, is_name};
use aws::Arn;
use serde_json::{Value, json};
use sources::schedule::{Rule, Target};

/// The most targets of a rule, as on AWS.
const TARGETS_MAX: usize = 5;
const INPUT_MAX: usize = 8192;
/// Services that the node's queue can reach.
const SERVICES: [&str; 4] = ["lambda", "sqs", "sns", "events"];

pub async fn put(request: Request) -> Result<Value, Fault> {
    let rule = request.rule("Rule")?;
    let (mut targets, mut failed) = (Vec::new(), Vec::new());
    for value in request.list("Targets")? {
        let id = value["Id"].as_str().unwrap_or_default();
        match target(value) {
            Ok(target) => targets.push(target),
            Err(why) => {
                failed.push(json!({ "TargetId": id, "ErrorCode": "ValidationException", "ErrorMessage": why }));
            }
        }
    }
    let name = rule.id.name.clone();
    let changed = request.change(rule.id.clone(), move |_, old| {
        let mut rule: Rule = old.ok_or_else(|| Fault::no_rule(&name))?.clone();
        for target in targets {
            rule.targets.retain(|other| other.id != target.id);
            rule.targets.push(target);
        }
        if rule.targets.len() > TARGETS_MAX {
            return Err(Fault::too_many());
        }
        rule.targets.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(Some(rule))
    });
    changed.await?;
    Ok(json!({ "FailedEntryCount": failed.len(), "FailedEntries": failed }))
}

/// Reads a target, or says what is wrong with it.
fn target(value: &Value) -> Result<Target, String> {
    let target: Target =
        serde_json::from_value(value.clone()).map_err(|error| format!("The target is none: {error}"))?;
    if !is_name(&target.id) || target.id.len() > 64 {
        return Err("An Id has 1 to 64 letters, digits, dots, hyphens and underscores.".to_owned());
    }
    if !Arn::parse(&target.arn).is_some_and(|arn| SERVICES.contains(&arn.service)) {
        return Err(format!(
            "{} is not an ARN of a service that this node reaches: {}",
            target.arn,
            SERVICES.join(", ")
        ));
    }
    if target.others.contains_key("InputTransformer") {
        return Err("This node transforms no input: use Input or InputPath.".to_owned());
    }
    match (&target.input, &target.input_path) {
        (Some(_), Some(_)) => Err("Only one of Input and InputPath can be given.".to_owned()),
        (Some(input), None) if input.len() > INPUT_MAX || serde_json::from_str::<Value>(input).is_err() => {
            Err(format!("JSON syntax error in input for target {}", target.id))
        }
        (None, Some(path)) if !path.starts_with('$') => Err("InputPath begins with $.".to_owned()),
        _ => Ok(target),
    }
}

pub async fn remove(request: Request) -> Result<Value, Fault> {
    let rule = request.rule("Rule")?;
    let ids: Vec<String> = request.list("Ids")?.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let missing: Vec<Value> = ids
        .iter()
        .filter(|id| !rule.targets.iter().any(|target| target.id == **id))
        .map(|id| {
            let message = format!("Target {id} does not exist on rule {}.", rule.id.name);
            json!({ "TargetId": id, "ErrorCode": "ResourceNotFoundException", "ErrorMessage": message })
        })
        .collect();
    let name = rule.id.name.clone();
    let changed = request.change(rule.id.clone(), move |_, old| {
        let mut rule: Rule = old.ok_or_else(|| Fault::no_rule(&name))?.clone();
        rule.targets.retain(|target| !ids.contains(&target.id));
        Ok(Some(rule))
    });
    changed.await?;
    Ok(json!({ "FailedEntryCount": missing.len(), "FailedEntries": missing }))
}

pub fn list(request: &Request) -> Result<Value, Fault> {
    let rule = request.rule("Rule")?;
    let (page, token) = request.page(rule.targets.iter(), |target| &target.id);
    let mut answer = json!({ "Targets": page });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
        let with = |more: Value| {
            let mut value = json!({ "Id": "t", "Arn": arn });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            target(&value)
        };
        assert!(with(json!({ "Input": "{\"a\": 1}", "RetryPolicy": { "MaximumRetryAttempts": 1 } })).is_ok());
        for wrong in [
            json!({ "Id": "" }),
            json!({ "Id": "a b" }),
            json!({ "Id": 1 }),
            json!({ "Arn": "f" }),
            json!({ "Arn": "arn:aws:states:us-east-1:000000000000:stateMachine:s" }),
            json!({ "Input": "{" }),
            json!({ "Input": "{}", "InputPath": "$" }),
            json!({ "InputPath": "detail" }),
            json!({ "InputTransformer": { "InputTemplate": "x" } }),
        ] {
            assert!(with(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
