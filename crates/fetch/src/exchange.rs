//! One request, and the answer to it: over a connection that is kept, or a new one.
//!
//! A request is sent a second time only where the first connection certainly did nothing with it, or where doing it
//! twice is the same as once and not a byte of an answer had come.

use crate::connect::{Connection, Connector};
use crate::failure::Failure;
use crate::pool::{Key, Pool, Sender};
use crate::request::{Request, Version};
use crate::room::Room;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("lichen/", env!("CARGO_PKG_VERSION")));
/// Lines of an answer's head.
const LINES: usize = 256;

/// An answer, all of it.
#[derive(Debug)]
pub struct Answer {
    pub version: hyper::Version,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What sends requests.
pub struct Exchanger {
    pub connector: Connector,
    pub pool: Arc<Pool>,
    pub room: Room,
    pub first_byte: Duration,
    pub head_max: usize,
    pub body_max: usize,
}

/// What became of a request on one connection.
enum Sent {
    Answered(hyper::Response<Incoming>, Sender),
    /// The connection had ended; the request may be sent on another.
    Stale,
}

impl Exchanger {
    /// Sends a request, and waits for all of its answer.
    pub async fn exchange(&self, request: &Request) -> Result<Answer, Failure> {
        let key = Key::of(&request.target, request.version);
        // Whatever is kept may have been closed a moment ago, all of it.
        while let Some(sender) = self.pool.take(&key) {
            match self.send(request, sender, true).await? {
                Sent::Answered(response, sender) => return self.read(request, response, key, sender).await,
                // One that takes no more requests need not be closed yet.
                Sent::Stale => self.pool.forget_shared(&key),
            }
        }
        let sender = self.open(request).await?;
        if let Sender::Two(sender) = &sender {
            self.pool.put(key.clone(), Sender::Two(sender.clone()));
        }
        match self.send(request, sender, false).await? {
            Sent::Answered(response, sender) => self.read(request, response, key, sender).await,
            Sent::Stale => Err(self.closed(request)),
        }
    }

    fn closed(&self, request: &Request) -> Failure {
        let source = std::io::ErrorKind::ConnectionReset.into();
        Failure::Connect { host: request.target.host.clone(), port: request.target.port, source }
    }

    async fn open(&self, request: &Request) -> Result<Sender, Failure> {
        let (host, version) = (&request.target.host, request.version);
        let broken = |source| Failure::Broken { host: host.clone(), source };
        match self.connector.connect(&request.target, version).await? {
            Connection::Plain(stream) if version == Version::Two => {
                self.two(TokioIo::new(stream)).await.map_err(broken)
            }
            Connection::Tls(stream, true) => self.two(TokioIo::new(*stream)).await.map_err(broken),
            Connection::Plain(stream) => self.one(TokioIo::new(stream)).await.map_err(broken),
            Connection::Tls(stream, false) => self.one(TokioIo::new(*stream)).await.map_err(broken),
        }
    }

    async fn one<I>(&self, io: I) -> Result<Sender, hyper::Error>
    where
        I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.head_max.max(8192)).max_headers(LINES);
        let (sender, connection) = builder.handshake(io).await?;
        // Ends with its sender, or when the other side closes it.
        tokio::spawn(connection);
        Ok(Sender::One(sender))
    }

    async fn two<I>(&self, io: I) -> Result<Sender, hyper::Error>
    where
        I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let head_max = u32::try_from(self.head_max).unwrap_or(u32::MAX);
        builder.timer(TokioTimer::new()).max_header_list_size(head_max);
        let (sender, connection) = builder.handshake(io).await?;
        tokio::spawn(connection);
        Ok(Sender::Two(sender))
    }

    /// Until the answer's head is there.
    async fn send(&self, request: &Request, mut sender: Sender, is_used: bool) -> Result<Sent, Failure> {
        let host = &request.target.host;
        let answering = async {
            match &mut sender {
                Sender::One(one) => match one.ready().await {
                    Ok(()) => one.try_send_request(written(request, false)).await,
                    Err(_) => return None,
                },
                Sender::Two(two) => match two.ready().await {
                    Ok(()) => two.try_send_request(written(request, true)).await,
                    Err(_) => return None,
                },
            }
            .into()
        };
        let late = || Failure::FirstByteTimeout { host: host.clone(), patience: self.first_byte };
        match timeout(self.first_byte, answering).await.map_err(|_| late())? {
            Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Failure::Upgraded { host: host.clone() })
            }
            Some(Ok(response)) => Ok(Sent::Answered(response, sender)),
            None => Ok(Sent::Stale),
            Some(Err(error)) => self.unanswered(request, error, is_used),
        }
    }

    fn unanswered(
        &self,
        request: &Request,
        mut error: TrySendError<hyper::Request<Full<Bytes>>>,
        is_used: bool,
    ) -> Result<Sent, Failure> {
        let unsent = error.take_message().is_some();
        let source = error.into_error();
        let gone = source.is_incomplete_message() || source.is_closed();
        match is_used && (unsent || gone && request.method.is_idempotent()) {
            true => Ok(Sent::Stale),
            false if source.is_parse_too_large() => Err(Failure::HeadTooLong { limit: self.head_max }),
            false => Err(Failure::Broken { host: request.target.host.clone(), source }),
        }
    }

    /// The answer's body; then the connection is there for others.
    async fn read(
        &self,
        request: &Request,
        response: hyper::Response<Incoming>,
        key: Key,
        sender: Sender,
    ) -> Result<Answer, Failure> {
        let (head, mut incoming) = response.into_parts();
        let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > self.head_max {
            return Err(Failure::HeadTooLong { limit: self.head_max });
        }
        let mut body = self.room.body(incoming.size_hint().exact(), self.body_max)?;
        while let Some(frame) = incoming.frame().await {
            let broken = |source| Failure::Broken { host: request.target.host.clone(), source };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                body.push(data)?;
            }
        }
        if matches!(sender, Sender::One(_)) {
            self.pool.put(key, sender);
        }
        Ok(Answer { version: head.version, status: head.status, headers: head.headers, body: body.done() })
    }
}

/// As it is sent: HTTP/1.1 has the host in a header, HTTP/2 in the address.
fn written(request: &Request, is_two: bool) -> hyper::Request<Full<Bytes>> {
    let mut sent = hyper::Request::new(Full::new(request.body.clone()));
    *sent.method_mut() = request.method.clone();
    *sent.headers_mut() = request.headers.clone();
    sent.headers_mut().entry(USER_AGENT).or_insert(AGENT);
    let target = &request.target;
    let address = if is_two { target.url() } else { target.path.clone() };
    // Both are parts of an address that was read as one.
    *sent.uri_mut() = address.parse().unwrap_or_default();
    if !is_two && let Ok(host) = HeaderValue::from_str(&target.authority()) {
        sent.headers_mut().insert(HOST, host);
    }
    sent
}
