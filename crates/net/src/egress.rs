//! Egress: a way out for sandboxes that leads to nothing of this host.
//!
//! ```text
//!  slot ── eth0 ┐                                       ┌──────────────── host
//!               ├─ s0 ─┐                                │
//!  slot ── eth0 ┤      ├─ router ── uplink ── lichen0 ──┼─ filter, translation ── eth0 ── …
//!               ├─ s1 ─┘  filter,                       │
//!  slot ── eth0 ┘         translation                   │
//! ```
//!
//! The router is a network namespace of the worker's: the host sees one device and one address, however many slots there
//! are. What is refused, to TCP by a reset: this host by any of its addresses, link-local addresses and other metadata
//! services, multicast, other slots. Private networks are not. IPv4 only.
//!
//! | file | what it is |
//! |---|---|
//! | `router` | the namespace, and attaching a slot to it |
//! | `addresses` | whose is which |
//! | `rules` | what passes |
//! | `forwarding` | the host's permission to pass packets on |
//! | `resolver` | name servers |
//!
//! One thread does everything, as a thread stands in one network namespace. It does not follow what becomes of a slot:
//! devices and routes go with the slot's namespace.

mod addresses;
mod forwarding;
pub mod resolver;
mod router;
mod rules;

use os::ns::{self, Kinds};
use resolver::Resolver;
use router::Router;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// Orders that may wait: slots are made one after another, so few do.
const WAITING: usize = 64;

/// What egress has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom sandboxes ask for names.
    pub resolver: Resolver,
    /// Where it is noted what has to be taken back after a crash. It must not survive a restart of the machine.
    pub run: PathBuf,
}

impl Settings {
    /// For this host's own network.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, run: PathBuf::from("/run/lichen") }
    }
}

/// Why there is no way out.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("no network namespace for the router: it takes root (CAP_SYS_ADMIN, CAP_NET_ADMIN)")]
    Namespace(#[source] io::Error),
    #[error("the kernel takes no requests for links")]
    Socket(#[source] io::Error),
    #[error(
        "no packet filter: the kernel needs nf_tables with masquerade, reject and fib (Linux 5.12; modules nft_masq, nft_reject_ipv4, nft_fib_ipv4)"
    )]
    Filter(#[source] io::Error),
    #[error("the router could not be connected with the host")]
    Uplink(#[source] io::Error),
    #[error("no address for the router: the host has routes to all of 100.64.0.0/10 and 198.18.0.0/15")]
    NoAddress,
    #[error("the router could not be set up")]
    Behaviour(#[source] io::Error),
    #[error("the host does not pass packets on: set sysctl net.ipv4.ip_forward to 1")]
    Forwarding(#[source] io::Error),
    #[error("no thread for the router")]
    Thread(#[source] io::Error),
    #[error("the router's thread has ended")]
    Ended,
}

/// Why a sandbox could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("the sandbox's network could not be entered")]
    Enter(#[source] io::Error),
    #[error("no pair of devices between the sandbox and the router")]
    Link(#[source] io::Error),
    #[error("no address for the sandbox")]
    Address(#[source] io::Error),
    #[error("no route between the sandbox and the router")]
    Route(#[source] io::Error),
    #[error("the router's thread could not return")]
    Astray(#[source] io::Error),
    #[error("the router is gone")]
    Ended,
}

/// Tries whether there can be a way out: opens one, and closes it, in a network namespace in which nothing else is, and in
/// which the calling thread stands afterwards. Nothing is noted, as nothing is there to be taken back.
pub fn rehearse() -> Result<(), OpenError> {
    ns::unshare(Kinds::NET).map_err(OpenError::Namespace)?;
    router::set("ip_forward", "1").map_err(OpenError::Forwarding)?;
    let nowhere = Settings { resolver: Resolver::default(), run: PathBuf::from("/proc/self/nowhere") };
    Router::open(&nowhere).map(Router::close)
}

/// Told whether it is open.
type Opened = oneshot::Receiver<Result<(), OpenError>>;

enum Order {
    Attach { process: OwnedFd, tell: oneshot::Sender<Result<Ipv4Addr, AttachError>> },
    Close { tell: oneshot::Sender<()> },
}

/// The way out. It closes by itself, a little later, when dropped.
#[derive(Debug)]
pub struct Egress {
    orders: mpsc::Sender<Order>,
}

impl Egress {
    /// Opens it from the network namespace in which the caller stands.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let (egress, opened) = Self::start(settings)?;
        opened.await.map_err(|_| OpenError::Ended)?.map(|()| egress)
    }

    /// The same, for those who have no event loop.
    pub fn open_and_wait(settings: Settings) -> Result<Self, OpenError> {
        let (egress, opened) = Self::start(settings)?;
        opened.blocking_recv().map_err(|_| OpenError::Ended)?.map(|()| egress)
    }

    fn start(settings: Settings) -> Result<(Self, Opened), OpenError> {
        if settings.resolver.servers.is_empty() {
            tracing::warn!("sandboxes can resolve no names: this host has no IPv4 name server but on its loopback");
        }
        let (orders, ordered) = mpsc::channel(WAITING);
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("lichen-egress".to_owned());
        thread.spawn(move || serve(&settings, tell, ordered)).map_err(OpenError::Thread)?;
        Ok((Self { orders }, told))
    }

    /// Gives the network namespace of a process (by its pidfd) a way out: its address there. To be done once.
    pub async fn attach(&self, process: OwnedFd) -> Result<Ipv4Addr, AttachError> {
        let (tell, told) = oneshot::channel();
        self.orders.send(Order::Attach { process, tell }).await.map_err(|_| AttachError::Ended)?;
        told.await.map_err(|_| AttachError::Ended)?
    }

    /// The same, for those who have no event loop.
    pub fn attach_and_wait(&self, process: OwnedFd) -> Result<Ipv4Addr, AttachError> {
        let (tell, told) = oneshot::channel();
        self.orders.blocking_send(Order::Attach { process, tell }).map_err(|_| AttachError::Ended)?;
        told.blocking_recv().map_err(|_| AttachError::Ended)?
    }

    /// Whether sandboxes can be attached.
    pub fn is_open(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Takes back everything, and returns when it is done. Nothing is attached from then on.
    pub async fn close(&self) {
        let (tell, told) = oneshot::channel();
        if self.orders.send(Order::Close { tell }).await.is_ok() {
            let _ = told.await;
        }
    }

    /// The same, for those who have no event loop.
    pub fn close_and_wait(&self) {
        let (tell, told) = oneshot::channel();
        if self.orders.blocking_send(Order::Close { tell }).is_ok() {
            let _ = told.blocking_recv();
        }
    }
}

/// The thread's life.
fn serve(settings: &Settings, opened: oneshot::Sender<Result<(), OpenError>>, mut orders: mpsc::Receiver<Order>) {
    let mut router = match Router::open(settings) {
        Ok(router) => router,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let _ = opened.send(Ok(()));
    let mut closed = None;
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Attach { process, tell } => {
                let result = router.attach(&process);
                let astray = matches!(result, Err(AttachError::Astray(_)));
                let _ = tell.send(result);
                if astray {
                    break;
                }
            }
            Order::Close { tell } => {
                closed = Some(tell);
                break;
            }
        }
    }
    router.close();
    drop(orders);
    if let Some(tell) = closed {
        let _ = tell.send(());
    }
}
