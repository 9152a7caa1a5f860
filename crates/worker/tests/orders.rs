//! Orders through a FIFO, with a real shim in a thread: each is taken once, whatever ends, and no kit is left behind.
//!
//! The backend starts nothing: of every start it is said so, which shows that it was ordered.

use interconnect::channel::{Channel, Descriptors};
use sandbox::spec::{EngineClass, Kind, Limits, Network, StartSpec, TemplateSpec, Version};
use sandbox::{Answer, Backend, Instance, PrepareError, SpawnError, Start, Template};
use shim::control::{Report, Supervisor};
use shim::{Config, Shim};
use std::io::{PipeReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::kits::Kit;
use worker::protocol::{Command, Event, Order, Ordered};
use worker::{Client, Server};
use xpucall::id::{PuId, Rights, XpuPid};
use xpucall::wire::Transport;
use xpucall::{Process, Writer};

const PATIENCE: Duration = Duration::from_secs(20);

/// A shim, until it is ended.
struct Place {
    folder: tempfile::TempDir,
    running: Option<(Supervisor, JoinHandle<()>)>,
}

impl Place {
    fn new() -> Self {
        let mut place = Self { folder: tempfile::tempdir().unwrap(), running: None };
        place.start();
        place
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("shim.sock")
    }

    fn start(&mut self) {
        let mut config = Config::new(PuId::HEAD, self.socket());
        config.memory = Some(self.folder.path().join("term"));
        let (supervisor, control) = Supervisor::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let mut shim = Shim::open(config).unwrap();
            shim.obey(control).unwrap();
            shim.run();
        });
        while !matches!(supervisor.hear().unwrap(), Some(Report::Serving { .. })) {}
        self.running = Some((supervisor, thread));
    }

    fn end(&mut self) {
        if let Some((supervisor, thread)) = self.running.take() {
            drop(supervisor);
            thread.join().unwrap();
        }
    }

    fn attach(&self) -> Process {
        Process::attach(&self.socket(), Transport::Adaptive).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
    }
}

struct Nothing(Vec<(Kind, Version)>);

impl Backend for Nothing {
    fn languages(&self) -> &[(Kind, Version)] {
        &self.0
    }
    fn missing(&self) -> &[String] {
        &[]
    }
    fn prepare(&self, _: TemplateSpec) -> Answer<'_, Result<Arc<dyn Template>, PrepareError>> {
        Box::pin(async { Ok(Arc::new(Barren) as Arc<dyn Template>) })
    }
}

struct Barren;

impl Template for Barren {
    fn report(&self) -> &str {
        "{}"
    }
    fn reserve(&self, _: usize) {}
    fn spawn(&self, starts: Vec<Start>) -> Answer<'_, Vec<Result<Box<dyn Instance>, SpawnError>>> {
        let refuse = |_| Err(SpawnError::Slot("nothing is started here".to_owned()));
        Box::pin(async move { starts.into_iter().map(refuse).collect() })
    }
    fn ended(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }
    fn discard(&self) {}
}

/// A control plane, and its worker.
struct Bench {
    client: Client,
    kits: u64,
    logs: Vec<PipeReader>,
}

impl Bench {
    /// With a template, number 1.
    async fn new(place: &Place) -> Self {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let server = Server::new(theirs).unwrap();
        tokio::spawn(worker::serve(Arc::new(Nothing(Vec::new())), server, Some(place.socket())));
        let bench = Self { client: Client::new(ours).unwrap(), kits: 0, logs: Vec::new() };
        assert!(matches!(bench.event().await, Event::Hello { .. }));
        let spec = TemplateSpec {
            kind: Kind::Python,
            version: Version::default(),
            preload: vec![],
            function: None,
            limits: Limits::for_memory(128, 512),
            network: Network::None,
        };
        bench.tell(Command::Prepare { template: 1, spec }).await;
        assert!(matches!(bench.event().await, Event::Prepared { .. }));
        bench
    }

    async fn tell(&self, command: Command) {
        self.client.say(&command, &[]).await.unwrap();
    }

    async fn event(&self) -> Event {
        tokio::time::timeout(PATIENCE, self.client.hear()).await.expect("an event").unwrap().0
    }

    /// Sends a kit ahead.
    async fn kit(&mut self) -> u64 {
        let (_channel, channel): (Channel, Descriptors) = Channel::create(4096).unwrap();
        let (log, printer) = std::io::pipe().unwrap();
        self.logs.push(log);
        self.kits += 1;
        let kit = Kit { channel, log: printer.into() };
        self.client.say(&Command::Kits { first: self.kits }, &kit.descriptors()).await.unwrap();
        self.kits
    }

    /// Opens the way for this process: a writer.
    async fn open(&self, process: &Process, life: u32) -> Writer {
        self.tell(Command::OpenOrders { life, caller: process.pid() }).await;
        match self.event().await {
            Event::OrdersOpen { life: of, fifo } if of == life => process.connect_writer(fifo).unwrap(),
            other => panic!("not open: {other:?}"),
        }
    }

    /// The instances of which it is said that they were not started.
    async fn refused(&self, count: usize) -> Vec<u64> {
        let mut instances = Vec::new();
        while instances.len() < count {
            match self.event().await {
                Event::NotSpawned { instance, .. } => instances.push(instance),
                other => panic!("{other:?}"),
            }
        }
        instances.sort_unstable();
        instances
    }

    /// Every kit that was used is gone from the worker, too.
    fn assert_nothing_kept(&mut self) {
        for log in &mut self.logs {
            assert_eq!(log.read(&mut [0]).unwrap(), 0, "somebody still has a kit");
        }
    }
}

fn order(instances: impl IntoIterator<Item = (u64, u64)>) -> Order {
    let start = |(instance, kit)| {
        let spec = StartSpec {
            instance,
            code: None,
            limits: Limits::for_memory(128, 512),
            class: EngineClass::Short,
            apart: None,
        };
        Ordered { kit, spec }
    };
    Order { template: 1, starts: instances.into_iter().map(start).collect() }
}

#[tokio::test]
async fn starts_are_ordered_through_a_fifo_and_by_its_caller_alone() {
    let place = Place::new();
    let mut bench = Bench::new(&place).await;
    let process = place.attach();
    let mut writer = bench.open(&process, 1).await;
    let other = place.attach();
    assert!(other.connect_writer(writer.fifo()).is_err(), "the right is the caller's");
    assert!(other.check(writer.fifo(), Rights::WRITE).is_err());
    let kits = [bench.kit().await, bench.kit().await];
    writer.write(&order([(10, kits[0]), (11, kits[1])]).encode()).unwrap();
    assert_eq!(bench.refused(2).await, [10, 11]);
    // One that overtakes its kit waits for it; a kit that was used is none.
    writer.write(&order([(12, 3)]).encode()).unwrap();
    writer.write(&order([(13, 1)]).encode()).unwrap();
    assert_eq!(bench.refused(1).await, [13]);
    bench.kit().await;
    assert_eq!(bench.refused(1).await, [12]);
    // The socket is a way all the same.
    let kit = bench.kit().await;
    bench.tell(Command::Spawn(order([(14, kit)]))).await;
    assert_eq!(bench.refused(1).await, [14]);
    bench.assert_nothing_kept();
}

#[tokio::test]
async fn what_was_taken_is_known_when_the_way_is_closed() {
    let place = Place::new();
    let mut bench = Bench::new(&place).await;
    let process = place.attach();
    let mut writer = bench.open(&process, 7).await;
    for instance in 0..5 {
        let kit = bench.kit().await;
        writer.write(&order([(instance, kit)]).encode()).unwrap();
    }
    assert_eq!(bench.refused(5).await, [0, 1, 2, 3, 4]);
    bench.tell(Command::CloseOrders { life: 6 }).await;
    bench.tell(Command::CloseOrders { life: 7 }).await;
    assert_eq!(bench.event().await, Event::OrdersClosed { life: 7, taken: 5 });
    // Another life; the caller's end closes it.
    let writer = bench.open(&process, 8).await;
    drop(writer);
    assert_eq!(bench.event().await, Event::OrdersClosed { life: 8, taken: 0 });
    // Whoever opens another closes the one before.
    let _first = bench.open(&process, 9).await;
    bench.tell(Command::OpenOrders { life: 10, caller: process.pid() }).await;
    let mut said = [bench.event().await, bench.event().await];
    said.sort_by_key(|event| matches!(event, Event::OrdersOpen { .. }));
    assert_eq!(said[0], Event::OrdersClosed { life: 9, taken: 0 });
    assert!(matches!(said[1], Event::OrdersOpen { life: 10, .. }));
    bench.assert_nothing_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_shim_loses_no_order_and_takes_none_twice() {
    let mut place = Place::new();
    let mut bench = Bench::new(&place).await;
    for life in 1..4 {
        let process = place.attach();
        let mut writer = bench.open(&process, life).await;
        let first = bench.kits + 1;
        for _ in 0..8 {
            let kit = bench.kit().await;
            writer.write(&order([(kit, kit)]).encode()).unwrap();
        }
        let written: Vec<u64> = (first..first + 8).collect();
        tokio::task::block_in_place(|| place.end());
        let mut done = Vec::new();
        let taken = loop {
            match bench.event().await {
                Event::NotSpawned { instance, .. } => done.push(instance),
                Event::OrdersClosed { life: of, taken } if of == life => break taken,
                other => panic!("{other:?}"),
            }
        };
        // The rest once more, over the socket, as whoever ordered them does.
        let rest = &written[taken as usize..];
        for kit in rest {
            bench.tell(Command::Spawn(order([(*kit, *kit)]))).await;
        }
        done.extend(bench.refused(8 - done.len()).await);
        done.sort_unstable();
        assert_eq!(done, written);
        drop((writer, process));
        place.start();
    }
    bench.assert_nothing_kept();
}

#[tokio::test]
async fn without_a_shim_the_answer_comes_at_once() {
    let mut place = Place::new();
    let caller = place.attach().pid();
    let bench = Bench::new(&place).await;
    place.end();
    let asked = Instant::now();
    bench.tell(Command::OpenOrders { life: 1, caller }).await;
    assert_eq!(bench.event().await, Event::OrdersClosed { life: 1, taken: 0 });
    assert!(asked.elapsed() < Duration::from_secs(5));
    place.start();
    // A caller that is no process of this shim.
    bench.tell(Command::OpenOrders { life: 2, caller: XpuPid::new(PuId(3), 9, 9) }).await;
    assert_eq!(bench.event().await, Event::OrdersClosed { life: 2, taken: 0 });
}
