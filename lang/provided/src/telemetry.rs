//! What extensions are told without asking each time: the platform's doings, and what programs print. The Telemetry API,
//! and the Logs API before it.
//!
//! ```text
//!  doings, lines ──► Telemetry ──► for each subscriber: a bounded queue ──► a thread that delivers (`delivery`)
//! ```
//!
//! A subscriber that does not keep up loses records, and is told how many; nobody waits for it. Where the function has no
//! programs of extensions there are no subscribers, no threads and no cost.

pub mod course;
mod delivery;

use crate::call::refusal;
use crate::http::Response;
use delivery::{Buffering, Delivery, Target};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of what happens before somebody has subscribed, and is told later.
const EARLY_MAX: usize = 256 * 1024;
/// What the Logs API tells of the platform.
const OF_LOGS: [&str; 8] = [
    "platform.start",
    "platform.end",
    "platform.report",
    "platform.runtimeDone",
    "platform.extension",
    "platform.logsSubscription",
    "platform.logsDropped",
    "platform.fault",
];

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Platform,
    Function,
    Extension,
}

/// By which API a subscriber subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Logs,
    Telemetry,
}

impl Api {
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "Logs",
            Self::Telemetry => "Telemetry",
        }
    }

    fn tells(self, kind: &str) -> bool {
        match self {
            Self::Logs => !kind.starts_with("platform.") || OF_LOGS.contains(&kind),
            Self::Telemetry => kind != "platform.end" && kind != "platform.logsSubscription",
        }
    }
}

#[derive(Deserialize)]
struct Subscription {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<String>,
    types: Vec<String>,
    #[serde(default)]
    buffering: Buffering,
    destination: Destination,
}

#[derive(Deserialize)]
struct Destination {
    protocol: String,
    #[serde(rename = "URI")]
    uri: Option<String>,
    port: Option<u16>,
}

struct Subscriber {
    name: String,
    api: Api,
    classes: Vec<Class>,
    delivery: Delivery,
    /// Records and bytes that found no room.
    dropped: (u64, u64),
}

struct Early {
    class: Class,
    kind: &'static str,
    text: Arc<str>,
}

/// All subscribers.
pub struct Telemetry {
    is_on: bool,
    subscribers: Vec<Subscriber>,
    /// What has happened so far; nothing once nobody can subscribe any more.
    early: Option<Vec<Early>>,
}

impl Telemetry {
    /// Whether there can be subscribers at all is `is_on`.
    pub fn new(is_on: bool) -> Self {
        Self { is_on, subscribers: Vec::new(), early: is_on.then(Vec::new) }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// An extension subscribes: the answer.
    pub fn subscribe(&mut self, name: &str, api: Api, body: &[u8]) -> Response {
        let label = api.name();
        if !self.is_on {
            let message = format!("{label} API is not supported");
            return refusal(202, &format!("{label}.NotSupported"), &message);
        }
        let Some(early) = &self.early else {
            let message = format!("{label} API subscription is closed");
            return refusal(403, &format!("{label}.SubscriptionClosed"), &message);
        };
        let subscriber = match understand(name, api, body) {
            Ok(subscriber) => subscriber,
            Err(why) => return refusal(400, "ValidationError", &why),
        };
        for one in early.iter().filter(|one| subscriber.wants(one.class, one.kind)) {
            subscriber.delivery.send(one.text.clone());
        }
        let types = subscriber.classes.iter().map(|class| class.name()).collect::<Vec<_>>();
        let record = json!({ "name": name, "state": "Subscribed", "types": types });
        self.subscribers.retain(|one| one.name != name || one.api != api);
        self.subscribers.push(subscriber);
        let kind = if api == Api::Logs { "platform.logsSubscription" } else { "platform.telemetrySubscription" };
        self.tell(Class::Platform, kind, &record);
        Response::json(200, br#""OK""#.to_vec())
    }

    /// Tells whoever wants to know.
    pub fn tell(&mut self, class: Class, kind: &'static str, record: &Value) {
        if !self.is_on {
            return;
        }
        let text: Arc<str> = json!({ "time": now(), "type": kind, "record": record }).to_string().into();
        if let Some(early) = &mut self.early
            && early.iter().map(|one| one.text.len()).sum::<usize>() + text.len() <= EARLY_MAX
        {
            early.push(Early { class, kind, text: text.clone() });
        }
        for subscriber in self.subscribers.iter_mut().filter(|one| one.wants(class, kind)) {
            subscriber.tell(&text);
        }
    }

    /// From now on nobody can subscribe.
    pub fn close(&mut self) {
        self.early = None;
    }

    /// Delivers what waits, and waits for that, as long as `patience` lasts: an extension that is told of the end may go at
    /// once.
    pub fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let asked: Vec<_> = self.subscribers.iter().filter_map(|subscriber| subscriber.delivery.flush()).collect();
        for heard in asked {
            let _ = heard.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Platform, Self::Function, Self::Extension].into_iter().find(|class| class.name() == name)
    }
}

impl Subscriber {
    fn wants(&self, class: Class, kind: &str) -> bool {
        self.classes.contains(&class) && self.api.tells(kind)
    }

    fn tell(&mut self, text: &Arc<str>) {
        let (records, bytes) = self.dropped;
        if records > 0 {
            let record = json!({ "droppedRecords": records, "droppedBytes": bytes, "reason": "the subscriber does not keep up" });
            let event = json!({ "time": now(), "type": "platform.logsDropped", "record": record });
            if self.delivery.send(event.to_string().into()) {
                self.dropped = (0, 0);
            }
        }
        if !self.delivery.send(text.clone()) {
            self.dropped = (self.dropped.0 + 1, self.dropped.1 + text.len() as u64);
        }
    }
}

fn understand(name: &str, api: Api, body: &[u8]) -> Result<Subscriber, String> {
    let said: Subscription = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if api == Api::Telemetry && said.schema_version.is_none() {
        return Err("schemaVersion is required".to_owned());
    }
    let classes = said.types.iter().map(|name| Class::of(name).ok_or_else(|| format!("there is no type {name}")));
    let classes = classes.collect::<Result<Vec<_>, _>>()?;
    if classes.is_empty() {
        return Err("types has no element".to_owned());
    }
    said.buffering.check()?;
    let Destination { protocol, uri, port } = said.destination;
    let target = match (protocol.to_ascii_uppercase().as_str(), uri, port) {
        ("HTTP", Some(uri), _) => Target::http(&uri)?,
        ("TCP", _, Some(port)) => Target::tcp(port)?,
        _ => return Err("destination has a protocol, HTTP with a URI or TCP with a port".to_owned()),
    };
    let delivery = Delivery::start(target, said.buffering).map_err(|error| error.to_string())?;
    Ok(Subscriber { name: name.to_owned(), api, classes, delivery, dropped: (0, 0) })
}

/// This moment: `2026-10-28T12:34:56.789Z`.
fn now() -> String {
    api::time::rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}
