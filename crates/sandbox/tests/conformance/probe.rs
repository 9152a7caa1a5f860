//! Starting instances and talking to them, as the control plane does, step by step.

use crate::samples;
use cfork::invocation::{self, Invocation, Served, Started};
use interconnect::channel::Channel;
use sandbox::spec::{Code, End, EngineClass, Kind, Limits, Network, StartSpec, TemplateSpec, Version};
use sandbox::{Backend, Instance, PrepareError, SpawnError, Start, Template};
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longer than any answer takes on a loaded machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A backend, and a kind of function to try it with.
#[derive(Clone)]
pub struct Bench {
    pub backend: Arc<dyn Backend>,
    pub kind: Kind,
}

/// What an instance has sent.
#[derive(Debug)]
pub struct Heard {
    pub kind: u32,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// An instance with the host's end of its channel.
pub struct Probe {
    pub kind: Kind,
    pub instance: Box<dyn Instance>,
    pub channel: Channel,
    pub log: std::io::PipeReader,
    pub started: Option<Started>,
    pub served: Served,
}

impl Bench {
    pub fn new(backend: Arc<dyn Backend>, kind: Kind) -> Self {
        Self { backend, kind }
    }

    /// The sample function: its event says what it does.
    pub fn code(&self) -> Code {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/samples");
        let (folder, handler) = match self.kind {
            Kind::Python => (folder.join("python"), "app.handler"),
            Kind::Node => (folder.join("node"), "index.handler"),
            Kind::Provided => (folder.join("python"), "app.handler"),
            Kind::Wasm | Kind::Native => (samples::folder(self.kind), "app"),
        };
        Code { folder, layers: None, config: config(handler) }
    }

    /// The sample with some of its configuration said anew.
    pub fn code_with(&self, changes: &Value) -> Code {
        let code = self.code();
        let mut config: Value = serde_json::from_str(&code.config).expect("JSON");
        for (name, value) in changes.as_object().expect("a table") {
            config[name] = value.clone();
        }
        Code { config: config.to_string(), ..code }
    }

    pub fn limits(&self) -> Limits {
        Limits { memory: 256 << 20, tmp: 32 << 20, pids: 64, cpu_millis: 2000 }
    }

    pub async fn prepare(&self, function: Option<Code>) -> Result<Arc<dyn Template>, PrepareError> {
        self.prepare_within(function, self.limits()).await
    }

    pub async fn prepare_within(
        &self,
        function: Option<Code>,
        limits: Limits,
    ) -> Result<Arc<dyn Template>, PrepareError> {
        let spec = TemplateSpec {
            kind: self.kind,
            version: Version::default(),
            preload: Vec::new(),
            function,
            limits,
            network: Network::None,
        };
        self.backend.prepare(spec).await
    }

    pub async fn prepare_with(
        &self,
        function: Option<Code>,
        network: Network,
    ) -> Result<Arc<dyn Template>, PrepareError> {
        let spec = TemplateSpec {
            kind: self.kind,
            version: Version::default(),
            preload: Vec::new(),
            function,
            limits: self.limits(),
            network,
        };
        self.backend.prepare(spec).await
    }

    pub async fn generic(&self) -> Arc<dyn Template> {
        self.prepare(None).await.expect("a generic template")
    }

    pub async fn dedicated(&self) -> Arc<dyn Template> {
        self.prepare(Some(self.code())).await.expect("a dedicated template")
    }

    /// Starts one instance from a generic template.
    pub async fn start(&self, template: &Arc<dyn Template>) -> Probe {
        self.start_with(template, Some(self.code())).await.expect("an instance")
    }

    /// Starts one instance, with code of its own or the template's.
    pub async fn start_with(&self, template: &Arc<dyn Template>, code: Option<Code>) -> Result<Probe, SpawnError> {
        self.start_as(template, self.order(code)).await
    }

    /// Starts one of a pure function on an engine of this class.
    pub async fn start_on(&self, template: &Arc<dyn Template>, class: EngineClass) -> Probe {
        let (mut start, channel, log) = self.order(None);
        start.spec.class = class;
        self.start_as(template, (start, channel, log)).await.expect("an instance")
    }

    async fn start_as(
        &self,
        template: &Arc<dyn Template>,
        (start, channel, log): (Start, Channel, std::io::PipeReader),
    ) -> Result<Probe, SpawnError> {
        let instance = template.spawn(vec![start]).await.pop().expect("one answer per start")?;
        Ok(Probe { kind: self.kind, instance, channel, log, started: None, served: Served::default() })
    }

    pub fn order(&self, code: Option<Code>) -> (Start, Channel, std::io::PipeReader) {
        let (mut host, guest) = Channel::create(8 << 20).expect("a channel");
        host.receiver.sleep_by_event();
        host.receiver.receive().expect("an empty channel");
        let (log, log_theirs) = std::io::pipe().expect("a pipe");
        let spec = StartSpec {
            instance: NEXT.fetch_add(1, Ordering::Relaxed),
            code,
            limits: self.limits(),
            class: EngineClass::Short,
            apart: None,
        };
        (Start { spec, channel: guest, log: log_theirs.into() }, host, log)
    }
}

pub fn config(handler: &str) -> String {
    json!({
        "function_name": "sample", "function_version": "$LATEST",
        "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:sample",
        "handler": handler, "memory_mib": 256, "timeout_s": 30, "region": "us-east-1",
        "log_group": "/aws/lambda/sample", "log_stream": "2026/01/01/[$LATEST]0", "initialization_type": "on-demand",
        "runtime": "test", "environment": {"SAMPLE": "of the environment"}
    })
    .to_string()
}

impl Probe {
    /// Sends an event without waiting for the answer.
    pub fn send(&mut self, event: &Value) {
        let deadline = std::time::SystemTime::now() + ANSWER_LIMIT;
        let deadline = deadline.duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
        let head =
            Invocation { deadline_unix_ms: deadline.as_millis() as u64, request_id: "r-1", ..Default::default() };
        let event = match self.kind.is_pure() {
            true => samples::sets_of(self.kind, event),
            false => serde_json::to_vec(event).expect("JSON"),
        };
        self.channel.sender.send(invocation::INVOKE, &head.encode(), &event).expect("room for a request");
    }

    /// Sends what need not be an event.
    pub fn send_bytes(&mut self, event: &[u8]) {
        let head = Invocation { deadline_unix_ms: u64::MAX, request_id: "r-1", ..Default::default() };
        self.channel.sender.send(invocation::INVOKE, &head.encode(), event).expect("room for a request");
    }

    /// The next message, or how the instance ended instead.
    pub async fn hear(&mut self) -> Result<Heard, End> {
        let until = Instant::now() + ANSWER_LIMIT;
        let bell = tokio::io::unix::AsyncFd::new(self.channel.receiver.bell().try_clone_to_owned().expect("a bell"));
        let bell = bell.expect("an event loop");
        loop {
            if let Some(message) = self.channel.receiver.receive().expect("an unbroken channel") {
                return Ok(Heard { kind: message.kind(), head: message.head().to_vec(), body: message.body() });
            }
            assert!(Instant::now() < until, "no answer within {ANSWER_LIMIT:?}; log: {}", self.said());
            tokio::select! {
                ready = bell.readable() => ready.expect("a bell").clear_ready(),
                end = self.instance.ended() => {
                    if let Some(message) = self.channel.receiver.receive().expect("an unbroken channel") {
                        return Ok(Heard { kind: message.kind(), head: message.head().to_vec(), body: message.body() });
                    }
                    return Err(end);
                }
                () = tokio::time::sleep(ANSWER_LIMIT) => {}
            }
        }
    }

    /// Sends an event and waits for its answer: what kind, and its JSON.
    pub async fn ask(&mut self, event: Value) -> Result<(u32, Value), End> {
        self.send(&event);
        self.answer().await
    }

    pub async fn answer(&mut self) -> Result<(u32, Value), End> {
        loop {
            let heard = self.hear().await?;
            if heard.kind == invocation::READY {
                self.started = Some(Started::decode(&heard.head));
                continue;
            }
            self.served = Served::decode(&heard.head);
            if heard.kind == invocation::REPLY && self.kind.is_pure() {
                return Ok((heard.kind, samples::of_sets(self.kind, heard.body)));
            }
            let body = serde_json::from_slice(&heard.body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&heard.body).into_owned()));
            return Ok((heard.kind, body));
        }
    }

    /// Sends an event that the function answers.
    pub async fn reply(&mut self, event: Value) -> Value {
        match self.ask(event.clone()).await {
            Ok((invocation::REPLY, body)) => body,
            other => panic!("{event} was answered by {other:?}; log: {}", self.said()),
        }
    }

    /// What it has printed since.
    pub fn said(&mut self) -> String {
        let mut text = vec![0; 1 << 16];
        rustix::io::ioctl_fionbio(&self.log, true).expect("a pipe");
        let len = self.log.read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..len]).into_owned()
    }
}
