//! Connections: accepted, bounded in number and patience, and finished in good order when the node ends.
//!
//! HTTP/1.1 only; TLS is for a proxy in front.

use super::answer::Body;
use super::loops::{EventLoop, Place, Spares};
use crate::gateway::Gateway;
use crate::route;
use daemon::drain::Watch;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::dispatch::awake;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Pause after an accept that failed for want of descriptors or memory: the next would fail as well.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client that has connected and asked nothing may still ask when the node ends.
const LAST_CALL: Duration = Duration::from_millis(250);
/// The loop in which connections are accepted.
const FIRST: usize = 0;
/// What a connection too many is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
    x-amzn-ErrorType: ServiceException\r\nConnection: close\r\nContent-Length: 118\r\n\r\n\
    {\"Type\":\"Service\",\"Message\":\"This node has as many connections as `connections` in [http] of lichen.toml allows it.\"}\n";

/// Accepts connections until it is dropped, in the first of these loops.
pub async fn accept(listener: TcpListener, loops: Arc<[EventLoop]>, gateway: Arc<Gateway>, drain: Watch) {
    let computing = gateway.dispatcher.computing();
    let spares: Spares = Arc::new(move |processor| computing.spares(processor));
    let connections = Arc::new(Semaphore::new(gateway.config.http.connections.min(Semaphore::MAX_PERMITS)));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that has gone again is no trouble of ours.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let near = rustix::net::sockopt::socket_incoming_cpu(&stream).ok();
        let place = Arc::new(Place::new(loops.clone(), spares.clone(), near));
        let serving = (gateway.clone(), drain.clone(), place.clone(), permit);
        carry(Box::pin(serve(stream, peer, serving)), place);
    }
}

/// What a connection needs, its place, and its leave to be one of so many.
type Serving = (Arc<Gateway>, Watch, Arc<Place>, OwnedSemaphorePermit);

/// All of a connection's life, carried on by the loop in which its place is.
struct Carried {
    life: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    place: Arc<Place>,
}

fn carry(life: Pin<Box<dyn Future<Output = ()> + Send>>, place: Arc<Place>) {
    let handle = place.event_loop().handle.clone();
    handle.spawn(Carried { life: Some(life), place });
}

impl Future for Carried {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(life) = &mut self.life else { return Poll::Ready(()) };
        if life.as_mut().poll(cx).is_pending() {
            if !self.place.leave() {
                return Poll::Pending;
            }
            // Whatever it waits for it asks for anew there.
            self.life.take().into_iter().for_each(|life| carry(life, self.place.clone()));
        }
        Poll::Ready(())
    }
}

/// In one write into an empty socket buffer, or not at all: nobody waits for a client who is not served.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(BUSY);
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, (gateway, mut drain, place, _permit): Serving) {
    let http = &gateway.config.http;
    if let Err(error) = prepare(&stream, Duration::from_secs(http.stall_s)) {
        tracing::debug!(%peer, %error, "a connection was gone before it began");
        return;
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(http.idle_s.max(1)));
    builder.max_buf_size(http.head_max.max(8192));
    let asked = Notify::new();
    // The first head has a time limit before there is a request.
    place.keep_ticking();
    let service = service_fn(|request| {
        place.set_busy(true);
        place.keep_ticking();
        asked.notify_one();
        let answer = route::answer(gateway.clone(), peer, request);
        let place = &place;
        async move {
            let answer = answer.await;
            // One that comes in parts keeps it where it is.
            place.set_busy(!answer.as_ref().is_ok_and(|answer| matches!(answer.body(), Body::Whole(_))));
            answer
        }
    });
    let stream = Attentive { stream: Some(stream), at: FIRST, place: place.clone() };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.begun() => tokio::select! {
            result = connection.as_mut() => result,
            // Whoever has only just come is told that the node ends, instead of being cut off.
            _ = timeout(LAST_CALL, asked.notified()) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        },
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// A connection. Whenever its loop does something for it, that looks for answers, too: it may have no time to sleep.
struct Attentive {
    /// Nothing once it could not be waited for in another loop.
    stream: Option<TcpStream>,
    /// The loop that waits for it.
    at: usize,
    place: Arc<Place>,
}

impl Attentive {
    /// The stream, waited for by the loop in which its place is.
    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        awake::glance();
        let at = self.place.at();
        if at != self.at
            && let Some(stream) = self.stream.take()
        {
            self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
            self.at = at;
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Attentive {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, into)
    }
}

impl AsyncWrite for Attentive {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(TcpStream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}

fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // For clients that take no more of their answer: the kernel gives up on them, and we need not watch.
    let milliseconds = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::loops::Loops;
    use rustix::thread::{CpuSet, sched_getaffinity};
    use std::io::Read;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echo(mut stream: Attentive) {
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            stream.write_all(&byte).await.unwrap();
        }
    }

    #[test]
    fn a_connection_goes_from_loop_to_loop_and_loses_nothing() {
        let loops = Loops::start().unwrap();
        let allowed = sched_getaffinity(None).unwrap();
        let processors: Vec<_> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
        let computes = Arc::new(AtomicU32::new(u32::MAX));
        let its = computes.clone();
        let place = Arc::new(Place::new(loops.all(), Arc::new(move |processor| processor != its.load(Relaxed)), None));
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = {
            let _there = loops.first().handle.enter();
            TcpStream::from_std(stream).unwrap()
        };
        carry(Box::pin(echo(Attentive { stream: Some(stream), at: FIRST, place: place.clone() })), place.clone());
        let mut turn = |byte: u8| {
            client.write_all(&[byte]).unwrap();
            let mut back = [0];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        };
        for _ in 0..20 {
            let before = place.at();
            computes.store(processors[before] as u32, Relaxed);
            turn(1);
            // It may have been answered before it left.
            while place.at() == before && processors.len() > 1 {
                turn(2);
            }
        }
        drop(client);
        drop(loops);
        assert_eq!(Arc::strong_count(&place), 1, "nothing is left of it");
    }

    #[test]
    fn the_answer_to_a_connection_too_many_is_well_formed() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
