//! `InvokeWithResponseStream`: an invocation whose answer comes as an event stream.
//!
//! ```text
//! frame = length, length of headers, CRC of both │ headers │ payload │ CRC of all        (integers: 32 bits, big-endian)
//! answer = PayloadChunk …  InvokeComplete { ErrorCode?, ErrorDetails?, LogResult? }
//! ```
//! Source: "Amazon event stream encoding" in AWS's SDK guides. Parts of an answer go out as they come, one frame each; an
//! answer that the function gives whole is cut into frames.

use super::asked::{self, Asked, Kind, Kinds, Manner};
use super::fault::Fault;
use crate::http::answer::Source;
use crate::http::{Body, answer};
use crate::route::{Answer, Exchange, Route, route};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::{InvokeError, Outcome, Parts, Streamed};
use serde::Serialize;
use std::io;
use std::task::{Context, Poll, ready};

pub const ROUTES: &[Route] =
    &[route!(POST "/2021-11-15/functions/*/response-streaming-invocations" InvokeWithResponseStream => invoke)];

const KINDS: Kinds = &[("RequestResponse", Kind::RequestResponse), ("DryRun", Kind::DryRun)];
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
/// Clients of AWS's refuse frames from 16 MiB on.
const CHUNK_MAX: usize = 1 << 20;
/// A header's value that is a text.
const TEXT: u8 = 7;
/// Lengths and their CRC, and the CRC at the end.
const FRAMING: usize = 16;
/// Bytes that our own headers take, and more.
const HEADERS: usize = 128;

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
    let manner = Manner::of(&exchange, KINDS)?;
    let kind = manner.kind;
    let asked = Asked::read(&mut exchange, manner).await?;
    if kind == Kind::DryRun {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let (entry, call, told) = asked.parts();
    let mut response = match exchange.gateway.dispatcher.stream(&entry.function, call).await? {
        Streamed::Whole(outcome) => {
            let outcome = asked::restored(&entry, outcome)?;
            answer::with(StatusCode::OK, CONTENT_TYPE, whole(&outcome)?)
        }
        Streamed::Parts(parts) => {
            let mut response = answer::with(StatusCode::OK, CONTENT_TYPE, Bytes::new());
            *response.body_mut() = Body::Made(Box::new(Frames { parts, is_complete: false }));
            response
        }
    };
    told.tell(&mut response);
    Ok(response)
}

fn whole(outcome: &Outcome) -> Result<Bytes, Fault> {
    let mut frames = BytesMut::with_capacity(outcome.body.len() + 512);
    if !outcome.failed {
        for chunk in outcome.body.chunks(CHUNK_MAX) {
            frame(&mut frames, "PayloadChunk", "application/octet-stream", chunk);
        }
    }
    complete(&mut frames, outcome).map_err(|error| Fault::internal(&error))?;
    Ok(frames.freeze())
}

/// The frames of an answer in parts.
struct Frames {
    parts: Parts,
    is_complete: bool,
}

impl Source for Frames {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.is_complete {
            return Poll::Ready(None);
        }
        if let Some(part) = ready!(self.parts.poll_part(cx)) {
            let mut frames = BytesMut::with_capacity(part.len() + FRAMING + HEADERS);
            frame(&mut frames, "PayloadChunk", "application/octet-stream", &part);
            return Poll::Ready(Some(Ok(frames.freeze())));
        }
        let end = ready!(self.parts.poll_end(cx));
        self.is_complete = true;
        let mut frames = BytesMut::new();
        let written = match end {
            Ok(outcome) => complete(&mut frames, &outcome),
            Err(error) => broken(&mut frames, &error),
        };
        Poll::Ready(Some(written.map(|()| frames.freeze()).map_err(io::Error::from)))
    }
}

fn complete(frames: &mut BytesMut, outcome: &Outcome) -> serde_json::Result<()> {
    let complete = InvokeComplete {
        error_code: outcome.failed.then_some("Unhandled"),
        error_details: outcome.failed.then(|| String::from_utf8_lossy(&outcome.body).into_owned()),
        log_result: outcome.log_tail.as_ref().map(|tail| BASE64.encode(tail)),
    };
    frame(frames, "InvokeComplete", "application/json", &serde_json::to_vec(&complete)?);
    Ok(())
}

/// The node, rather than the function, has failed in the middle of the answer.
fn broken(frames: &mut BytesMut, error: &InvokeError) -> serde_json::Result<()> {
    let complete = InvokeComplete {
        error_code: Some("ServiceException"),
        error_details: Some(error.to_string()),
        ..InvokeComplete::default()
    };
    frame(frames, "InvokeComplete", "application/json", &serde_json::to_vec(&complete)?);
    Ok(())
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
