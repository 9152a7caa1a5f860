//! The role `lichen gateway`: opens the node, serves, and ends in good order.
//!
//! ```text
//!           SIGTERM, SIGINT, or the supervisor gone
//!  serving ────────────────────────────────────────► draining ──► flushed ──► ended
//!           running invocations finish; new ones get 503, /readyz too
//! ```

use crate::config::Config;
use crate::delivery::Delivery;
use crate::events::Ring;
use crate::gateway::{Gateway, OpenError};
use crate::http::loops::{EventLoop, Loops};
use crate::http::serve;
use crate::sources::Feed;
use crate::supervisor::Supervisor;
use ::sources::schedule::clock;
use daemon::drain;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// How long running invocations have when nobody is left who would want their answers.
const ORPHAN_DRAIN: Duration = Duration::from_secs(1);
/// How long connections and bills have when all invocations have ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the code of deleted functions is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// After so many rounds in which nobody has asked for anything even code that was used is let go, which costs the next request
/// up to a millisecond: two minutes.
const LONG_QUIET: u32 = 8;
/// After this a gateway has started.
const START: Duration = Duration::from_secs(2);

/// Why a gateway could not start.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("no event loop")]
    Loop(#[source] io::Error),
    #[error("the listening socket cannot be used")]
    Listener(#[source] io::Error),
    #[error("the supervisor's socket cannot be used")]
    Supervisor(#[source] io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Where daemons listen that a gateway speaks to, besides its workers.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// The host's shim.
    pub shim: Option<PathBuf>,
    /// The broker of sockets.
    pub broker: Option<PathBuf>,
}

/// Runs a node's gateway until it is told to end, or its supervisor is gone. `listener` is a listening TCP socket;
/// on `supervisor`, which keeps message boundaries, workers' connections arrive. `neighbours` are where others listen.
pub fn run(config: Config, listener: OwnedFd, supervisor: OwnedFd, neighbours: Neighbours) -> Result<(), RunError> {
    raise_descriptor_limit();
    os::resident::keep_heap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gateway")
        .build()
        .map_err(RunError::Loop)?;
    let result = runtime.block_on(serve_node(config, listener, supervisor, neighbours));
    // Nothing that is still there matters any more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve_node(
    config: Config,
    listener: OwnedFd,
    supervisor: OwnedFd,
    neighbours: Neighbours,
) -> Result<(), RunError> {
    let mut stop = Stop::new(supervisor)?;
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true).map_err(RunError::Listener)?;
    let local = listener.local_addr().map_err(RunError::Listener)?;
    let loops = Loops::start().map_err(RunError::Loop)?;
    let patience = Duration::from_secs(config.http.drain_s);
    let (trigger, watch) = drain::new();
    let gateway = Gateway::open(config, local, watch.signal())?;
    neighbours.shim.into_iter().for_each(|shim| gateway.dispatcher.order_through(shim));
    if let Some(broker) = neighbours.broker {
        // The first, and only one.
        let _ = gateway.broker.set(broker);
    }
    gateway.queue.start(Arc::new(Delivery(Arc::downgrade(&gateway))));
    gateway.sources.start(gateway.aws.clone(), Arc::new(Feed(Arc::downgrade(&gateway))));
    let (silence, silent) = tokio::sync::watch::channel(false);
    let clock = tokio::spawn(clock::run(gateway.rules.clone(), Arc::new(Ring(Arc::downgrade(&gateway))), silent));
    let listener = {
        let _there = loops.first().handle.enter();
        tokio::net::TcpListener::from_std(listener).map_err(RunError::Listener)?
    };
    let accepting = loops.first().handle.spawn(serve::accept(listener, loops.all(), gateway.clone(), watch));
    let sweeping = tokio::spawn(sweep(gateway.clone(), loops.all()));
    if !local.ip().is_loopback() && !gateway.auth.is_on() {
        tracing::warn!(%local, "whoever reaches this node may do everything on it: give it keys, in [auth] of lichen.toml");
    }
    tracing::info!(%local, functions = gateway.registry.all().len(), "the gateway serves");
    let orphaned = stop.asked(&gateway).await;
    sweeping.abort();
    trigger.begin();
    let patience = if orphaned { ORPHAN_DRAIN.min(patience) } else { patience };
    tracing::info!(?patience, orphaned, "the gateway drains");
    silence.send_replace(true);
    let _ = timeout(LAST_WORDS, clock).await;
    gateway.queue.stop();
    let (served, ()) = tokio::join!(gateway.sources.stop(patience), gateway.dispatcher.drain(patience));
    if !served {
        tracing::warn!("batches of event sources did not end in time: they will be delivered once more");
    }
    accepting.abort();
    // Connections have their answers to send; what is left of them then is of clients that do not take theirs.
    let _ = timeout(LAST_WORDS, trigger.finished()).await;
    let settled = gateway.queue.settle(LAST_WORDS).await;
    if !gateway.queue.flush(LAST_WORDS).await || !settled {
        tracing::error!("the queue's last news could not be written: some events will be delivered once more");
    }
    let flushed = gateway.blocking(|gateway| gateway.ledger.flush(LAST_WORDS)).await;
    if !flushed.unwrap_or(false) {
        tracing::error!("the last bills could not be written");
    }
    Ok(())
}

/// Reasons to end.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    supervisor: Supervisor,
}

impl Stop {
    fn new(supervisor: OwnedFd) -> Result<Self, RunError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(RunError::Loop)?,
            interrupt: signal(SignalKind::interrupt()).map_err(RunError::Loop)?,
            supervisor: Supervisor::new(supervisor).map_err(RunError::Supervisor)?,
        })
    }

    /// Waits for one of them: whether it is that the supervisor is gone.
    async fn asked(&mut self, gateway: &Gateway) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            () = self.supervisor.listen(&gateway.dispatcher) => true,
        }
    }
}

async fn sweep(gateway: Arc<Gateway>, loops: Arc<[EventLoop]>) {
    tokio::time::sleep(START).await;
    os::resident::let_go();
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    let (mut seen, mut quiet) = (gateway.tally.total(), 0_u32);
    loop {
        ticks.tick().await;
        let answered = gateway.tally.total();
        quiet = if answered == seen { quiet.saturating_add(1) } else { 0 };
        seen = answered;
        if quiet == 1 {
            spare_heaps(&loops);
            gateway.ledger.rest();
        }
        match gateway.blocking(|gateway| gateway.registry.sweep()).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(swept)) => tracing::debug!(swept, "code that no function has was deleted"),
            Ok(Err(error)) => tracing::warn!(%error, "code that no function has could not be deleted"),
        }
        // Each time: the sweep alone has used megabytes of code.
        if quiet >= LONG_QUIET {
            os::resident::let_go();
        }
    }
}

/// That of each thread that answers, too.
fn spare_heaps(loops: &[EventLoop]) {
    os::resident::spare_heap();
    for one in loops {
        one.handle.spawn(async { os::resident::spare_heap() });
    }
}

/// Every connection and every instance takes descriptors; the usual limit of 1,024 is for programs that use `select`.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
