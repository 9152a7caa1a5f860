//! What destinations are told of an event, as Lambda words it.

use super::event::{Event, Performed, Policy, Reason};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

/// Bytes of an error that go with a dead letter.
const ERROR_MAX: usize = 1024;

/// The messages that follow from an event's end: `reason` where it failed.
pub fn messages(event: &Event, performed: &Performed, reason: Option<Reason>, policy: &Policy, now: u64) -> Vec<Event> {
    let destination = if reason.is_some() { &policy.on_failure } else { &policy.on_success };
    let mut messages = Vec::new();
    if !destination.is_empty() {
        let record = record(event, performed, reason, now);
        messages.push(message(event, destination, record.into(), String::new(), now));
    }
    if let Some(reason) = reason
        && !policy.dead_letters.is_empty()
    {
        let context = attributes(event, performed, reason);
        messages.push(message(event, &policy.dead_letters, event.payload.clone(), context, now));
    }
    messages
}

fn message(event: &Event, target: &str, payload: bytes::Bytes, context: String, now: u64) -> Event {
    Event {
        request_id: Uuid::new_v4().to_string(),
        target: target.to_owned(),
        payload,
        context,
        trace_id: event.trace_id.clone(),
        tenant_id: String::new(),
        accepted_ms: now,
        attempts: 0,
    }
}

/// The record, in the order in which Lambda writes it. What came in and went out is in it as it was, byte by byte.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: &'static str,
    timestamp: String,
    request_context: Value,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

fn record(event: &Event, performed: &Performed, reason: Option<Reason>, now: u64) -> String {
    let (version, answer) = match performed {
        Performed::Answered { body, failed, version } => (version.as_str(), Some((body, *failed))),
        _ => ("", None),
    };
    // The function that is told of names its version, whether its caller did or not.
    let is_qualified = event.target.matches(':').count() > 6;
    let arn = if is_qualified { event.target.clone() } else { format!("{}:$LATEST", event.target) };
    let mut answered = json!({ "statusCode": 200, "executedVersion": version });
    if answer.is_some_and(|(_, failed)| failed) {
        answered["functionError"] = "Unhandled".into();
    }
    let record = Record {
        version: "1.0",
        timestamp: api::time::rfc3339(now),
        request_context: json!({
            "requestId": event.request_id,
            "functionArn": arn,
            "condition": reason.map_or("Success", Reason::as_str),
            "approximateInvokeCount": event.attempts + u32::from(answer.is_some()),
        }),
        request_payload: raw(&event.payload),
        response_context: answer.map(|_| answered),
        response_payload: answer.map(|(body, _)| raw(body)),
    };
    serde_json::to_string(&record).expect("texts and numbers can be written as JSON")
}

/// A function may answer what is no JSON: then the text is told.
fn raw(json: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(json);
    RawValue::from_string(text.trim().to_owned())
        .unwrap_or_else(|_| serde_json::value::to_raw_value(&text).expect("a text can be written as JSON"))
}

/// The attributes of a dead letter.
fn attributes(event: &Event, performed: &Performed, reason: Reason) -> String {
    let (code, message) = match performed {
        Performed::Answered { body, .. } => (200, error_message(body)),
        Performed::Broken { reason } | Performed::Impossible { reason } => (500, reason.clone()),
        Performed::Throttled => (429, reason.as_str().to_owned()),
    };
    // Services take no control characters, of which errors are full that were meant for terminals.
    let message = message.replace(|c: char| !is_taken(c), "\u{fffd}");
    let cut = message.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= ERROR_MAX).last();
    let message = &message[..cut.unwrap_or_default()];
    json!({ "RequestID": event.request_id, "ErrorCode": code, "ErrorMessage": message }).to_string()
}

/// Whether SQS and SNS take this in a text.
fn is_taken(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'))
}

fn error_message(body: &[u8]) -> String {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    error["errorMessage"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_what_lambda_tells_them() {
        let target = "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned();
        let event =
            Event { request_id: "r".into(), target, payload: "{\"a\":1}".into(), attempts: 2, ..Event::default() };
        let body = r#"{"errorMessage":"no","errorType":"E"}"#;
        let failed = Performed::Answered { body: body.into(), failed: true, version: "$LATEST".into() };
        let policy = Policy {
            retries: 2,
            age_max_ms: 0,
            concurrency: None,
            on_success: "s".into(),
            on_failure: "f".into(),
            dead_letters: "d".into(),
        };
        let [to_failure, to_dead] = &messages(&event, &failed, Some(Reason::RetriesExhausted), &policy, 0)[..] else {
            panic!("two messages")
        };
        assert_eq!((&*to_failure.target, &*to_dead.target, &to_dead.payload), ("f", "d", &event.payload));
        assert_eq!(
            std::str::from_utf8(&to_failure.payload).unwrap(),
            r#"{"version":"1.0","timestamp":"1970-01-01T00:00:00.000Z","requestContext":{"requestId":"r","functionArn":"arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"a":1},"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"no","errorType":"E"}}"#
        );
        assert_eq!(to_dead.context, r#"{"RequestID":"r","ErrorCode":200,"ErrorMessage":"no"}"#);
        let colours = Performed::Answered {
            body: r#"{"errorMessage":"\u001b[31mno\u0000\n"}"#.into(),
            failed: true,
            version: String::new(),
        };
        let told: Value = serde_json::from_str(&attributes(&event, &colours, Reason::RetriesExhausted)).unwrap();
        assert_eq!(told["ErrorMessage"], "\u{fffd}[31mno\u{fffd}\n");
        // Neither numbers nor depth nor spaces are lost.
        let exact = format!("{{\"n\": 12345678901234567890123, \"deep\": {}{}}}", "[".repeat(1000), "]".repeat(1000));
        let deep = Event { payload: exact.clone().into(), ..event.clone() };
        assert!(record(&deep, &failed, None, 0).contains(&exact));
        assert_eq!(raw(b"not json").get(), "\"not json\"");
        let [success] = &messages(&event, &failed, None, &policy, 0)[..] else { panic!("one message") };
        assert_eq!(success.target, "s");
    }
}
