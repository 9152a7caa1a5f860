//! Where orders to start instances go: through a FIFO of the shims (neighbour IPC), and over the worker's socket while there is
//! none.
//!
//! ```text
//!          OpenOrders ─▶ OrdersOpen: connected             shim, FIFO or right gone
//!  closed ───────────────────────────────────────▶ open ──────────────────────────────▶ closed, after a pause: again
//!  by socket                                       by FIFO      OrdersClosed { taken }: the rest once more, by socket
//! ```
//! Which orders were taken is for the worker to say, so none is lost and none is obeyed twice, whatever dies. What a worker on
//! another machine is ordered goes over that machine's link alone: its instances' channels do, and so in step with them.

use super::link::{Link, Said};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Mutex as Turn, watch};
use worker::protocol::{Command, Order};
use xpucall::error::{AttachError, ConnectError};
use xpucall::id::FifoId;
use xpucall::wire::Transport;
use xpucall::{Process, Writer};

/// Before another attempt, twice as long after each that fails.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a worker may take to say whether orders may come through a FIFO.
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no FIFO to a worker.
#[derive(Debug, Error)]
enum OpenError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the worker takes no orders through a FIFO now")]
    Refused,
    #[error("the worker does not answer")]
    Silent,
    #[error("the gateway ends")]
    Ending,
}

/// This process at its shim: attached when first needed, and anew after the shim has ended.
pub(super) struct Attachment {
    shim: PathBuf,
    process: Turn<Option<Process>>,
}

impl Attachment {
    /// At the shim that listens there.
    pub fn new(shim: PathBuf) -> Self {
        Self { shim, process: Turn::default() }
    }

    async fn get(&self) -> Result<Process, OpenError> {
        let mut process = self.process.lock().await;
        if let Some(attached) = process.as_ref().filter(|attached| attached.ended().is_none()) {
            return Ok(attached.clone());
        }
        let shim = self.shim.clone();
        let attached = tokio::task::spawn_blocking(move || Process::attach(&shim, Transport::Adaptive)).await;
        let attached = attached.map_err(|_| OpenError::Ending)??;
        Ok(process.insert(attached).clone())
    }
}

/// What is known of the FIFO.
#[derive(Clone, Copy, Default)]
struct News {
    life: u32,
    /// The worker's, to connect to.
    fifo: Option<FifoId>,
    /// It cannot be written to.
    broken: bool,
    /// The worker takes nothing more from it.
    closed: bool,
}

#[derive(Default)]
struct Way {
    writer: Option<Writer>,
    /// Orders written in this life.
    written: u64,
    /// Those of them of which the worker has not spoken yet.
    unheard: VecDeque<(u64, Order)>,
}

/// How many starts went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    pub fifo: u64,
    pub socket: u64,
}

/// The way to one worker.
#[derive(Default)]
pub(super) struct Orders {
    way: Mutex<Way>,
    news: watch::Sender<News>,
    by_fifo: AtomicU64,
    by_socket: AtomicU64,
}

impl Orders {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an order through the FIFO; gives it back where it is to go over the socket.
    pub fn send(&self, order: Order) -> Result<(), Order> {
        let starts = order.starts.len() as u64;
        let mut way = self.way();
        let Some(writer) = &mut way.writer else {
            self.by_socket.fetch_add(starts, Relaxed);
            return Err(order);
        };
        if let Err(error) = writer.try_write(&order.encode()) {
            if !matches!(error, xpucall::error::WriteError::Full) {
                self.news.send_modify(|news| news.broken = true);
            }
            self.by_socket.fetch_add(starts, Relaxed);
            return Err(order);
        }
        let number = way.written;
        way.written += 1;
        way.unheard.push_back((number, order));
        self.by_fifo.fetch_add(starts, Relaxed);
        Ok(())
    }

    /// The worker has news of an instance, and so has taken the order for it.
    pub fn heard_of(&self, instance: u64) {
        let is_of = |order: &Order| order.starts.iter().any(|start| start.spec.instance == instance);
        self.way().unheard.retain(|(_, order)| !is_of(order));
    }

    /// The worker says where orders may be written to.
    pub fn opened(&self, life: u32, fifo: FifoId) {
        self.news.send_if_modified(|news| news.life == life && news.fifo.replace(fifo).is_none());
    }

    /// The worker takes no more: what it has not taken.
    pub fn closed(&self, life: u32, taken: u64) -> Vec<Order> {
        if self.news.borrow().life != life {
            return Vec::new();
        }
        let (left, writer) = {
            let mut way = self.way();
            // Under the same lock: whoever is about to put a writer here sees that it is too late.
            self.news.send_modify(|news| news.closed = true);
            (std::mem::take(&mut way.unheard), way.writer.take())
        };
        if let Some(writer) = writer {
            // Its shim is told, if there is one.
            tokio::task::spawn_blocking(move || drop(writer));
        }
        left.into_iter().filter(|(number, _)| *number >= taken).map(|(_, order)| order).collect()
    }

    /// How many starts went which way.
    pub fn ways(&self) -> Ways {
        Ways { fifo: self.by_fifo.load(Relaxed), socket: self.by_socket.load(Relaxed) }
    }

    async fn until(&self, is: impl Fn(&News) -> bool) -> Result<News, OpenError> {
        let mut news = self.news.subscribe();
        news.wait_for(|news| is(news)).await.map(|news| *news).map_err(|_| OpenError::Ending)
    }

    /// Connects to the FIFO that the worker was asked for.
    async fn connect(&self, process: Process) -> Result<(), OpenError> {
        let answer = self.until(|news| news.fifo.is_some() || news.closed);
        let answer = tokio::time::timeout(ANSWER, answer).await.map_err(|_| OpenError::Silent)??;
        let fifo = answer.fifo.filter(|_| !answer.closed).ok_or(OpenError::Refused)?;
        let writer = tokio::task::spawn_blocking(move || process.connect_writer(fifo)).await;
        let writer = writer.map_err(|_| OpenError::Ending)?;
        let mut way = self.way();
        if self.news.borrow().closed {
            return Err(OpenError::Refused);
        }
        // What is unheard of another life was sent again when that closed.
        *way = Way { writer: Some(writer?), ..Way::default() };
        Ok(())
    }

    /// One life of the FIFO, from its making to its end.
    async fn live(&self, link: &Link, attachment: &Attachment, life: u32) -> Result<(), OpenError> {
        let process = attachment.get().await?;
        self.news.send_replace(News { life, ..News::default() });
        link.tell(Said::Command(Command::OpenOrders { life, caller: process.pid() }));
        // From here on the worker says, sooner or later, that this life is over.
        let opened = self.connect(process).await;
        if opened.is_ok() && !self.until(|news| news.broken || news.closed).await?.closed {
            let writer = self.way().writer.take();
            let _ = tokio::task::spawn_blocking(move || drop(writer)).await;
        }
        if !self.news.borrow().closed {
            link.tell(Said::Command(Command::CloseOrders { life }));
            self.until(|news| news.closed).await?;
        }
        opened
    }
}

/// Keeps a FIFO to a worker, for as long as the worker is there.
pub(super) async fn attend(link: &Link, attachment: Option<&Attachment>) {
    let Some(attachment) = attachment else { return std::future::pending().await };
    let mut pause = PAUSE;
    for life in 1.. {
        match link.orders.live(link, attachment, life).await {
            Ok(()) => {
                tracing::info!(life, "the FIFO for orders has ended: they go over the socket until there is another");
                pause = PAUSE;
            }
            Err(error) => tracing::debug!(%error, "orders go over the socket"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::spec::{EngineClass, Limits, StartSpec};
    use shim::control::{Report, Supervisor};
    use std::path::Path;
    use std::sync::Arc;
    use std::thread::JoinHandle;
    use worker::client::Server;
    use worker::orders::Desk;
    use worker::protocol::{Event, Ordered};
    use xpucall::id::PuId;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A shim in a thread, and what ends it.
    fn start_shim(folder: &Path) -> (Supervisor, JoinHandle<()>) {
        let mut config = shim::Config::new(PuId::HEAD, folder.join("shim.sock"));
        config.memory = Some(folder.join("term"));
        let (supervisor, control) = Supervisor::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut shim = shim::Shim::open(config).unwrap();
            shim.obey(control).unwrap();
            shim.run();
        });
        while !matches!(supervisor.hear().unwrap(), Some(Report::Serving { .. })) {}
        (supervisor, thread)
    }

    fn order(link: &Link, instance: u64) {
        let spec = StartSpec {
            instance,
            code: None,
            limits: Limits::for_memory(128, 512),
            class: EngineClass::Short,
            apart: None,
        };
        link.tell(Said::Start { template: 1, start: Ordered { kit: instance, spec } });
    }

    fn instances(order: Order) -> impl Iterator<Item = u64> {
        order.starts.into_iter().map(|start| start.spec.instance)
    }

    /// What the worker hears next over its socket.
    async fn command(server: &Server) -> Command {
        tokio::time::timeout(PATIENCE, server.hear()).await.expect("a command").unwrap().0
    }

    /// The worker's end of a FIFO, once there is a shim that has both. Attempts of before come to nothing.
    async fn opened(server: &Server, socket: &Path) -> (u32, Desk) {
        loop {
            match command(server).await {
                Command::OpenOrders { life, caller } => match Desk::open(socket, caller).await {
                    Ok(desk) => return (life, desk),
                    Err(_) => server.say(&Event::OrdersClosed { life, taken: 0 }, &[]).await.unwrap(),
                },
                Command::CloseOrders { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_start_is_ordered_once_whatever_becomes_of_shims() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("shim.sock");
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (link, server) = (Link::new(ours, 4096).unwrap(), Server::new(theirs).unwrap());
        let gateway = tokio::spawn({
            let (link, attachment) = (link.clone(), Arc::new(Attachment::new(socket.clone())));
            async move {
                let hearing = async {
                    while let Some((event, _)) = link.hear().await {
                        match event {
                            Event::OrdersOpen { life, fifo } => link.orders.opened(life, fifo),
                            Event::OrdersClosed { life, taken } => link.orders_closed(life, taken),
                            Event::NotSpawned { instance, .. } => link.orders.heard_of(instance),
                            other => panic!("{other:?}"),
                        }
                    }
                };
                tokio::join!(hearing, attend(&link, Some(&attachment)))
            }
        });
        // There is no shim yet.
        order(&link, 1);
        let Command::Spawn(first) = command(&server).await else { panic!("no order") };
        assert_eq!(instances(first).collect::<Vec<_>>(), [1]);
        for round in 0..3 {
            let (supervisor, thread) = start_shim(folder.path());
            let (life, mut desk) = opened(&server, &socket).await;
            server.say(&Event::OrdersOpen { life, fifo: desk.fifo().unwrap() }, &[]).await.unwrap();
            let before = link.orders.ways().fifo;
            tokio::time::timeout(PATIENCE, async {
                while link.orders.way().writer.is_none() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("a writer");
            let all: Vec<u64> = (0..6).map(|number| 100 * (round + 1) + number).collect();
            order(&link, all[0]);
            let taken = tokio::time::timeout(PATIENCE, desk.next()).await.unwrap().unwrap();
            let mut got: Vec<u64> = instances(taken).collect();
            server.say(&Event::NotSpawned { instance: all[0], reason: String::new() }, &[]).await.unwrap();
            all[1..4].iter().for_each(|instance| order(&link, *instance));
            drop(supervisor);
            thread.join().unwrap();
            all[4..].iter().for_each(|instance| order(&link, *instance));
            while let Some(taken) = tokio::time::timeout(PATIENCE, desk.next()).await.unwrap() {
                got.extend(instances(taken));
            }
            assert!(link.orders.ways().fifo > before);
            server.say(&Event::OrdersClosed { life, taken: desk.taken() }, &[]).await.unwrap();
            while got.len() < all.len() {
                match command(&server).await {
                    Command::Spawn(order) => got.extend(instances(order)),
                    Command::CloseOrders { life: of } => assert_eq!(of, life),
                    other => panic!("{other:?}"),
                }
            }
            got.sort_unstable();
            assert_eq!(got, all);
        }
        gateway.abort();
    }
}
