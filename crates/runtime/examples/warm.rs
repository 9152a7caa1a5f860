//! What a warm invocation costs in the control plane, without HTTP and without a language runtime: the instance is a
//! thread of this process that answers at once.
//!
//! `cargo run --release -p runtime --example warm [INVOCATIONS]` prints, for one client and for sixteen, how long an
//! invocation takes and how much processor time of which part of the process it costs.

use cfork::Instance;
use cfork::invocation::Started;
use interconnect::channel::{Channel, Descriptors};
use runtime::billing::{Bill, BillSink};
use runtime::dispatch::{Call, DispatchConfig, Dispatcher};
use runtime::function::{Function, FunctionKey, Isolation};
use runtime::logs::{LogConfig, LogStore};
use rustix::time::{ClockId, clock_gettime};
use sandbox::spec::{Kind, Network, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use worker::client::Server;
use worker::kits::{Kit, Stock};
use worker::protocol::{Command, Event};

/// Processor time that all instances have used, in nanoseconds.
static INSTANCES_CPU: AtomicU64 = AtomicU64::new(0);

struct NoBills;

impl BillSink for NoBills {
    fn record(&self, _bill: Bill) {}
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A worker whose instances are threads.
async fn work(server: Server) {
    let hello = Event::Hello { languages: vec![(Kind::Python, Version::default())], missing: Vec::new() };
    let mut said = server.say(&hello, &[]).await;
    let mut stock = Stock::default();
    while said.is_ok() {
        let Ok((command, descriptors)) = server.hear().await else { return };
        said = match command {
            Command::Prepare { template, spec } => {
                let report = format!(r#"{{"forkable": {}}}"#, spec.function.is_none());
                server.say(&Event::Prepared { template, report, prepare_us: 0 }, &[]).await
            }
            Command::Kits { first } => {
                stock.put(first, descriptors).expect("kits in turn");
                Ok(())
            }
            Command::Spawn(order) => {
                for start in order.starts {
                    let kit = stock.take(start.kit).expect("a kit");
                    std::thread::spawn(move || live(kit));
                }
                Ok(())
            }
            _ => Ok(()),
        };
    }
}

fn live(kit: Kit) -> Option<()> {
    let Kit { channel: Descriptors { region, down, up }, log: _log } = kit;
    let mut instance = Instance::new(Channel::attach(&region, down, up).ok()?, Started::default());
    instance.ready().ok()?;
    let mut before = 0;
    loop {
        instance.wait(Duration::ZERO);
        if instance.poll().ok()?.is_none() {
            continue;
        }
        instance.begin();
        instance.reply(b"\"hello\"").ok()?;
        let now = cpu_ns(ClockId::ThreadCPUTime);
        INSTANCES_CPU.fetch_add(now - before, Relaxed);
        before = now;
    }
}

fn function() -> Arc<Function> {
    let key = FunctionKey {
        account: "000000000000".into(),
        region: "us-east-1".into(),
        name: "hello".into(),
        version: "$LATEST".into(),
    };
    Arc::new(Function {
        key: key.into(),
        arn: "arn:aws:lambda:us-east-1:000000000000:function:hello".into(),
        revision: "1".into(),
        kind: Kind::Python,
        runtime: "python3.11".into(),
        handler: "app.handler".into(),
        layers: None,
        code: "/".into(),
        memory_mib: 128,
        tmp_mib: 512,
        timeout_s: 3,
        environment: Default::default(),
        isolation: Isolation::Instance,
        network: Network::None,
        min_warm: 0,
        profiles: Vec::new(),
        pure: Default::default(),
        max_concurrency: None,
        log_group: "/aws/lambda/hello".into(),
        log_format: Default::default(),
        snap_start: false,
    })
}

async fn client(node: Arc<Dispatcher>, function: Arc<Function>, invocations: usize) -> Vec<u64> {
    let mut times = Vec::with_capacity(invocations);
    for i in 0..invocations {
        let request_id = format!("8d5c1f7e-0000-4000-8000-{i:012}");
        let call = Call { request_id, payload: "{}".into(), ..Call::default() };
        let begun = os::monotonic_ns();
        let outcome = node.invoke(&function, call).await;
        times.push(os::monotonic_ns() - begun);
        assert!(outcome.is_ok_and(|outcome| !outcome.failed), "a warm invocation succeeds");
    }
    times
}

async fn measure(clients: usize, invocations: usize) {
    let folder = tempfile::tempdir().expect("a folder for logs");
    let logs = LogStore::open(folder.path(), LogConfig::default()).expect("a log store");
    let node = Dispatcher::new(DispatchConfig::default(), logs, NoBills);
    let (ours, theirs) = os::seqpacket::pair().expect("a pair of sockets");
    tokio::spawn(work(Server::new(theirs).expect("a worker's end")));
    node.attach_worker(0, ours);
    let function = function();
    let run = async |each: usize| {
        let clients = (0..clients).map(|_| tokio::spawn(client(node.clone(), function.clone(), each)));
        let mut times = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            times.extend(client.await.expect("a client that does not panic"));
        }
        times
    };
    run(100).await;
    let (began, before) = (os::monotonic_ns(), cpu_ns(ClockId::ProcessCPUTime));
    let instances_before = INSTANCES_CPU.load(Relaxed);
    let mut times = run(invocations / clients).await;
    let (wall, cpu) = (os::monotonic_ns() - began, cpu_ns(ClockId::ProcessCPUTime) - before);
    let instances = INSTANCES_CPU.load(Relaxed) - instances_before;
    times.sort_unstable();
    let us = |ns: u64| ns as f64 / 1000.0;
    let each = |ns: u64| us(ns) / times.len() as f64;
    println!(
        "{clients:>2} clients: p50 {:.1} µs, p99 {:.1} µs, {:.0}/s; processor time of each: control plane {:.1} µs, \
         instance {:.1} µs",
        us(times[times.len() / 2]),
        us(times[times.len() * 99 / 100]),
        times.len() as f64 / (wall as f64 / 1e9),
        each(cpu - instances.min(cpu)),
        each(instances),
    );
}

fn main() {
    let invocations = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    for threads in [1, 2] {
        println!("{threads} threads of the runtime");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).enable_all().build().expect("a runtime");
        for clients in [1, 16] {
            runtime.block_on(measure(clients, invocations));
        }
    }
}
