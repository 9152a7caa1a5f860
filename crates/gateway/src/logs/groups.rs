//! Log groups: made, deleted, listed, and for how long they keep their events.

use super::fault::Fault;
use super::request::{RETENTIONS, Request};
use crate::lambda::constraint;
use runtime::logs::Listed;
use serde_json::{Value, json};

const PAGE: usize = 50;

pub async fn create(request: &Request) -> Result<Value, Fault> {
    request.gateway.logs.create_group(request.group()?).await?;
    Ok(Value::Null)
}

pub async fn delete(request: &Request) -> Result<Value, Fault> {
    request.gateway.logs.delete_group(request.group()?).await?;
    Ok(Value::Null)
}

pub async fn put_retention(request: &Request) -> Result<Value, Fault> {
    let group = request.group()?;
    request.required("retentionInDays")?;
    let days = request.value("retentionInDays").and_then(Value::as_i64).unwrap_or(0);
    let Some(days) = RETENTIONS.into_iter().find(|allowed| i64::from(*allowed) == days) else {
        let rule = format!("Member must satisfy enum value set: {RETENTIONS:?}");
        return Err(constraint::violation("retentionInDays", &days.to_string(), &rule).into());
    };
    request.gateway.logs.set_retention(group, Some(days)).await?;
    Ok(Value::Null)
}

pub async fn delete_retention(request: &Request) -> Result<Value, Fault> {
    request.gateway.logs.set_retention(request.group()?, None).await?;
    Ok(Value::Null)
}

pub async fn describe(request: &Request) -> Result<Value, Fault> {
    let limit = request.limit(PAGE)?;
    let (prefix, pattern) = (request.text("logGroupNamePrefix"), request.text("logGroupNamePattern"));
    if prefix.is_some() && pattern.is_some() {
        return Err(Fault::invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    let (prefix, pattern) = (prefix.unwrap_or_default(), pattern.unwrap_or_default().to_lowercase());
    let after = request.text("nextToken").unwrap_or_default();
    let all = request.gateway.logs.groups(request.account.clone(), request.region.clone()).await?;
    let mut wanted = all.iter().filter(|listed| {
        let name = listed.details.name.as_str();
        name > after && name.starts_with(prefix) && name.to_lowercase().contains(&pattern)
    });
    let page: Vec<&Listed> = wanted.by_ref().take(limit).collect();
    let mut answer = json!({ "logGroups": page.iter().map(|listed| shape(request, listed)).collect::<Vec<_>>() });
    if let (Some(last), Some(_)) = (page.last(), wanted.next()) {
        answer["nextToken"] = last.details.name.clone().into();
    }
    Ok(answer)
}

fn shape(request: &Request, listed: &Listed) -> Value {
    let details = &listed.details;
    let arn = request.arn(&details.name);
    let mut shape = json!({
        "logGroupName": details.name,
        "creationTime": details.created_ms,
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "storedBytes": listed.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    });
    if let Some(days) = details.retention_days {
        shape["retentionInDays"] = days.into();
    }
    shape
}
