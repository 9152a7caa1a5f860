//! Rules: made and changed, shown, listed, deleted.

use super::fault::Fault;
use super::request::Request;
use super::tags;
use serde_json::{Map, Value, json};
use sources::schedule::{Expression, Rule};

/// The most rules of an account in a region, as on AWS.
const RULES_MAX: usize = 300;

pub async fn put(request: Request) -> Result<Value, Fault> {
    let id = request.rule_id("Name")?;
    if request.text("EventPattern").is_some() {
        return Err(Fault::invalid(
            "This node fires rules at times only: EventPattern cannot be used. Leave it out and give a ScheduleExpression.",
        ));
    }
    let Some(schedule) = request.text("ScheduleExpression").filter(|schedule| !schedule.is_empty()) else {
        return Err(Fault::invalid("Parameter(s) EventPattern or ScheduleExpression must be specified."));
    };
    let expression = Expression::parse(schedule).map_err(|error| Fault::invalid(error.to_string()))?;
    if request.rules().count() >= RULES_MAX && request.gateway.rules.get(&id).is_none() {
        return Err(Fault::too_many());
    }
    let own = |member: &str| request.text(member).map(str::to_owned);
    let (schedule, description, role) = (schedule.to_owned(), own("Description"), own("RoleArn"));
    let enabled = request.text("State") != Some("DISABLED");
    let tags = tags::read(&request)?;
    let (arn, rule_id) = (id.arn(), id.clone());
    let made = request.change(id, move |_, old| {
        let now = api::time::now_ms();
        // A changed schedule counts anew; the same goes on.
        let begun_ms = old.filter(|old| old.expression == expression && old.enabled).map_or(now, |old| old.begun_ms);
        let fired_ms = old.map_or(now, |old| old.fired_ms).max(begun_ms);
        let (targets, old_tags) = old.map(|old| (old.targets.clone(), old.tags.clone())).unwrap_or_default();
        // Tags are of a new rule only, as on AWS.
        let tags = if old.is_some() { old_tags } else { tags };
        let rule =
            Rule { id: rule_id, schedule, expression, enabled, description, role, tags, targets, begun_ms, fired_ms };
        Ok(Some(rule))
    });
    made.await?;
    Ok(json!({ "RuleArn": arn }))
}

pub async fn delete(request: Request) -> Result<Value, Fault> {
    let id = request.rule_id("Name")?;
    // One that is not there is deleted already.
    let deleted = request.change(id, |_, old| match old {
        Some(rule) if !rule.targets.is_empty() => Err(Fault::invalid("Rule can't be deleted since it has targets.")),
        _ => Ok(None),
    });
    deleted.await.map(|()| Value::Null)
}

pub async fn enable(request: Request, enabled: bool) -> Result<Value, Fault> {
    let id = request.rule_id("Name")?;
    let name = id.name.clone();
    let changed = request.change(id, move |_, old| {
        let old = old.ok_or_else(|| Fault::no_rule(&name))?;
        let now = api::time::now_ms();
        // What fell while it was disabled is not made up for.
        let (begun_ms, fired_ms) = if enabled && !old.enabled { (now, now) } else { (old.begun_ms, old.fired_ms) };
        Ok(Some(Rule { enabled, begun_ms, fired_ms, ..old.clone() }))
    });
    changed.await.map(|()| Value::Null)
}

pub fn describe(request: &Request) -> Result<Value, Fault> {
    let rule = request.rule("Name")?;
    let mut shown = shown(&rule);
    shown["CreatedBy"] = rule.id.account.clone().into();
    Ok(shown)
}

pub fn list(request: &Request) -> Result<Value, Fault> {
    let prefix = request.text("NamePrefix").unwrap_or_default();
    let wanted = request.rules().filter(|rule| rule.id.name.starts_with(prefix));
    let (page, token) = request.page(wanted, |rule| &rule.id.name);
    let mut answer = json!({ "Rules": page.iter().map(|rule| shown(rule)).collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

pub fn names_by_target(request: &Request) -> Result<Value, Fault> {
    let arn = request.text("TargetArn").unwrap_or_default();
    let wanted = request.rules().filter(|rule| rule.targets.iter().any(|target| target.arn == arn));
    let (page, token) = request.page(wanted, |rule| &rule.id.name);
    let mut answer = json!({ "RuleNames": page.iter().map(|rule| &rule.id.name).collect::<Vec<_>>() });
    if let Some(token) = token {
        answer["NextToken"] = token.into();
    }
    Ok(answer)
}

/// The shape `Rule`.
fn shown(rule: &Rule) -> Value {
    let mut shape = Map::new();
    shape.insert("Name".into(), rule.id.name.clone().into());
    shape.insert("Arn".into(), rule.id.arn().into());
    shape.insert("State".into(), if rule.enabled { "ENABLED" } else { "DISABLED" }.into());
    shape.extend(rule.description.clone().map(|text| ("Description".into(), text.into())));
    shape.insert("ScheduleExpression".into(), rule.schedule.clone().into());
    shape.extend(rule.role.clone().map(|role| ("RoleArn".into(), role.into())));
    shape.insert("EventBusName".into(), "default".into());
    shape.into()
}
