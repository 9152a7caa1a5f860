//! Lambda's Runtime API, as thin as it can be: events come in over plain HTTP, and a runtime client that asks for its next
//! one gets the oldest. One thread, no isolation, no logs: what is measured is the client.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

const WAITING_MAX: usize = 1024;
const NEXT: &str = "/2018-06-01/runtime/invocation/next";
const DEADLINE: &str = "9999999999999";
const TRACE: &str = "Root=1-00000000-000000000000000000000000;Sampled=0";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:hello";

/// An event, and where its answer goes.
type Waiting = (Bytes, oneshot::Sender<Bytes>);

struct State {
    arrived: mpsc::Sender<Waiting>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Waiting>>,
    running: Mutex<(u64, HashMap<u64, oneshot::Sender<Bytes>>)>,
}

/// A running bridge; ends when dropped.
pub struct Bridge {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let (arrived, waiting) = mpsc::channel(WAITING_MAX);
        let state = Arc::new(State { arrived, waiting: tokio::sync::Mutex::new(waiting), running: Mutex::default() });
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, state) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been told by the panic itself.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it small answers wait; the connection works all the same.
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        let service = service_fn(move |request| answer(request, state.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path == NEXT {
        return Ok(next(&state).await);
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let id = path.split('/').nth(4).and_then(|id| id.parse::<u64>().ok());
    let done = id.and_then(|id| state.running.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&id));
    Ok(match done {
        Some(done) => {
            // Whoever waited for it may be gone.
            let _ = done.send(body);
            Response::new(Full::default())
        }
        None => invoke(&state, body).await,
    })
}

async fn next(state: &State) -> Response<Full<Bytes>> {
    let waiting = state.waiting.lock().await.recv().await;
    let Some((event, done)) = waiting else { return Response::new(Full::default()) };
    let mut running = state.running.lock().unwrap_or_else(PoisonError::into_inner);
    running.0 += 1;
    let id = running.0;
    running.1.insert(id, done);
    let response = Response::builder().header("Lambda-Runtime-Aws-Request-Id", id);
    let response = response.header("Lambda-Runtime-Deadline-Ms", DEADLINE);
    let response = response.header("Lambda-Runtime-Invoked-Function-Arn", ARN);
    // The client crashes where these are absent.
    let response = response.header("Lambda-Runtime-Trace-Id", TRACE).header("Content-Type", "application/json");
    response.body(Full::new(event)).unwrap_or_default()
}

async fn invoke(state: &State, event: Bytes) -> Response<Full<Bytes>> {
    let (done, answered) = oneshot::channel();
    if state.arrived.send((event, done)).await.is_err() {
        return Response::default();
    }
    Response::new(Full::new(answered.await.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, Request};

    #[test]
    fn an_event_goes_to_the_runtime_client_and_its_answer_back() {
        let bridge = Bridge::start().unwrap();
        let to = bridge.address;
        let client = std::thread::spawn(move || {
            let mut connection = Connection::new();
            for _ in 0..3 {
                let event = connection.call(&Request::new(to, "GET", NEXT, &[], b"")).unwrap();
                let id = event.header("lambda-runtime-aws-request-id").unwrap().to_owned();
                let path = format!("/2018-06-01/runtime/invocation/{id}/response");
                let body = [b"seen ".as_slice(), &event.body].concat();
                connection.call(&Request::new(to, "POST", &path, &[], &body)).unwrap();
            }
        });
        let mut connection = Connection::new();
        for event in [b"1".as_slice(), b"22", b"333"] {
            let answer = connection.call(&Request::new(to, "POST", "/", &[], event)).unwrap();
            assert_eq!(answer.body, [b"seen ", event].concat());
        }
        client.join().unwrap();
    }
}
