//! Servers: one that answers by hyper, over HTTP/1.1 and HTTP/2, with and without TLS, and one that says what it is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A server that ends with the test.
pub struct Server {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Handler = fn(hyper::http::request::Parts, Bytes) -> hyper::Response<Full<Bytes>>;

/// Answers with what it was asked: method, path, headers in order, body.
pub fn echo(head: hyper::http::request::Parts, body: Bytes) -> hyper::Response<Full<Bytes>> {
    let mut lines: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    let text = format!(
        "{:?} {} {}\n{}\n\n{}",
        head.version,
        head.method,
        head.uri,
        lines.join("\n"),
        String::from_utf8_lossy(&body)
    );
    hyper::Response::builder().header("x-answer", "yes").body(Full::new(text.into())).unwrap()
}

impl Server {
    pub async fn plain(handler: Handler) -> Self {
        Self::start(handler, None, false).await
    }

    /// HTTP/2 by prior knowledge.
    pub async fn plain_two(handler: Handler) -> Self {
        Self::start(handler, None, true).await
    }

    pub async fn tls(handler: Handler, authority: &Authority, protocols: &[&[u8]]) -> Self {
        Self::start(handler, Some(authority.acceptor(protocols)), false).await
    }

    async fn start(handler: Handler, tls: Option<TlsAcceptor>, two: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (made, asked) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::Relaxed);
                let (tls, asked) = (tls.clone(), asked.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(handler, request, asked.clone()));
                    match tls {
                        None if two => drop(
                            http2::Builder::new(TokioExecutor::new())
                                .serve_connection(TokioIo::new(stream), service)
                                .await,
                        ),
                        None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let is_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            let io = TokioIo::new(stream);
                            match is_two {
                                true => {
                                    drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await)
                                }
                                false => drop(http1::Builder::new().serve_connection(io, service).await),
                            }
                        }
                    }
                });
            }
        });
        Self { port, connections, requests, task: task.abort_handle() }
    }

    /// Reads until an empty line, then writes these pieces, each flushed; then closes, or stays silent.
    pub async fn raw(pieces: Vec<Vec<u8>>, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (made, asked) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::Relaxed);
                let (pieces, asked) = (pieces.clone(), asked.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    for piece in pieces {
                        if stream.write_all(&piece).await.is_err() {
                            return;
                        }
                    }
                    if !closes {
                        // Until the client has had enough.
                        let _ = stream.read(&mut [0; 1]).await;
                    }
                });
            }
        });
        Self { port, connections, requests, task: task.abort_handle() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn made(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn asked(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn answer(
    handler: Handler,
    request: hyper::Request<Incoming>,
    asked: Arc<AtomicUsize>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    asked.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(handler(head, body))
}

/// A certificate for `localhost` that signs itself.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    /// A bundle that trusts it.
    pub fn bundle(&self, folder: &std::path::Path) -> PathBuf {
        let path = folder.join("bundle.pem");
        let text = STANDARD.encode(&self.certificate);
        std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")).unwrap();
        path
    }

    fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let chain = vec![self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
