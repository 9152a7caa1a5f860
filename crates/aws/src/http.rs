//! One request over one connection: nothing is kept for the next, so that none finds its connection closed half-way, and
//! has to be sent a second time.

use crate::client::{Answer, Call};
use crate::config::Endpoint;
use crate::fault::CallError;
use crate::tls::Tls;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// With or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    match tls.filter(|_| endpoint.is_secure) {
        Some(tls) => Ok(Box::new(tls.agree(stream, &endpoint.host).await?)),
        None => Ok(Box::new(stream)),
    }
}

/// Sends a request, and reads the answer.
pub async fn exchange(
    endpoint: &Endpoint,
    tls: Option<&Tls>,
    call: &Call<'_>,
    headers: &[(String, String)],
) -> Result<Answer, CallError> {
    let (service, name) = (call.service.name(), || endpoint.authority.clone());
    let unreachable = |source: io::Error| match source.kind() {
        // What TLS says of certificates and versions.
        io::ErrorKind::InvalidData => CallError::Tls { service, endpoint: name(), source },
        _ => CallError::Unreachable { service, endpoint: name(), source },
    };
    let broken = |source| CallError::Broken { service, endpoint: name(), source };
    let connecting = timeout(CONNECT_PATIENCE, connect(endpoint, tls));
    let stream = connecting.await.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request(endpoint, call, headers)?).await.map_err(broken);
    let answer = match answered {
        Ok(response) => read(response, service, call.answer_max, broken).await,
        Err(error) => Err(error),
    };
    connection.abort();
    answer
}

fn request(
    endpoint: &Endpoint,
    call: &Call<'_>,
    headers: &[(String, String)],
) -> Result<Request<Full<Bytes>>, CallError> {
    let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
    let mut request = Request::builder()
        .method(call.method)
        .uri(format!("{}{}{query}", endpoint.prefix, call.path))
        .header(HOST, &endpoint.authority)
        .header(CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let what = "the request cannot be written down: a name in it has characters that HTTP does not take";
    let body = Full::new(call.body.clone());
    request.body(body).map_err(|_| CallError::Foreign { service: call.service.name(), what })
}

async fn read(
    response: Response<hyper::body::Incoming>,
    service: &'static str,
    limit: usize,
    broken: impl Fn(hyper::Error) -> CallError,
) -> Result<Answer, CallError> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(&broken)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(CallError::TooLong { service, limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.freeze() })
}
