//! A worker in this process. Its templates are names and its instances are threads, which attach to their channels as
//! real instances do and then do what they are told: by the function's handler when they start, by the event when they
//! are invoked.
//!
//! | handler | what the start does |
//! |---|---|
//! | `ok` | loads at once |
//! | `unforkable`, `unpreparable` | has no dedicated template |
//! | `not-spawned`, `not-entered`, `init-exit`, `init-failed`, `init-never` | fails in this way, every time |
//! | `farewell`, `farewell-deaf` | loads, and asks to be told of its end: prints that and ends, or goes on |
//! | `once-…` | fails in one of these ways the first time only |
//! | `init-never-at-first` | never ends on the first worker of its process, and works on the others |
//!
//! | event | what the invocation does |
//! |---|---|
//! | `echo TEXT` | answers TEXT |
//! | `fail TEXT` | fails with TEXT |
//! | `hold` | answers when [`FakeWorker::release`] is called |
//! | `never` | does not answer |
//! | `mute` | closes its log and answers without ringing, as if all its descriptors were closed |
//! | `redirect` | closes its log and answers |
//! | `exit N`, `signal N`, `oom` | ends in this way |
//! | `print N` | prints N lines, then answers |
//! | `flood` | prints until it is ended |
//! | `big N` | answers N bytes |
//! | `twice` | answers twice |
//! | `parts N` | answers in N parts of 5,000 bytes, waiting for room, and `end` |
//! | `parts-fail N`, `parts-exit N` | fails with `{}`, or exits, in place of the end |
//! | `opens-twice` | begins its answer once more |
//! | `break` | destroys its ring |

use cfork::invocation::{self, Started};
use cfork::{Heard, Instance, Request};
use interconnect::channel::{Channel, Descriptors, SendError};
use interconnect::layout;
use runtime::dispatch::Dispatcher;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use sandbox::spec::{End, Kind, StartSpec, TemplateSpec, Version};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use worker::client::Server;
use worker::kits::{Kit, Stock};
use worker::protocol::{Command, Event, Order, Ordered};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an instance says of its memory.
pub const MEMORY_PEAK: u64 = 12_345_678;

/// Ends an instance: rung with how.
struct Kill {
    bell: OwnedFd,
    how: Mutex<Option<End>>,
}

/// What the worker and its instances share.
struct Shared {
    /// Whether there was no other on its node before.
    is_first: bool,
    kills: Mutex<HashMap<u64, Arc<Kill>>>,
    /// Handlers that have failed once.
    failed: Mutex<HashSet<String>>,
    released: AtomicBool,
    ended: mpsc::Sender<(u64, Outcome)>,
}

/// How an instance's thread has ended.
enum Outcome {
    Ended(End),
    NotSpawned,
}

/// The worker.
pub struct FakeWorker {
    shared: Arc<Shared>,
    told: mpsc::Receiver<Command>,
    task: AbortHandle,
}

impl FakeWorker {
    /// Connects a new worker, which runs both kinds.
    pub fn attach(node: &Arc<Dispatcher>) -> Self {
        Self::attach_to(node, 0)
    }

    /// The same, of this PU.
    pub fn attach_to(node: &Arc<Dispatcher>, pu: u8) -> Self {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let worker = Self::on(theirs, !node.worker_ready());
        node.attach_worker(pu, ours);
        worker
    }

    fn on(socket: OwnedFd, is_first: bool) -> Self {
        let (ended, endings) = mpsc::channel(10_000);
        let (tell, told) = mpsc::channel(1_000_000);
        let shared = Shared {
            is_first,
            kills: Mutex::default(),
            failed: Mutex::default(),
            released: AtomicBool::new(false),
            ended,
        };
        let shared = Arc::new(shared);
        let server = Server::new(socket).unwrap();
        let serving = Serving {
            server,
            shared: shared.clone(),
            templates: HashMap::new(),
            origins: HashMap::new(),
            stock: Stock::default(),
            tell,
        };
        let task = tokio::spawn(serving.run(endings)).abort_handle();
        Self { shared, told, task }
    }

    /// Lets all invocations go on that hold, and those that will.
    pub fn release(&self) {
        self.shared.released.store(true, Relaxed);
    }

    /// Ends an instance from outside.
    pub fn kill(&self, instance: u64, how: End) {
        if let Some(kill) = self.shared.kills.lock().unwrap().get(&instance) {
            kill.ring(how);
        }
    }

    /// The instances that live.
    pub fn instances(&self) -> Vec<u64> {
        self.shared.kills.lock().unwrap().keys().copied().collect()
    }

    /// The next command that `is` holds of; those before it are passed over.
    pub async fn told<T>(&mut self, is: impl Fn(&Command) -> Option<T>) -> T {
        let heard = async {
            loop {
                let command = self.told.recv().await.expect("the worker lives");
                if let Some(found) = is(&command) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the worker is told in time")
    }

    /// The commands that have come so far.
    pub fn told_so_far(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    /// Dies: the connection breaks, and all instances with it.
    pub fn die(self) {}
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.kills.lock().unwrap().values().for_each(|kill| kill.ring(End::Lost));
    }
}

impl Kill {
    fn ring(&self, how: End) {
        self.how.lock().unwrap().get_or_insert(how);
        interconnect::doorbell::ring(&self.bell);
    }
}

/// The worker's own side.
struct Serving {
    server: Server,
    shared: Arc<Shared>,
    templates: HashMap<u64, TemplateSpec>,
    stock: Stock,
    /// From which template an instance came.
    origins: HashMap<u64, u64>,
    tell: mpsc::Sender<Command>,
}

impl Serving {
    async fn run(mut self, mut endings: mpsc::Receiver<(u64, Outcome)>) {
        self.say(Event::Hello {
            languages: vec![(Kind::Python, Version::default()), (Kind::Node, Version::default())],
            missing: vec!["nothing".into()],
        })
        .await;
        loop {
            tokio::select! {
                heard = self.server.hear() => match heard {
                    Ok((command, descriptors)) => {
                        let _ = self.tell.try_send(command.clone());
                        self.obey(command, descriptors).await;
                    }
                    Err(_) => return,
                },
                Some((instance, outcome)) = endings.recv() => self.report(instance, outcome).await,
            }
        }
    }

    async fn say(&self, event: Event) {
        let _ = self.server.say(&event, &[]).await;
    }

    async fn report(&mut self, instance: u64, outcome: Outcome) {
        self.shared.kills.lock().unwrap().remove(&instance);
        self.origins.remove(&instance);
        self.say(match outcome {
            Outcome::Ended(end) => Event::Ended { instance, end, memory_peak: MEMORY_PEAK },
            Outcome::NotSpawned => Event::NotSpawned { instance, reason: "no slot".into() },
        })
        .await;
    }

    async fn obey(&mut self, command: Command, descriptors: Vec<OwnedFd>) {
        match command {
            Command::Prepare { template, spec } => self.prepare(template, spec).await,
            Command::Reserve { .. } | Command::Release { .. } => {}
            Command::Check { check, .. } => self.say(Event::Checked { check, refusal: None }).await,
            Command::Discard { template } => {
                self.templates.remove(&template);
                let kills = self.shared.kills.lock().unwrap();
                let children = self.origins.iter().filter(|(_, origin)| **origin == template);
                children.filter_map(|(child, _)| kills.get(child)).for_each(|kill| kill.ring(End::Lost));
            }
            Command::OpenOrders { .. } | Command::CloseOrders { .. } => panic!("there is no shim here"),
            Command::Kits { first } => self.stock.put(first, descriptors).unwrap(),
            Command::Spawn(Order { template, starts }) => {
                for Ordered { kit, spec } in starts {
                    let kit = self.stock.take(kit).unwrap();
                    self.spawn(template, &spec, kit).await;
                }
            }
            Command::Retire { instance } => {
                let kill = self.shared.kills.lock().unwrap().get(&instance).cloned();
                kill.into_iter().for_each(|kill| kill.ring(End::Signal(9)));
            }
        }
    }

    async fn prepare(&mut self, template: u64, spec: TemplateSpec) {
        let handler = spec.function.as_ref().map(|code| handler(&code.config)).unwrap_or_default();
        self.say(match handler.as_str() {
            "unpreparable" => Event::NotPrepared { template, reason: "it takes too long".into(), lasting: false },
            "unforkable" | "farewell" | "farewell-deaf" => {
                let report = r#"{"forkable": false, "reason": "it has threads"}"#.into();
                Event::Prepared { template, report, prepare_us: 1 }
            }
            _ => Event::Prepared { template, report: r#"{"forkable": true}"#.into(), prepare_us: 1 },
        })
        .await;
        self.templates.insert(template, spec);
    }

    async fn spawn(&mut self, template: u64, start: &StartSpec, kit: Kit) {
        let id = start.instance;
        let Some(spec) = self.templates.get(&template) else {
            return self.say(Event::NotSpawned { instance: id, reason: "no such template".into() }).await;
        };
        let code = start.code.as_ref().or(spec.function.as_ref()).expect("a function");
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let kill = Arc::new(Kill { bell, how: Mutex::default() });
        self.shared.kills.lock().unwrap().insert(id, kill.clone());
        self.origins.insert(id, template);
        let memory = tempfile::tempfile().unwrap();
        rustix::io::pwrite(&memory, MEMORY_PEAK.to_string().as_bytes(), 0).unwrap();
        let _ = self.server.say(&Event::Spawned { instance: id }, &[std::os::fd::AsFd::as_fd(&memory)]).await;
        let (shared, handler) = (self.shared.clone(), handler(&code.config));
        std::thread::spawn(move || {
            let outcome = live(&shared, &kill, &handler, kit);
            // The worker may have died first.
            let _ = shared.ended.blocking_send((id, outcome));
        });
    }
}

fn handler(config: &str) -> String {
    let config: serde_json::Value = serde_json::from_str(config).unwrap();
    config["handler"].as_str().unwrap().to_owned()
}

/// The life of an instance.
fn live(shared: &Shared, kill: &Kill, handler: &str, kit: Kit) -> Outcome {
    let Kit { channel: Descriptors { region, down, up }, log } = kit;
    let bell = up.try_clone().unwrap();
    let mut channel = Channel::attach(&region, down, up).unwrap();
    let way = match handler.strip_prefix("once-") {
        Some(way) if shared.failed.lock().unwrap().insert(handler.to_owned()) => way,
        Some(_) => "ok",
        None if handler == "init-never-at-first" => {
            if shared.is_first {
                "init-never"
            } else {
                "ok"
            }
        }
        None => handler,
    };
    match way {
        "not-spawned" => return Outcome::NotSpawned,
        "not-entered" => {
            channel.sender.send(invocation::NOT_ENTERED, b"enter its cgroup", b"no such file").unwrap();
            return Outcome::Ended(End::Exit(252));
        }
        _ => {}
    }
    let mut instance = Instance::new(channel, Started { forked: 1, entered: 2, loaded: 0 });
    match way {
        "init-exit" => return Outcome::Ended(End::Exit(3)),
        "init-failed" => {
            instance.init_failed(br#"{"errorType":"Runtime.ImportModuleError"}"#).unwrap();
            return Outcome::Ended(wait_for_kill(kill));
        }
        "init-never" => return Outcome::Ended(wait_for_kill(kill)),
        "farewell" | "farewell-deaf" => instance.ready_with_farewell().unwrap(),
        _ => instance.ready().unwrap(),
    }
    let is_deaf = way == "farewell-deaf";
    let mut life = Life { shared, is_deaf, kill, instance, region, up: bell, log: log.into() };
    Outcome::Ended(life.serve())
}

fn wait_for_kill(kill: &Kill) -> End {
    poll(&mut [PollFd::new(&kill.bell, PollFlags::IN)], None).unwrap();
    kill.how.lock().unwrap().unwrap()
}

struct Life<'a> {
    shared: &'a Shared,
    kill: &'a Kill,
    instance: Instance,
    region: OwnedFd,
    up: OwnedFd,
    log: std::fs::File,
    is_deaf: bool,
}

impl Life<'_> {
    fn serve(&mut self) -> End {
        self.instance.sleep_by_event();
        loop {
            let event = match self.instance.hear().unwrap() {
                Some(Heard::Invoke(request)) => Some(event_of(&request)),
                Some(Heard::Farewell(reason)) if !self.is_deaf => {
                    writeln!(self.log, "farewell {reason}").unwrap();
                    return End::Exit(0);
                }
                _ => None,
            };
            let ended = match event {
                Some(event) => self.obey(&event),
                None => self.sleep(),
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    fn sleep(&self) -> Option<End> {
        let bell = self.instance.bell();
        let mut waits = [PollFd::new(&self.kill.bell, PollFlags::IN), PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        poll(&mut waits, None).unwrap();
        interconnect::doorbell::hush(bell);
        *self.kill.how.lock().unwrap()
    }

    fn obey(&mut self, event: &str) -> Option<End> {
        self.instance.begin();
        let (word, text) = event.split_once(' ').unwrap_or((event, ""));
        let number = text.parse().unwrap_or(0usize);
        match word {
            "echo" => self.instance.reply(text.as_bytes()).unwrap(),
            "fail" => self.instance.fail(text.as_bytes()).unwrap(),
            "hold" => self.hold(),
            "never" => return Some(wait_for_kill(self.kill)),
            "mute" => {
                self.log = tempfile::tempfile().unwrap();
                self.pretend(interconnect::doorbell::AWAKE);
                self.instance.reply(b"unheard").unwrap();
            }
            "redirect" => {
                self.log = tempfile::tempfile().unwrap();
                self.instance.reply(b"redirected").unwrap();
            }
            "exit" => return Some(End::Exit(number as i32)),
            "signal" => return Some(End::Signal(number as i32)),
            "oom" => return Some(End::OutOfMemory),
            "print" => {
                (0..number).for_each(|i| writeln!(self.log, "line {i}").unwrap());
                self.instance.reply(b"printed").unwrap();
            }
            "flood" => while self.log.write_all(&[b'x'; 65_536]).is_ok() {},
            "big" => drop(self.instance.reply(&vec![b'x'; number])),
            "twice" => {
                // When the gateway sleeps again, both answers are written before it is woken.
                let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                poll(&mut [PollFd::new(&self.kill.bell, PollFlags::IN)], Some(&pause)).unwrap();
                self.pretend(interconnect::doorbell::AWAKE);
                self.instance.reply(b"1").unwrap();
                self.pretend(interconnect::doorbell::EVENT);
                self.instance.reply(b"2").unwrap();
            }
            "break" => {
                // Marks of frames that no ring has room for, wherever the gateway looks.
                let ring = (layout::RINGS + layout::RING) as u64;
                rustix::io::pwrite(&self.region, &[0xff; layout::RING], ring).unwrap();
                interconnect::doorbell::ring(&self.up);
            }
            "parts" | "parts-fail" | "parts-exit" => return self.answer_in_parts(word, number),
            "opens-twice" => {
                self.instance.open("text/plain", b"one").unwrap();
                self.instance.open("text/plain", b"two").unwrap();
            }
            _ => panic!("nobody knows how to {event}"),
        }
        None
    }

    /// Writes how the gateway sleeps in its stead: whether it is rung depends on it.
    fn pretend(&self, how: u32) {
        rustix::io::pwrite(&self.region, &how.to_ne_bytes(), layout::UP_CONSUMER as u64 + 4).unwrap();
    }

    fn answer_in_parts(&mut self, word: &str, count: usize) -> Option<End> {
        let part = [b'p'; 5000];
        for i in 0..count {
            let sent = |instance: &mut Instance| match i {
                0 => instance.open("text/plain", &part),
                _ => instance.part(&part),
            };
            while let Err(error) = sent(&mut self.instance) {
                assert_eq!(error, SendError::Busy);
                if let Some(end) = self.sleep() {
                    return Some(end);
                }
                self.instance.hear_of_room().unwrap();
            }
        }
        while word != "parts-exit" && !self.instance.is_idle() {
            if let Some(end) = self.sleep() {
                return Some(end);
            }
            self.instance.hear_of_room().unwrap();
        }
        match word {
            "parts" => self.instance.reply(b"end").unwrap(),
            "parts-fail" => self.instance.fail(b"{}").unwrap(),
            _ => return Some(End::Exit(3)),
        }
        None
    }

    /// Answers when it is released, or not at all when it is ended first.
    fn hold(&mut self) {
        let tick = rustix::time::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        while !self.shared.released.load(Relaxed) && self.kill.how.lock().unwrap().is_none() {
            poll(&mut [PollFd::new(&self.kill.bell, PollFlags::IN)], Some(&tick)).unwrap();
        }
        if self.kill.how.lock().unwrap().is_none() {
            self.instance.reply(b"released").unwrap();
        }
    }
}

fn event_of(request: &Request<'_>) -> String {
    assert!(request.invocation().is_some(), "a request has a head");
    let mut event = vec![0; request.event_len()];
    request.copy_event(&mut event);
    String::from_utf8(event).unwrap()
}
