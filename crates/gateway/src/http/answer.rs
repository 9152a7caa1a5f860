//! Answers: a body that is there, or one that comes.

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{AsHeaderName, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What the gateway answers with.
pub type Response = hyper::Response<Body>;

/// An answer's body.
pub enum Body {
    /// Sent together with the head, in one write.
    Whole(Bytes),
    /// Sent as it comes; an error cuts the connection.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
    /// Made when the client has room for it; an error cuts the connection.
    Made(Box<dyn Source + Send>),
}

/// What makes a body, piece by piece.
pub trait Source {
    /// The next piece; nothing after the last one.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream.poll_recv(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
            Self::Made(source) => source.poll_piece(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) | Self::Made(_) => SizeHint::default(),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body of this type.
pub fn with(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::Whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A JSON text.
pub fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with(status, JSON, body)
}

/// A value, as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_text(status, body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A header's value, if it is there and is text. A name that is known when this is compiled need not be read letter by letter.
pub fn header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
