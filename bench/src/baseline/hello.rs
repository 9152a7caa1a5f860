//! The least that an HTTP server does: hyper on one thread, a constant answer, or a computed one.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What a server makes of a body.
type Compute = fn(&[u8]) -> Vec<u8>;

/// A running server; ends when dropped.
pub struct Hello {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hello {
    /// One that answers `"hello"`.
    pub fn start() -> io::Result<Self> {
        Self::with(None)
    }

    /// One that answers what is computed of the body.
    pub fn computing(compute: Compute) -> io::Result<Self> {
        Self::with(Some(compute))
    }

    fn with(compute: Option<Compute>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, compute) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

async fn serve(listener: TcpListener, compute: Option<Compute>) {
    // An error of accept is one of the client's, or a lack of descriptors that closes connections will mend.
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it small answers wait; the connection works all the same.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| answer(request, compute));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(request: Request<Incoming>, compute: Option<Compute>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = match compute {
        Some(compute) => compute(&request.into_body().collect().await?.to_bytes()).into(),
        None => Bytes::from_static(b"\"hello\""),
    };
    Ok(Response::new(Full::new(body)))
}

impl Drop for Hello {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been told by the panic itself.
            let _ = thread.join();
        }
    }
}
