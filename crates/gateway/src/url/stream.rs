//! Answers in parts, as HTTP responses: with `awslambda.HttpResponseStream` what the response is stands before its body.
//!
//! ```text
//! content type application/vnd.awslambda.http-integration-response:   {"statusCode": …} 8 NUL bytes, then the body
//! any other:                                                         the body, of that type
//! ```
//! A function that fails before its response has begun is answered for with 502; later on, the connection is cut.

use super::reply;
use crate::http::answer::{self, Source};
use crate::http::{Body, Response};
use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::Parts;
use std::io;
use std::task::{Context, Poll, ready};

const DESCRIBED: &str = "application/vnd.awslambda.http-integration-response";
const DELIMITER: [u8; 8] = [0; 8];
/// Bytes of what describes a response: about what clients bear of a response's head.
const DESCRIPTION_MAX: usize = 48 * 1024;

/// The response whose body these parts are.
pub(super) async fn respond(mut parts: Parts) -> Response {
    let (mut response, first) = if is_described(&parts.content_type) {
        let Some((description, first)) = split(&mut parts).await else { return reply::failed() };
        let Some(response) = reply::described(&description) else { return reply::failed() };
        (response, first)
    } else {
        let content_type = HeaderValue::from_str(&parts.content_type).unwrap_or(reply::BYTES);
        (answer::with(StatusCode::OK, content_type, Bytes::new()), Bytes::new())
    };
    *response.body_mut() = Body::Made(Box::new(Rest { first, parts, is_over: false }));
    response
}

fn is_described(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(DESCRIBED))
}

/// What stands before the delimiter, and the beginning of what stands behind it.
async fn split(parts: &mut Parts) -> Option<(Bytes, Bytes)> {
    let mut read = BytesMut::new();
    while let Some(part) = parts.part().await {
        // A delimiter may have begun in the part before.
        let from = read.len().saturating_sub(DELIMITER.len() - 1);
        read.extend_from_slice(&part);
        if let Some(at) = read[from..].windows(DELIMITER.len()).position(|window| window == DELIMITER) {
            let description = read.split_to(from + at).freeze();
            let first = read.split_off(DELIMITER.len()).freeze();
            return (description.len() <= DESCRIPTION_MAX).then_some((description, first));
        }
        if read.len() > DESCRIPTION_MAX {
            return None;
        }
    }
    None
}

/// What is left of the parts.
struct Rest {
    first: Bytes,
    parts: Parts,
    is_over: bool,
}

impl Source for Rest {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(part) = ready!(self.parts.poll_part(cx)) {
            return Poll::Ready(Some(Ok(part)));
        }
        let end = ready!(self.parts.poll_end(cx));
        self.is_over = true;
        Poll::Ready(match end {
            Ok(outcome) if !outcome.failed => None,
            Ok(_) => Some(Err(io::Error::other("the function failed in the middle of its answer"))),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    }
}
