//! The function's extensions: programs of `/opt/extensions`, which are waited for and told of everything, and threads of
//! the runtime that have registered as extensions too.
//!
//! ```text
//!  external: Started ─╮ register          next              an INVOKE or SHUTDOWN
//!  internal: ─────────┴─────────► Registered ────► Ready ◄──────────────────────► Running
//! ```

use crate::call::{accepted, not_allowed, refusal};
use crate::http::{Head, Response};
use crate::session::Token;
use serde::Deserialize;

/// AWS's limit.
const EXTENSIONS_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
}

impl State {
    /// As AWS's messages name it.
    fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
        }
    }
}

#[derive(Debug)]
struct Extension {
    name: String,
    id: String,
    is_external: bool,
    state: State,
    invoke: bool,
    shutdown: bool,
    /// The connection that waits for an event.
    waiting: Option<Token>,
    /// Whether it knows that it is to end.
    is_told: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Extensions {
    all: Vec<Extension>,
    /// The initialisation is over: nobody can join any more.
    pub closed: bool,
}

/// What an extension says of itself.
#[derive(Deserialize)]
struct Registration {
    #[serde(default)]
    events: Vec<String>,
    #[serde(default, rename = "configurationKeys")]
    configuration_keys: Vec<String>,
}

impl Extensions {
    /// These programs are started.
    pub fn of(names: &[String]) -> Self {
        let all = names.iter().map(|name| Extension::new(name, true)).collect();
        Self { all, closed: false }
    }

    /// Whether all external ones have registered.
    pub fn are_registered(&self) -> bool {
        self.all.iter().all(|extension| extension.state != State::Started)
    }

    /// Whether all have asked for their next event at least once.
    pub fn are_ready(&self) -> bool {
        self.all.iter().all(|extension| matches!(extension.state, State::Ready | State::Running))
    }

    /// Whether all that hear of invocations wait for the next.
    pub fn are_done(&self) -> bool {
        self.all.iter().all(|extension| !extension.invoke || extension.state == State::Ready)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of these programs has asked to hear of the end, and so may take its time over it. One that asks for the
    /// next event, once it knows, is done.
    pub fn await_the_end(&self, running: &[String]) -> bool {
        let is_done = |extension: &Extension| extension.is_told && extension.state == State::Ready;
        self.all.iter().any(|one| one.shutdown && !is_done(one) && running.contains(&one.name))
    }

    /// Registers one: its id, or why not.
    pub fn register(&mut self, head: &Head, body: &[u8]) -> Result<String, Response> {
        let name = head.header("lambda-extension-name").unwrap_or_default();
        if name.is_empty() {
            return Err(refusal(403, "Extension.InvalidExtensionName", "Empty extension name"));
        }
        let wrong = |error: &dyn std::fmt::Display| refusal(403, "InvalidRequestFormat", &error.to_string());
        let registration: Registration = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
        if !registration.configuration_keys.is_empty() {
            return Err(wrong(&"configurationKeys are deprecated; use environment variables instead"));
        }
        let external = self.all.iter().position(|extension| extension.is_external && extension.name == name);
        for event in &registration.events {
            let why = match event.as_str() {
                "INVOKE" => continue,
                "SHUTDOWN" if external.is_some() => continue,
                "SHUTDOWN" => "ShutdownEventNotSupportedForInternalExtension",
                _ => "ErrorInvalidEventType",
            };
            return Err(refusal(403, "Extension.InvalidEventType", &format!("{event}: {why}")));
        }
        let index = match external {
            Some(index) if self.all[index].state == State::Started => index,
            Some(index) => return Err(self.all[index].refuse("Registered", name)),
            None => self.join(name)?,
        };
        let extension = &mut self.all[index];
        extension.state = State::Registered;
        extension.invoke = registration.events.iter().any(|event| event == "INVOKE");
        extension.shutdown = registration.events.iter().any(|event| event == "SHUTDOWN");
        Ok(extension.id.clone())
    }

    fn join(&mut self, name: &str) -> Result<usize, Response> {
        if self.closed {
            let message = "Extension registration closed already";
            return Err(refusal(403, "Extension.RegistrationClosed", message));
        }
        if self.all.iter().any(|extension| extension.name == name) {
            return Err(refusal(403, "Extension.InvalidExtensionState", "Extension with this name already registered"));
        }
        if self.all.len() >= EXTENSIONS_MAX {
            let message = format!("Extension limit ({EXTENSIONS_MAX}) reached");
            return Err(refusal(403, "Extension.TooManyExtensions", &message));
        }
        self.all.push(Extension::new(name, false));
        Ok(self.all.len() - 1)
    }

    fn find(&mut self, head: &Head) -> Result<&mut Extension, Response> {
        let id = head.header("lambda-extension-identifier").unwrap_or_default();
        if id.is_empty() {
            let message = "Missing Lambda-Extension-Identifier header";
            return Err(refusal(403, "Extension.MissingExtensionIdentifier", message));
        }
        if !is_id(id) {
            let message = "Invalid Lambda-Extension-Identifier";
            return Err(refusal(403, "Extension.InvalidExtensionIdentifier", message));
        }
        let unknown = || refusal(403, "Extension.UnknownExtensionIdentifier", &format!("Unknown extension {id}"));
        self.all.iter_mut().find(|extension| extension.id == id).ok_or_else(unknown)
    }

    /// Whose request this is.
    pub fn name_of(&mut self, head: &Head) -> Result<String, Response> {
        self.find(head).map(|extension| extension.name.clone())
    }

    /// All that have registered: their names, and what they hear of.
    pub fn registered(&self) -> Vec<(String, Vec<&'static str>)> {
        let events = |extension: &Extension| {
            let told = [("INVOKE", extension.invoke), ("SHUTDOWN", extension.shutdown)];
            told.into_iter().filter_map(|(name, wanted)| wanted.then_some(name)).collect()
        };
        self.all.iter().map(|extension| (extension.name.clone(), events(extension))).collect()
    }

    /// One waits for its next event, on this connection: the one on which it waited before.
    pub fn wait(&mut self, head: &Head, token: Token) -> Result<Option<Token>, Response> {
        let extension = self.find(head)?;
        if !matches!(extension.state, State::Registered | State::Ready | State::Running) {
            let id = extension.id.clone();
            return Err(extension.refuse("Ready", &id));
        }
        extension.state = State::Ready;
        Ok(extension.waiting.replace(token))
    }

    /// One tells that it cannot begin, or go on: it is about to end.
    pub fn fail(&mut self, head: &Head, at_init: bool) -> Response {
        let (state, name) = if at_init { (State::InitError, "InitError") } else { (State::ExitError, "Exited") };
        let extension = match self.find(head) {
            Ok(extension) => extension,
            Err(refused) => return refused,
        };
        if head.header("lambda-extension-function-error-type").is_none_or(str::is_empty) {
            let message = "Lambda-Extension-Function-Error-Type not found";
            return refusal(403, "Extension.MissingHeader", message);
        }
        let allowed = if at_init {
            extension.state == State::Registered
        } else {
            !matches!(extension.state, State::Started | State::InitError)
        };
        if !allowed {
            let id = extension.id.clone();
            return extension.refuse(name, &id);
        }
        extension.state = state;
        accepted()
    }

    /// Tells an event to those who wait for it: the connections to be answered. `INVOKE` is not for everybody, and of its
    /// end each is told once.
    pub fn tell(&mut self, is_shutdown: bool) -> Vec<Token> {
        let concerned = self.all.iter_mut().filter(|e| if is_shutdown { e.shutdown && !e.is_told } else { e.invoke });
        let tell = |extension: &mut Extension| {
            let token = extension.waiting.take()?;
            (extension.state, extension.is_told) = (State::Running, is_shutdown);
            Some(token)
        };
        concerned.filter_map(tell).collect()
    }

    /// A connection is gone that may have waited.
    pub fn forget(&mut self, token: Token) {
        self.all.iter_mut().filter(|e| e.waiting == Some(token)).for_each(|extension| extension.waiting = None);
    }

    #[cfg(test)]
    pub fn id_of(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|extension| extension.name == name).map(|extension| extension.id.as_str())
    }

    /// What AWS calls the end of this one.
    pub fn fault(&self, name: &str) -> &'static str {
        match self.all.iter().find(|extension| extension.name == name).map(|extension| extension.state) {
            Some(State::InitError) => "Extension.InitError",
            Some(State::ExitError) => "Extension.ExitError",
            _ => "Extension.Crash",
        }
    }
}

impl Extension {
    fn new(name: &str, is_external: bool) -> Self {
        let (name, id) = (name.to_owned(), new_id());
        Self {
            name,
            id,
            is_external,
            state: State::Started,
            invoke: false,
            shutdown: false,
            waiting: None,
            is_told: false,
        }
    }

    fn refuse(&self, to: &str, whom: &str) -> Response {
        not_allowed(self.state.name(), to, &format!("extension {whom}"), "Extension.InvalidExtensionState")
    }
}

fn is_id(text: &str) -> bool {
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| if is_dash(at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// A random UUID.
pub fn new_id() -> String {
    let mut bytes = [0; 16];
    // The kernel gives so few without fail.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
