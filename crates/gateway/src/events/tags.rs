//! Tags of rules, which are lists of keys and values here.

use super::fault::Fault;
use super::request::Request;
use crate::lambda::check_tags;
use serde_json::{Map, Value, json};
use sources::schedule::{Rule, RuleId};

/// The tags that a request brings.
pub fn read(request: &Request) -> Result<Map<String, Value>, Fault> {
    let list = request.value("Tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let tag = |tag: &Value| Some((tag.get("Key")?.as_str()?.to_owned(), tag.get("Value")?.as_str()?.into()));
    let tags: Option<Map<String, Value>> = list.iter().map(tag).collect();
    let tags = tags.ok_or_else(|| Fault::serialization("Tags are a list of Key and Value, both Strings"))?;
    check_tags(&tags, &request.gateway.config.functions)?;
    Ok(tags)
}

/// The rule that an ARN means, if it is there.
fn rule_id(request: &Request) -> Result<RuleId, Fault> {
    let arn = request.text("ResourceARN").unwrap_or_default();
    let name = arn.split_once(":rule/").map_or("", |(_, name)| name);
    let id = request.named(name.strip_prefix("default/").unwrap_or(name));
    match request.gateway.rules.get(&id) {
        Some(_) => Ok(id),
        None => Err(Fault::no_rule(name)),
    }
}

pub fn list(request: &Request) -> Result<Value, Fault> {
    let rule = request.gateway.rules.get(&rule_id(request)?);
    let tags = rule.map(|rule| rule.tags.clone()).unwrap_or_default();
    let tags: Vec<Value> = tags.into_iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": tags }))
}

pub async fn tag(request: Request) -> Result<Value, Fault> {
    let (id, new) = (rule_id(&request)?, read(&request)?);
    change(request, id, move |tags| tags.extend(new)).await
}

pub async fn untag(request: Request) -> Result<Value, Fault> {
    let id = rule_id(&request)?;
    let keys: Vec<String> = request.list("TagKeys")?.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect();
    change(request, id, move |tags| tags.retain(|key, _| !keys.contains(key))).await
}

async fn change(
    request: Request,
    id: RuleId,
    change: impl FnOnce(&mut Map<String, Value>) + Send + 'static,
) -> Result<Value, Fault> {
    let name = id.name.clone();
    let changed = request.change(id, move |gateway, old| {
        let mut rule: Rule = old.ok_or_else(|| Fault::no_rule(&name))?.clone();
        change(&mut rule.tags);
        check_tags(&rule.tags, &gateway.config.functions)?;
        Ok(Some(rule))
    });
    changed.await.map(|()| Value::Null)
}
