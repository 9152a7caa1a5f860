//! `InvokeWithResponseStream`: an invocation whose answer comes as an event stream.
//!
//! ```text
//! frame = length, length of headers, CRC of both │ headers │ payload │ CRC of all        (integers: 32 bits, big-endian)
//! answer = PayloadChunk …  InvokeComplete { ErrorCode?, ErrorDetails?, LogResult? }
//! ```
//! Source: "Amazon event stream encoding" in AWS's SDK guides. Functions that write their answers piece by piece are not
//! here yet: an answer is whole before its first frame goes out, as with functions of AWS's that do not stream.

use super::fault::Fault;
use super::invoke::{client_context, log_tail, payload, trace_id};
use super::{constraint, name};
use crate::http::{Response, answer};
use crate::route::{Answer, Exchange, Route, route};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::{Call, Outcome};
use serde::Serialize;

pub const ROUTES: &[Route] =
    &[route!(POST "/2021-11-15/functions/*/response-streaming-invocations" InvokeWithResponseStream => invoke)];

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
/// Clients of AWS's refuse frames from 16 MiB on.
const CHUNK_MAX: usize = 1 << 20;
/// A header's value that is a text.
const TEXT: u8 = 7;
/// Lengths and their CRC, and the CRC at the end.
const FRAMING: usize = 16;

/// What comes last.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InvokeComplete {
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_details: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_result: Option<String>,
}

async fn invoke(mut exchange: Exchange) -> Answer {
    let dry = match exchange.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => false,
        Some("DryRun") => true,
        Some(other) => {
            let rule = "Member must satisfy enum value set: [RequestResponse, DryRun]";
            return Err(constraint::violation("invocationType", other, rule));
        }
    };
    let (log_tail, client_context) = (log_tail(&exchange)?, client_context(&exchange)?);
    let (entry, invoked_arn) = {
        let target = name::of_path(&exchange)?;
        let arn = target.qualifier.as_ref().map(|_| target.arn());
        (target.choose(&exchange.gateway)?, arn.unwrap_or_default())
    };
    let payload = payload(&mut exchange).await?;
    if dry {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let call = Call {
        payload,
        invoked_arn,
        client_context,
        trace_id: trace_id(&exchange),
        log_tail,
        tenant_id: exchange.header("x-amz-tenant-id").unwrap_or_default().to_owned(),
        accepted: exchange.accepted,
        request_id: exchange.id,
        ..Call::default()
    };
    let outcome = exchange.gateway.dispatcher.invoke(&entry.function, call).await?;
    answered(&outcome, entry.version_name())
}

fn answered(outcome: &Outcome, version: &str) -> Result<Response, Fault> {
    let mut frames = BytesMut::with_capacity(outcome.body.len() + 512);
    let mut complete = InvokeComplete {
        log_result: outcome.log_tail.as_ref().map(|tail| BASE64.encode(tail)),
        ..InvokeComplete::default()
    };
    if outcome.failed {
        complete.error_code = Some("Unhandled");
        complete.error_details = Some(String::from_utf8_lossy(&outcome.body).into_owned());
    } else {
        for chunk in outcome.body.chunks(CHUNK_MAX) {
            frame(&mut frames, "PayloadChunk", "application/octet-stream", chunk);
        }
    }
    let complete = serde_json::to_vec(&complete).map_err(|error| Fault::internal(&error))?;
    frame(&mut frames, "InvokeComplete", "application/json", &complete);
    let mut response = answer::with(StatusCode::OK, CONTENT_TYPE, Bytes::from(frames));
    let version = HeaderValue::from_str(version).map_err(|error| Fault::internal(&error))?;
    response.headers_mut().insert("x-amz-executed-version", version);
    Ok(response)
}

/// Writes one frame.
fn frame(to: &mut BytesMut, event: &str, content_type: &str, payload: &[u8]) {
    let headers = [(":message-type", "event"), (":event-type", event), (":content-type", content_type)];
    let length: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let from = to.len();
    // Payloads are no longer than a chunk, or than what the node itself has put together.
    to.put_u32((FRAMING + length + payload.len()) as u32);
    to.put_u32(length as u32);
    to.put_u32(crc32fast::hash(&to[from..]));
    for (name, value) in headers {
        to.put_u8(name.len() as u8);
        to.put_slice(name.as_bytes());
        to.put_u8(TEXT);
        to.put_u16(value.len() as u16);
        to.put_slice(value.as_bytes());
    }
    to.put_slice(payload);
    to.put_u32(crc32fast::hash(&to[from..]));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a frame off the front: its event and its payload.
    fn take(frames: &mut &[u8]) -> (String, Vec<u8>) {
        let word = |at: usize| u32::from_be_bytes(frames[at..at + 4].try_into().unwrap());
        let (total, headers) = (word(0) as usize, word(4) as usize);
        assert_eq!(word(8), crc32fast::hash(&frames[..8]));
        assert_eq!(word(total - 4), crc32fast::hash(&frames[..total - 4]));
        let names = String::from_utf8_lossy(&frames[12..12 + headers]).into_owned();
        let event = ["PayloadChunk", "InvokeComplete"].into_iter().find(|event| names.contains(event)).unwrap();
        let payload = frames[12 + headers..total - 4].to_vec();
        *frames = &frames[total..];
        (event.to_owned(), payload)
    }

    #[test]
    fn frames_can_be_taken_apart() {
        let long = vec![7; CHUNK_MAX + 5];
        let mut frames = BytesMut::new();
        for chunk in long.chunks(CHUNK_MAX) {
            frame(&mut frames, "PayloadChunk", "application/octet-stream", chunk);
        }
        frame(&mut frames, "InvokeComplete", "application/json", b"{}");
        let mut rest = &frames[..];
        let (first, second) = (take(&mut rest), take(&mut rest));
        assert_eq!((first.0.as_str(), first.1.len(), second.1.len()), ("PayloadChunk", CHUNK_MAX, 5));
        assert_eq!(take(&mut rest), ("InvokeComplete".to_owned(), b"{}".to_vec()));
        assert!(rest.is_empty());
    }
}
