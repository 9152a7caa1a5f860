//! Log streams: made, deleted, and listed by name or by their last event.

use super::fault::Fault;
use super::request::Request;
use runtime::logs::select::Span;
use serde_json::{Value, json};

const PAGE: usize = 50;

pub async fn create(request: &Request) -> Result<Value, Fault> {
    let stream = request.required("logStreamName")?.to_owned();
    request.gateway.logs.create_stream(request.group()?, stream).await?;
    Ok(Value::Null)
}

pub async fn delete(request: &Request) -> Result<Value, Fault> {
    let stream = request.required("logStreamName")?.to_owned();
    request.gateway.logs.delete_stream(request.group()?, stream).await?;
    Ok(Value::Null)
}

/// A stream's name, when it was made, and what it holds.
type Stream = (String, u64, Option<Span>);
/// What streams are ordered by.
type Key = (u64, String);

pub async fn describe(request: &Request) -> Result<Value, Fault> {
    let (limit, group) = (request.limit(PAGE)?, request.any_group()?);
    let by_time = request.text("orderBy") == Some("LastEventTime");
    let prefix = request.text("logStreamNamePrefix").unwrap_or_default();
    if by_time && !prefix.is_empty() {
        return Err(Fault::invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let after = request.text("nextToken").map(parse).transpose()?;
    let descending = request.flag("descending");
    let streams = request.gateway.logs.streams(&group).await?;
    let mut wanted: Vec<(Key, Stream)> = streams
        .into_iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, (created_ms, span))| {
            let time = if by_time { span.map_or(0, |span| span.last_ms) } else { 0 };
            ((time, name.clone()), (name, created_ms, span))
        })
        .filter(|(key, _)| after.as_ref().is_none_or(|after| if descending { key < after } else { key > after }))
        .collect();
    wanted.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
    let more = wanted.len() > limit;
    wanted.truncate(limit);
    let arn = request.arn(&group.name);
    let mut answer = json!({ "logStreams": wanted.iter().map(|(_, stream)| shape(&arn, stream)).collect::<Vec<_>>() });
    if let (Some(((time, name), _)), true) = (wanted.last(), more) {
        answer["nextToken"] = format!("{time}:{name}").into();
    }
    Ok(answer)
}

fn parse(token: &str) -> Result<Key, Fault> {
    let parsed = token.split_once(':').and_then(|(time, name)| Some((time.parse().ok()?, name.to_owned())));
    parsed.ok_or_else(|| Fault::invalid("The specified nextToken is invalid."))
}

fn shape(group_arn: &str, (name, created_ms, span): &Stream) -> Value {
    let mut shape = json!({
        "logStreamName": name,
        "creationTime": created_ms,
        "uploadSequenceToken": super::events::SEQUENCE_TOKEN,
        "arn": format!("{group_arn}:log-stream:{name}"),
        // As on AWS, which does not say any more.
        "storedBytes": 0,
    });
    if let Some(span) = span {
        shape["firstEventTimestamp"] = span.first_ms.into();
        shape["lastEventTimestamp"] = span.last_ms.into();
        shape["lastIngestionTime"] = span.ingested_ms.into();
    }
    shape
}
