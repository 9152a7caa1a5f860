//! Events: put into streams, and read from one stream or from all of a group.

use super::fault::Fault;
use super::request::Request;
use crate::lambda::constraint;
use runtime::logs::pattern::Pattern;
use runtime::logs::segments::AHEAD_MAX_MS;
use runtime::logs::select::{Event, From, Place, Selection, Streams};
use runtime::logs::{GroupError, LogStore};
use serde_json::{Value, json};
use std::ops::Range;

/// AWS asks for no token any more, and still answers one.
pub const SEQUENCE_TOKEN: &str = "49039859627149541243254109837249127458213059837249127458";
const PAGE: usize = 10_000;
const DAY_MS: u64 = 86_400_000;
/// Older events are not taken.
const AGE_MAX_MS: u64 = 14 * DAY_MS;
/// Bytes of events in one request, each counting 26 beside its text.
const BATCH_MAX: usize = 1 << 20;
const EVENT_EXTRA: usize = 26;

pub async fn put(request: &Request) -> Result<Value, Fault> {
    let (group, stream) = (request.group()?, request.required("logStreamName")?);
    request.required("logEvents")?;
    let events = given(request)?;
    check_batch(&events)?;
    let logs = &request.gateway.logs;
    if !logs.has_stream(&group, stream).await? {
        return Err(GroupError::NoStream.into());
    }
    let retention = logs.details(&group).await?.retention_days.map(|days| u64::from(days) * DAY_MS);
    let (taken, rejected) = sift(&events, api::time::now_ms(), retention);
    if !taken.is_empty() {
        logs.put(LogStore::put_into(group, stream, events[taken].to_vec())).await?;
    }
    let mut answer = json!({ "nextSequenceToken": SEQUENCE_TOKEN });
    if let Some(rejected) = rejected {
        answer["rejectedLogEventsInfo"] = rejected;
    }
    Ok(answer)
}

fn given(request: &Request) -> Result<Vec<(u64, String)>, Fault> {
    let list = request.value("logEvents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let event = |(index, event): (usize, &Value)| {
        let missing = |member: &str| {
            let field = format!("logEvents.{}.member.{member}", index + 1);
            let message = format!(
                "1 validation error detected: Value null at '{field}' failed to satisfy constraint: Member must not be null"
            );
            Fault::invalid(message)
        };
        let time = event.get("timestamp").and_then(Value::as_u64).ok_or_else(|| missing("timestamp"))?;
        let text = event.get("message").and_then(Value::as_str).ok_or_else(|| missing("message"))?;
        if text.is_empty() {
            let field = format!("logEvents.{}.member.message", index + 1);
            let rule = "Member must have length greater than or equal to 1";
            return Err(constraint::violation(&field, "", rule).into());
        }
        Ok((time, text.to_owned()))
    };
    list.iter().enumerate().map(event).collect()
}

fn check_batch(events: &[(u64, String)]) -> Result<(), Fault> {
    if events.len() > PAGE {
        let rule = format!("Member must have length less than or equal to {PAGE}");
        return Err(constraint::violation("logEvents", "[...]", &rule).into());
    }
    let bytes: usize = events.iter().map(|(_, text)| text.len() + EVENT_EXTRA).sum();
    if bytes > BATCH_MAX {
        return Err(Fault::invalid(format!("Upload too large: {bytes} bytes exceeds limit of {BATCH_MAX}")));
    }
    if !events.is_sorted_by_key(|(time, _)| *time) {
        return Err(Fault::invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    match (events.first(), events.last()) {
        (Some((first, _)), Some((last, _))) if last - first > DAY_MS => Err(Fault::invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        )),
        _ => Ok(()),
    }
}

/// Which of the events are taken, and what is told of the others.
fn sift(events: &[(u64, String)], now: u64, retention: Option<u64>) -> (Range<usize>, Option<Value>) {
    let before = |limit: u64| events.partition_point(|(time, _)| *time < limit);
    let too_old = before(now.saturating_sub(AGE_MAX_MS));
    let expired = retention.map_or(0, |age| before(now.saturating_sub(age)));
    let too_new = before(now + AHEAD_MAX_MS + 1);
    let mut rejected = json!({});
    if too_old > 0 {
        rejected["tooOldLogEventEndIndex"] = too_old.into();
    }
    if expired > 0 {
        rejected["expiredLogEventEndIndex"] = expired.into();
    }
    if too_new < events.len() {
        rejected["tooNewLogEventStartIndex"] = too_new.into();
    }
    let is_empty = rejected.as_object().is_none_or(serde_json::Map::is_empty);
    let start = too_old.max(expired);
    (start..too_new.max(start), (!is_empty).then_some(rejected))
}

pub async fn get(request: &Request) -> Result<Value, Fault> {
    let (group, stream) = (request.any_group()?, request.required("logStreamName")?);
    let token = request.text("nextToken");
    let from = match token {
        Some(token) => parse_either(token)?,
        None if request.flag("startFromHead") => From::OnwardsFrom(Place::default()),
        None => From::BackwardsFrom(Place { at_ms: u64::MAX, nth: 0 }),
    };
    let times = request.number("startTime").unwrap_or(0)..request.number("endTime").unwrap_or(u64::MAX);
    let streams = Streams::Named(vec![stream.to_owned()]);
    let selection = Selection { streams, times, pattern: Pattern::default(), from, limit: request.limit(PAGE)? };
    let logs = &request.gateway.logs;
    let events = logs.page(&group, selection).await?.events;
    if events.is_empty() && !logs.has_stream(&group, stream).await? {
        return Err(GroupError::NoStream.into());
    }
    // Where nothing was found, both tokens stay where this request began.
    let here = match (token, from) {
        (Some(_), From::OnwardsFrom(place) | From::BackwardsFrom(place)) => place,
        (None, _) => Place::default(),
    };
    let forward = events.last().map_or(here, |event| event.place.next());
    let backward = events.first().map_or(here, |event| event.place);
    Ok(json!({
        "events": events.iter().map(|event| json!({
            "timestamp": event.place.at_ms, "message": event.text, "ingestionTime": event.ingested_ms,
        })).collect::<Vec<_>>(),
        "nextForwardToken": format!("f/{}", digits(forward)),
        "nextBackwardToken": format!("b/{}", digits(backward)),
    }))
}

pub async fn filter(request: &Request) -> Result<Value, Fault> {
    let group = request.any_group()?;
    let streams = match (request.texts("logStreamNames"), request.text("logStreamNamePrefix")) {
        (Some(_), Some(_)) => {
            return Err(Fault::invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters."));
        }
        (Some(names), None) => Streams::Named(names),
        (None, prefix) => Streams::Prefix(prefix.unwrap_or_default().to_owned()),
    };
    let pattern = Pattern::parse(request.text("filterPattern").unwrap_or_default());
    let pattern = pattern.map_err(|error| Fault::invalid(error.to_string()))?;
    let place = request.text("nextToken").map_or(Some(Place::default()), parse).ok_or_else(no_token)?;
    let logs = &request.gateway.logs;
    if let Streams::Named(names) = &streams {
        let existing = logs.streams(&group).await?;
        if !names.iter().all(|name| existing.contains_key(name)) {
            return Err(GroupError::NoStream.into());
        }
    }
    // Here the end of the time is part of it.
    let times =
        request.number("startTime").unwrap_or(0)..request.number("endTime").unwrap_or(u64::MAX).saturating_add(1);
    let (from, limit) = (From::OnwardsFrom(place), request.limit(PAGE)?);
    let page = logs.page(&group, Selection { streams, times, pattern, from, limit }).await?;
    let mut answer = json!({ "events": page.events.iter().map(found).collect::<Vec<_>>(), "searchedLogStreams": [] });
    if let (Some(last), true) = (page.events.last(), page.more) {
        answer["nextToken"] = digits(last.place.next()).into();
    }
    Ok(answer)
}

fn found(event: &Event) -> Value {
    json!({
        "logStreamName": &*event.stream,
        "timestamp": event.place.at_ms,
        "message": event.text,
        "ingestionTime": event.ingested_ms,
        "eventId": digits(event.place),
    })
}

fn no_token() -> Fault {
    Fault::invalid("The specified nextToken is invalid.")
}

/// A place in 56 digits, as long as AWS's.
fn digits(place: Place) -> String {
    format!("{:020}{:036}", place.at_ms, place.nth)
}

fn parse(digits: &str) -> Option<Place> {
    let (at, nth) = (digits.len() == 56 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.split_at(20))?;
    Some(Place { at_ms: at.parse().ok()?, nth: nth.parse().ok()? })
}

fn parse_either(token: &str) -> Result<From, Fault> {
    let parsed = match token.split_once('/') {
        Some(("f", digits)) => parse(digits).map(From::OnwardsFrom),
        Some(("b", digits)) => parse(digits).map(From::BackwardsFrom),
        _ => None,
    };
    parsed.ok_or_else(no_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_in_56_digits_and_read_back() {
        let place = Place { at_ms: 1_793_200_000_123, nth: 7 };
        assert_eq!(digits(place).len(), 56);
        assert_eq!(parse(&digits(place)), Some(place));
        assert_eq!(parse_either(&format!("b/{}", digits(place))).unwrap(), From::BackwardsFrom(place));
        for wrong in ["", "f/", "f/12", "x/1", &digits(place), &format!("f/{}", "9".repeat(56))] {
            assert!(parse_either(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_out_of_their_time_are_told_by_their_index() {
        let now = 100 * DAY_MS;
        let events: Vec<_> =
            [now - 15 * DAY_MS, now - 3 * DAY_MS, now, now + 3 * 3_600_000].map(|at| (at, "x".into())).into();
        let told = |retention| sift(&events, now, retention);
        assert_eq!(told(None), (1..3, Some(json!({ "tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3 }))));
        let all = json!({ "tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2, "tooNewLogEventStartIndex": 3 });
        assert_eq!(told(Some(DAY_MS)), (2..3, Some(all)));
        assert_eq!(sift(&events[2..3], now, None), (0..1, None));
    }

    #[test]
    fn batches_are_in_order_and_of_a_day() {
        let at = |times: &[u64]| check_batch(&times.iter().map(|at| (*at, "x".to_owned())).collect::<Vec<_>>());
        assert!(at(&[1, 1, DAY_MS + 1]).is_ok());
        assert!(at(&[2, 1]).is_err());
        assert!(at(&[1, DAY_MS + 2]).is_err());
        assert!(check_batch(&[(1, "x".repeat(BATCH_MAX))]).is_err());
        assert!(at(&[1; PAGE]).is_ok() && at(&[1; PAGE + 1]).is_err());
    }
}
