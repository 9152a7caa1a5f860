//! What an instance's programs and the platform have to say to each other, and in which order: the state behind the
//! Runtime and the Extensions API. It makes no system call: what follows from an event is said in [`Act`]s.
//!
//! ```text
//! extensions started ─► all registered ─► runtime started ─► all have asked for next ─► READY
//!   ─► an invocation to the runtime and to extensions that hear of it ─► the answer ─► all have asked for next ─► …
//! ```
//!
//! The caller has the answer as soon as the runtime has given it; the next invocation waits for the extensions.

use crate::call::{self, Call, accepted, error_object, not_allowed};
use crate::config::Config;
use crate::extension::{Extensions, new_id};
use crate::http::{Body, Head, Response};
use crate::phase::Phase;
use crate::telemetry::Api;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cfork::invocation::Invocation;
use os::process::End;
use std::rc::Rc;

/// A connection.
pub type Token = u64;

/// Bytes of what is said beside answers.
const NOTE_MAX: usize = 64 * 1024;
/// Why extensions are told of an end that the platform has not decided.
const FAILED: &str = "failure";
/// By which a runtime says how it answers, and what is wrong.
const MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    Answer(Token, Response),
    /// Close a connection that waits in vain: its client waits on another.
    Close(Token),
    /// An extension wants to be told of records: its name, by which API, what it says of them.
    Subscribe(Token, String, Api, Vec<u8>),
    /// Start the function's runtime.
    Launch,
    /// Tell the gateway that invocations can come.
    Ready,
    /// Tell it that there will be none: the error object.
    InitFailed(Vec<u8>),
    /// The same: the kind of error, and AWS's words behind the request's id.
    InitFault(&'static str, String),
    Reply(Vec<u8>),
    Fail(Vec<u8>),
    /// End the runtime gently.
    Terminate,
    /// End the instance as this process has ended.
    End(End),
}

/// How a request's body is to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Whole, up to so many bytes.
    Whole(usize),
    /// Passed on as it comes.
    Parts,
}

/// An invocation that is being served.
struct Current {
    id: String,
    /// What the runtime is told.
    response: Response,
}

pub struct Session {
    config: Rc<Config>,
    phase: Phase,
    /// The connection of a runtime that waits.
    waiting: Option<Token>,
    current: Option<Current>,
    /// The connection on which the answer comes.
    answering: Option<Token>,
    extensions: Extensions,
    told_ready: bool,
    /// Since when nothing new begins: what extensions are told, and how the instance ends.
    stopping: Option<(Vec<u8>, End)>,
    /// Programs that run, extensions by name.
    runtime_runs: bool,
    running: Vec<String>,
    pub acts: Vec<Act>,
}

impl Session {
    /// The session of a function with these extensions, which are started.
    pub fn new(config: Rc<Config>, extensions: Vec<String>) -> Self {
        let mut session = Self {
            config,
            phase: Phase::Started,
            waiting: None,
            current: None,
            answering: None,
            extensions: Extensions::of(&extensions),
            told_ready: false,
            stopping: None,
            runtime_runs: false,
            running: extensions,
            acts: Vec::new(),
        };
        session.go_on();
        session
    }

    /// Does what has become possible.
    fn go_on(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        if !self.runtime_runs && self.phase == Phase::Started && self.extensions.are_registered() {
            self.runtime_runs = true;
            self.acts.push(Act::Launch);
        }
        let loaded = matches!(self.phase, Phase::Ready | Phase::RestoreReady) && self.extensions.are_ready();
        if loaded && !self.told_ready {
            (self.told_ready, self.extensions.closed) = (true, true);
            self.acts.push(Act::Ready);
        }
    }

    /// Whether the gateway is to be told before it ends this instance.
    pub fn wants_farewell(&self) -> bool {
        !self.extensions.is_empty()
    }

    /// The extensions: their names, and what they hear of.
    pub fn registered(&self) -> Vec<(String, Vec<&'static str>)> {
        self.extensions.registered()
    }

    /// Whether an invocation can begin.
    pub fn is_idle(&self) -> bool {
        let runtime = match self.phase {
            Phase::Ready => self.waiting.is_some(),
            Phase::RestoreReady => true,
            _ => false,
        };
        self.told_ready && runtime && self.current.is_none() && self.extensions.are_done() && self.stopping.is_none()
    }

    /// Whether an invocation is under way.
    pub fn is_serving(&self) -> bool {
        self.current.is_some()
    }

    /// An invocation begins.
    pub fn begin(&mut self, invocation: &Invocation<'_>, event: Vec<u8>) {
        let deadline = invocation.deadline_unix_ms;
        let response = Response::json(200, event)
            .with("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
            .with("Lambda-Runtime-Deadline-Ms", &deadline.to_string())
            .with("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn)
            .with("Lambda-Runtime-Trace-Id", invocation.trace_id)
            .with("Lambda-Runtime-Client-Context", invocation.client_context)
            .with("Lambda-Runtime-Cognito-Identity", invocation.cognito_identity)
            .with("Lambda-Runtime-Aws-Tenant-Id", invocation.tenant_id);
        let mut event = serde_json::json!({
            "eventType": "INVOKE",
            "deadlineMs": deadline,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.function_arn,
        });
        if !invocation.trace_id.is_empty() {
            event["tracing"] = serde_json::json!({ "type": "X-Amzn-Trace-Id", "value": invocation.trace_id });
        }
        let event = event.to_string().into_bytes();
        for token in self.extensions.tell(false) {
            self.tell_extension(token, &event);
        }
        self.current = Some(Current { id: invocation.request_id.to_owned(), response });
        self.serve_runtime();
    }

    fn tell_extension(&mut self, token: Token, event: &[u8]) {
        let response = Response::json(200, event.to_vec()).with("Lambda-Extension-Event-Identifier", &new_id());
        self.acts.push(Act::Answer(token, response));
    }

    /// Gives the runtime what it waits for, if that is there.
    fn serve_runtime(&mut self) {
        let Some(current) = &self.current else { return };
        let Some(token) = self.waiting.take() else { return };
        if self.phase == Phase::RestoreReady {
            self.phase = Phase::Restoring;
            return self.acts.push(Act::Answer(token, Response::json(200, Vec::new())));
        }
        self.phase = Phase::Running;
        self.acts.push(Act::Answer(token, current.response.clone()));
    }

    /// Whether a request makes sense, by its head: how its body is to be received, or the answer.
    pub fn admit(&mut self, token: Token, head: &Head) -> Result<Intake, Response> {
        match Call::of(head)? {
            Call::Response { id } => {
                self.answer_begins(token, id, Phase::InvocationResponse)?;
                match head.header(MODE) {
                    None | Some("") => Ok(Intake::Whole(self.config.response_max)),
                    Some("streaming") => Ok(Intake::Parts),
                    Some(_) => {
                        let kind = "Runtime.InvalidResponseModeHeader";
                        self.answered(Act::Fail(error_object(kind, "Invalid function response mode")));
                        Err(call::refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode"))
                    }
                }
            }
            Call::Error { id } => {
                self.answer_begins(token, id, Phase::InvocationErrorResponse)?;
                Ok(Intake::Whole(self.config.response_max))
            }
            Call::InitError if matches!(self.phase, Phase::Started | Phase::Restoring) => {
                Ok(Intake::Whole(self.config.response_max))
            }
            _ => Ok(Intake::Whole(NOTE_MAX)),
        }
    }

    fn answer_begins(&mut self, token: Token, id: &str, phase: Phase) -> Result<(), Response> {
        if self.current.as_ref().is_none_or(|current| current.id != id) {
            return Err(call::invalid_request_id());
        }
        self.become_phase(phase)?;
        self.answering = Some(token);
        Ok(())
    }

    fn become_phase(&mut self, next: Phase) -> Result<(), Response> {
        if !self.phase.may_become(next) {
            return Err(not_allowed(self.phase.name(), next.name(), "runtime", "InvalidStateTransition"));
        }
        self.phase = next;
        Ok(())
    }

    /// The runtime has answered.
    fn answered(&mut self, act: Act) {
        (self.phase, self.answering, self.current) = (Phase::ResponseSent, None, None);
        self.acts.push(act);
    }

    /// A whole request.
    pub fn request(&mut self, token: Token, head: &Head, bytes: Vec<u8>) {
        let answer = match Call::of(head) {
            Err(response) => Some(response),
            Ok(call) => self.serve(token, head, call, bytes).unwrap_or_else(Some),
        };
        self.acts.extend(answer.map(|response| Act::Answer(token, response)));
        self.go_on();
    }

    /// The answer, if there is one yet.
    fn serve(
        &mut self,
        token: Token,
        head: &Head,
        call: Call<'_>,
        bytes: Vec<u8>,
    ) -> Result<Option<Response>, Response> {
        match call {
            Call::Next => return self.next(token).map(|()| None),
            Call::Response { .. } => self.answered(Act::Reply(bytes)),
            Call::Error { .. } => self.answered(Act::Fail(or_type(bytes, head))),
            Call::InitError if self.phase == Phase::Restoring => return self.restore_failed(head, bytes),
            Call::InitError => {
                self.become_phase(Phase::InitError)?;
                self.acts.push(Act::InitFailed(or_type(bytes, head)));
            }
            Call::RestoreNext => {
                self.become_phase(Phase::RestoreReady)?;
                self.wait_on(token);
                return Ok(None);
            }
            Call::RestoreError => return self.restore_failed(head, bytes),
            Call::Ping => return Ok(Some(Response::text(200, "pong"))),
            Call::Register => return self.register(head, &bytes).map(Some),
            Call::EventNext => {
                let before = self.extensions.wait(head, token)?;
                self.acts.extend(before.map(Act::Close));
                if let Some((event, _)) = &self.stopping
                    && !self.runtime_runs
                {
                    let event = event.clone();
                    self.tell_all(&event);
                    self.end_if_alone();
                }
                return Ok(None);
            }
            Call::ExtensionInitError => return Ok(Some(self.extensions.fail(head, true))),
            Call::ExtensionExitError => return Ok(Some(self.extensions.fail(head, false))),
            Call::Subscribe(api) => {
                let name = self.extensions.name_of(head)?;
                self.acts.push(Act::Subscribe(token, name, api, bytes));
                return Ok(None);
            }
        }
        Ok(Some(accepted()))
    }

    fn next(&mut self, token: Token) -> Result<(), Response> {
        let again = self.phase == Phase::Running;
        self.become_phase(Phase::Ready)?;
        self.wait_on(token);
        // After a restore, or once more: the invocation is there.
        if again || self.current.is_some() {
            self.serve_runtime();
        }
        Ok(())
    }

    fn wait_on(&mut self, token: Token) {
        let before = self.waiting.replace(token);
        self.acts.extend(before.map(Act::Close));
    }

    fn restore_failed(&mut self, head: &Head, bytes: Vec<u8>) -> Result<Option<Response>, Response> {
        self.become_phase(Phase::RestoreError)?;
        self.current = None;
        self.acts.push(Act::Fail(or_type(bytes, head)));
        Ok(Some(accepted()))
    }

    fn register(&mut self, head: &Head, bytes: &[u8]) -> Result<Response, Response> {
        let id = self.extensions.register(head, bytes)?;
        let config = &self.config;
        let mut about = serde_json::json!({
            "functionName": config.function_name,
            "functionVersion": config.function_version,
            "handler": config.handler,
        });
        let features = head.header("lambda-extension-accept-feature").unwrap_or_default();
        if features.split(',').any(|feature| feature.trim() == "accountId") {
            about["accountId"] = config.function_arn.split(':').nth(4).unwrap_or_default().into();
        }
        Ok(Response::json(200, about.to_string().into_bytes()).with("Lambda-Extension-Identifier", &id))
    }

    /// The body of an admitted request is longer than it may be: the answer.
    pub fn too_long(&mut self, token: Token) -> Response {
        let limit = self.config.response_max;
        if self.answering == Some(token) {
            let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
            self.answered(Act::Fail(error_object("Function.ResponseSizeTooLarge", &message)));
            return call::too_large(limit);
        }
        call::too_large(NOTE_MAX)
    }

    /// An answer that came in parts is complete: how it ends, by what followed it.
    pub fn parts_ended(&mut self, token: Token, body: &Body) {
        let kind = body.trailer(ERROR_TYPE).unwrap_or_default();
        let end = if kind.is_empty() {
            Act::Reply(Vec::new())
        } else {
            let error = body.trailer(ERROR_BODY).and_then(|text| STANDARD.decode(text).ok());
            Act::Fail(error.unwrap_or_else(|| error_object(kind, "")))
        };
        self.answered(end);
        self.acts.push(Act::Answer(token, accepted()));
    }

    /// A connection is gone.
    pub fn closed(&mut self, token: Token) {
        if self.waiting == Some(token) {
            self.waiting = None;
        }
        self.extensions.forget(token);
        if self.answering == Some(token) {
            let message = "HTTP request detected as truncated";
            self.answered(Act::Fail(error_object("Runtime.TruncatedResponse", message)));
        }
    }

    /// The runtime could not be started: AWS's words.
    pub fn not_launched(&mut self, why: String) {
        self.runtime_runs = false;
        self.phase = Phase::InitError;
        self.acts.push(Act::InitFault("Runtime.InvalidEntrypoint", why));
        self.stop(FAILED, End::Exit(1));
    }

    /// An extension could not be started.
    pub fn extension_not_launched(&mut self, name: &str, why: String) {
        self.running.retain(|running| running != name);
        self.acts.push(Act::InitFault("Extension.LaunchError", why));
        self.acts.push(Act::End(End::Exit(1)));
    }

    /// The runtime's process has ended.
    pub fn runtime_ended(&mut self, end: End) {
        self.runtime_runs = false;
        match self.stopping.take() {
            Some((event, how)) => {
                self.tell_all(&event);
                self.stopping = Some((event, how));
                self.end_if_alone();
            }
            None => self.stop(FAILED, end),
        }
    }

    /// An extension's process has ended.
    pub fn extension_ended(&mut self, name: &str, end: End) {
        self.running.retain(|running| running != name);
        if self.stopping.is_some() {
            return self.end_if_alone();
        }
        let why = match end {
            End::Exit(0) => "exit code 0".to_owned(),
            End::Exit(status) => format!("exit status {status}"),
            End::Signal(signal) => format!("signal: {signal}"),
        };
        let kind = self.extensions.fault(name);
        match self.current.take() {
            _ if !self.told_ready => self.acts.push(Act::InitFault(kind, why)),
            Some(current) => {
                let message = format!("RequestId: {} Error: {why}", current.id);
                self.acts.push(Act::Fail(error_object(kind, &message)));
            }
            None => {}
        }
        self.stop(FAILED, End::Exit(1));
    }

    /// Nothing new begins. The runtime ends first, then extensions that want to hear of it.
    pub fn stop(&mut self, reason: &str, end: End) {
        if self.stopping.is_some() {
            return;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let deadline = (now + crate::server::FAREWELL).as_millis() as u64;
        let event = serde_json::json!({ "eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline });
        let event = event.to_string().into_bytes();
        if self.runtime_runs && !self.extensions.is_empty() {
            self.acts.push(Act::Terminate);
        } else {
            self.runtime_runs = false;
            self.tell_all(&event);
        }
        self.stopping = Some((event, end));
        self.end_if_alone();
    }

    fn tell_all(&mut self, event: &[u8]) {
        for token in self.extensions.tell(true) {
            self.tell_extension(token, event);
        }
    }

    fn end_if_alone(&mut self) {
        if let Some((_, end)) = &self.stopping
            && !self.runtime_runs
            && !self.extensions.await_the_end(&self.running)
        {
            self.acts.push(Act::End(*end));
        }
    }

    /// How the instance ends when it has taken too long over its end; nothing where it is not to end.
    pub fn overdue(&self) -> Option<End> {
        self.stopping.as_ref().map(|(_, end)| *end)
    }
}

/// An error object, or one made of the header where the runtime sent none.
fn or_type(bytes: Vec<u8>, head: &Head) -> Vec<u8> {
    if !bytes.is_empty() {
        return bytes;
    }
    error_object(head.header(ERROR_TYPE).unwrap_or("Runtime.Unknown"), "")
}

#[cfg(test)]
mod tests;
