//! An instance's life: one thread that waits for its clients, its programs and the gateway, and does what follows.
//!
//! ```text
//!  programs ◄──HTTP──► connection ──► session (decides) ──► acts ──► channel ──► gateway
//! ```
//!
//! Its clients run the function's code. They can waste what is theirs, the instance's time and memory, and nothing else.

use crate::config::{API, Config};
use crate::connection::{Connection, Found, Step};
use crate::http::Head;
use crate::launch::{self, Interpreters, Program};
use crate::output::Output;
use crate::session::{Act, Intake, Session, Token};
use crate::telemetry::course::Course;
use crate::telemetry::{Class, Telemetry};
use cfork::{Heard, Instance, invocation};
use interconnect::channel::SendError;
use os::process::{self, End};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeWriter};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long an instance may take over its end, and its runtime of that.
pub const FAREWELL: Duration = Duration::from_secs(2);
const RUNTIME_FAREWELL: Duration = Duration::from_millis(500);
/// What subscribers have to take the last of what there is to tell, before they are told of the end.
const TELEMETRY_FAREWELL: Duration = Duration::from_millis(500);
/// Clients at once. Beyond it, whoever has begun nothing for longest goes.
const CONNECTIONS_MAX: usize = 128;
/// As which an instance ends that has lost its gateway, or its place.
const LOST: i32 = 1;

/// What can become ready.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Bell,
    Runtime,
    Extension(usize),
    Output(usize),
    Client(Token),
}

/// An answer that is passed on as it comes.
struct Stream {
    token: Token,
    content_type: String,
    is_open: bool,
    bytes: usize,
}

pub struct Server {
    instance: Instance,
    config: Rc<Config>,
    interpreters: Interpreters,
    session: Session,
    listener: TcpListener,
    connections: BTreeMap<Token, Connection>,
    next_token: Token,
    stream: Option<Stream>,
    /// What the gateway has no room for yet.
    owed: VecDeque<Act>,
    runtime: Option<Program>,
    extensions: Vec<(String, Program)>,
    telemetry: Telemetry,
    course: Course,
    /// What programs print, where extensions may want to hear of it.
    outputs: Vec<Output>,
    /// When the end has taken too long: the runtime's, and all.
    kill_at: Option<Instant>,
    end_at: Option<Instant>,
}

impl Server {
    /// An instance of a function, its extensions started.
    pub fn open(mut instance: Instance, config: Config, interpreters: Interpreters) -> io::Result<Self> {
        let listener = TcpListener::bind(API)?;
        listener.set_nonblocking(true)?;
        instance.sleep_by_event();
        let config = Rc::new(config);
        let names = launch::extensions();
        let mut telemetry = Telemetry::new(!names.is_empty());
        let course = Course::begin(config.clone(), &mut telemetry);
        let mut server = Self {
            instance,
            config: config.clone(),
            interpreters,
            session: Session::new(config.clone(), names.clone()),
            listener,
            connections: BTreeMap::new(),
            next_token: 0,
            stream: None,
            owed: VecDeque::new(),
            runtime: None,
            extensions: Vec::new(),
            telemetry,
            course,
            outputs: Vec::new(),
            kill_at: None,
            end_at: None,
        };
        let output = server.output(Class::Extension)?;
        for name in names {
            match launch::extension(&config, &name, output.as_ref()) {
                Ok(program) => server.extensions.push((name, program)),
                Err(why) => server.session.extension_not_launched(&name, why),
            }
        }
        Ok(server)
    }

    /// Where programs are to print, where that is not the log.
    fn output(&mut self, class: Class) -> io::Result<Option<PipeWriter>> {
        if !self.telemetry.is_on() {
            return Ok(None);
        }
        let (output, writer) = Output::new(class)?;
        self.outputs.push(output);
        Ok(Some(writer))
    }

    /// Passes on what programs have printed.
    fn print(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.pass_on(&mut self.telemetry));
        self.outputs.retain(|output| !output.is_over);
    }

    /// Serves until the instance's end.
    pub fn run(mut self) -> ! {
        loop {
            self.act();
            self.hear();
            self.pass_on();
            if self.session.acts.is_empty() {
                self.wait();
            }
        }
    }

    /// Does what the session has decided.
    fn act(&mut self) {
        let acts = std::mem::take(&mut self.session.acts);
        for act in acts {
            match act {
                Act::Answer(token, response) => {
                    if let Some(connection) = self.connections.get_mut(&token) {
                        connection.answer(response);
                        self.drive(token);
                    }
                }
                Act::Close(token) => self.close(token),
                Act::Subscribe(token, name, api, body) => {
                    let response = self.telemetry.subscribe(&name, api, &body);
                    self.session.acts.push(Act::Answer(token, response));
                }
                Act::Launch => match self.launch() {
                    Ok(program) => self.runtime = Some(program),
                    Err(why) => match launch::wrapper_fault(&self.config) {
                        Some(status) => self.session.runtime_ended(End::Exit(status)),
                        None => self.session.not_launched(why),
                    },
                },
                Act::Terminate => {
                    self.kill_at = Some(Instant::now() + RUNTIME_FAREWELL);
                    self.runtime.iter().for_each(|runtime| runtime.signal(true));
                }
                Act::End(end) => self.leave(end),
                act => {
                    self.note(&act);
                    self.owed.push_back(act);
                }
            }
        }
        if self.end_at.is_none() && self.session.overdue().is_some() {
            self.end_at = Some(Instant::now() + FAREWELL);
        }
        self.pay();
    }

    fn launch(&mut self) -> Result<Program, String> {
        let output = self.output(Class::Function).map_err(|error| error.to_string())?;
        launch::runtime(&self.config, &self.interpreters, output.as_ref())
    }

    /// Tells subscribers of what the gateway is told. What was printed before comes before.
    fn note(&mut self, act: &Act) {
        self.print();
        let telemetry = &mut self.telemetry;
        match act {
            Act::Ready => {
                for (name, events) in self.session.registered() {
                    let record = serde_json::json!({ "name": name, "state": "Ready", "events": events });
                    telemetry.tell(Class::Platform, "platform.extension", &record);
                }
                self.course.ready(telemetry);
                telemetry.close();
            }
            Act::Reply(body) => {
                let bytes = body.len() + self.stream.take().map_or(0, |stream| stream.bytes);
                self.course.done("success", None, bytes, telemetry);
            }
            Act::Fail(error) => {
                self.stream = None;
                let object: serde_json::Value = serde_json::from_slice(error).unwrap_or_default();
                self.course.done("error", object["errorType"].as_str(), error.len(), telemetry);
            }
            _ => {}
        }
    }

    /// Tells subscribers that an invocation is over: extensions are done with it too, or nothing comes any more.
    fn report(&mut self) {
        let memory = self.runtime.as_ref().map_or(0, Program::memory_mib);
        self.course.over(memory, &mut self.telemetry);
    }

    /// Tells subscribers that nothing comes any more.
    fn conclude(&mut self, status: &'static str, error: Option<&str>) {
        self.print();
        self.course.done(status, error, 0, &mut self.telemetry);
        self.report();
        self.telemetry.flush(TELEMETRY_FAREWELL);
    }

    /// Tells the gateway what there is to tell, as far as there is room.
    fn pay(&mut self) {
        while let Some(act) = self.owed.pop_front() {
            let told = match &act {
                Act::Ready if self.session.wants_farewell() => self.instance.ready_with_farewell(),
                Act::Ready => self.instance.ready(),
                Act::InitFailed(error) => self.instance.init_failed(error),
                Act::InitFault(kind, why) => {
                    let message = format!("RequestId: {} Error: {why}", self.request_id());
                    self.instance.init_failed(&crate::call::error_object(kind, &message))
                }
                Act::Reply(body) => self.instance.reply(body),
                Act::Fail(error) => self.instance.fail(error),
                _ => Ok(()),
            };
            match told {
                Ok(()) => {}
                Err(SendError::Busy) => return self.owed.push_front(act),
                Err(_) => process::exit_now(LOST),
            }
        }
    }

    /// The id of the request that waits; none where nobody waits.
    fn request_id(&mut self) -> String {
        let Ok(Some(request)) = self.instance.poll() else { return String::new() };
        request.invocation().map_or_else(String::new, |invocation| invocation.request_id.to_owned())
    }

    /// Hears the gateway, where the session can go on with what it says.
    fn hear(&mut self) {
        while self.session.is_idle() || self.session.is_serving() {
            if self.course.owes_report() && self.session.is_idle() {
                self.report();
            }
            let farewell = match self.instance.hear() {
                Ok(Some(Heard::Invoke(request))) => {
                    let Some(invocation) = request.invocation() else { process::exit_now(LOST) };
                    let mut event = vec![0; request.event_len()];
                    request.copy_event(&mut event);
                    self.course.start(&invocation, &mut self.telemetry);
                    self.session.begin(&invocation, event);
                    None
                }
                Ok(Some(Heard::Farewell(reason))) => Some(reason),
                Ok(Some(Heard::Room)) => continue,
                Ok(None) => return,
                Err(_) => process::exit_now(LOST),
            };
            match farewell {
                Some(reason) => {
                    self.conclude(if reason == invocation::TIMED_OUT { "timeout" } else { "failure" }, None);
                    self.session.stop(&reason, End::Exit(0));
                }
                None => self.instance.begin(),
            }
            self.act();
        }
    }

    /// Waits until something happens, and looks at what.
    fn wait(&mut self) {
        let mut sources = vec![Source::Listener, Source::Bell];
        let mut polled = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(self.instance.bell(), PollFlags::IN),
        ];
        if let Some(runtime) = &self.runtime {
            sources.push(Source::Runtime);
            polled.push(PollFd::new(&runtime.process, PollFlags::IN));
        }
        for (at, (_, extension)) in self.extensions.iter().enumerate() {
            sources.push(Source::Extension(at));
            polled.push(PollFd::new(&extension.process, PollFlags::IN));
        }
        for (at, output) in self.outputs.iter().enumerate() {
            sources.push(Source::Output(at));
            polled.push(PollFd::from_borrowed_fd(output.pipe(), PollFlags::IN));
        }
        for (token, connection) in &self.connections {
            // Of one that is not read, the end is not looked for either: what it has sent before counts.
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN | PollFlags::RDHUP, connection.wants_input());
            flags.set(PollFlags::OUT, connection.has_output());
            sources.push(Source::Client(*token));
            polled.push(PollFd::from_borrowed_fd(connection.socket(), flags));
        }
        let due = [self.kill_at, self.end_at].into_iter().flatten().min();
        let rest = due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let rest = rest.and_then(|rest| rest.try_into().ok());
        // Interrupted is as good as woken.
        let _ = poll(&mut polled, rest.as_ref());
        let ready = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        let ready: Vec<(Source, PollFlags)> = ready.filter(|(_, flags)| !flags.is_empty()).collect();
        drop(polled);
        // From the end, as an extension or an output that has ended is taken out of its list.
        for (source, flags) in ready.into_iter().rev() {
            self.look(source, flags);
        }
        self.keep_time();
    }

    fn look(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Bell => _ = interconnect::doorbell::hush(self.instance.bell()),
            Source::Listener => self.admit_client(),
            Source::Runtime => {
                if let Some(Ok(end)) = self.runtime.take().map(|runtime| runtime.end()) {
                    self.conclude("failure", Some("Runtime.ExitError"));
                    self.session.runtime_ended(end);
                }
            }
            Source::Extension(at) => {
                let (name, extension) = self.extensions.remove(at);
                if let Ok(end) = extension.end() {
                    self.session.extension_ended(&name, end);
                }
            }
            Source::Output(at) => {
                if let Some(output) = self.outputs.get_mut(at) {
                    output.pass_on(&mut self.telemetry);
                    self.outputs.retain(|output| !output.is_over);
                }
            }
            Source::Client(token) => {
                let Some(connection) = self.connections.get_mut(&token) else { return };
                // What was sent before a client left counts.
                let found = if flags.contains(PollFlags::IN) { connection.receive() } else { Found::Open };
                let left = flags.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
                let waits = connection.wants_input() && flags.contains(PollFlags::IN);
                self.drive(token);
                if found == Found::Closed || (left && !waits) {
                    self.close(token);
                }
            }
        }
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.runtime.iter().for_each(|runtime| runtime.signal(false));
        }
        if self.end_at.is_some_and(|at| at <= now) {
            self.leave(self.session.overdue().unwrap_or(End::Exit(LOST)));
        }
    }

    fn admit_client(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() >= CONNECTIONS_MAX {
                // Tokens count up: the smallest is the oldest.
                let worth = self.connections.iter().filter_map(|(token, client)| Some((client.worth()?, *token)));
                let Some((_, least)) = worth.min() else { continue };
                self.close(least);
            }
            if let Ok(connection) = Connection::new(stream) {
                self.connections.insert(self.next_token, connection);
                self.next_token += 1;
            }
        }
    }

    fn close(&mut self, token: Token) {
        if self.connections.remove(&token).is_some() {
            if self.stream.as_ref().is_some_and(|stream| stream.token == token) {
                self.stream = None;
            }
            self.session.closed(token);
        }
    }

    /// Goes on with what a client has sent, and sends what is there for it.
    fn drive(&mut self, token: Token) {
        while let Some(connection) = self.connections.get_mut(&token) {
            match connection.step() {
                Ok(Step::Starved | Step::More) => break,
                Ok(Step::Asked(head, body)) => match self.session.admit(token, &head) {
                    Ok(Intake::Whole(limit)) => connection.accept(head, body, limit),
                    Ok(Intake::Parts) => {
                        self.stream =
                            Some(Stream { token, content_type: content_type(&head), is_open: false, bytes: 0 });
                        connection.accept_parts(&head, body);
                    }
                    Err(response) => connection.refuse(body, response),
                },
                Ok(Step::Request(head, bytes)) => {
                    self.session.request(token, &head, bytes);
                    break;
                }
                Ok(Step::PartsEnded(body)) => {
                    self.open_stream();
                    self.session.parts_ended(token, &body);
                    break;
                }
                Ok(Step::TooLong(body)) => {
                    let response = self.session.too_long(token);
                    connection.refuse(body, response);
                }
                Err(_) => {
                    connection.give_up();
                    self.session.closed(token);
                    break;
                }
            }
        }
        let done = self.connections.get_mut(&token).is_some_and(|connection| connection.send() == Found::Closed);
        if done {
            self.close(token);
        }
    }

    /// Passes on what has come of an answer in parts, as far as there is room.
    fn pass_on(&mut self) {
        while let Some(stream) = &mut self.stream {
            let token = stream.token;
            let Some(parts) = self.connections.get_mut(&token).and_then(Connection::parts) else { return };
            if parts.is_empty() {
                return;
            }
            let sent = match stream.is_open {
                false => self.instance.open(&stream.content_type, parts),
                true => self.instance.part(parts),
            };
            match sent {
                Ok(len) => {
                    stream.is_open = true;
                    stream.bytes += len;
                    parts.drain(..len);
                    self.drive(token);
                }
                Err(SendError::Busy) => return,
                Err(_) => process::exit_now(LOST),
            }
        }
    }

    /// An answer in parts that has none is one all the same.
    fn open_stream(&mut self) {
        if let Some(stream) = self.stream.as_ref().filter(|stream| !stream.is_open)
            && self.instance.open(&stream.content_type, &[]).is_err()
        {
            process::exit_now(LOST);
        }
    }
}

impl Server {
    /// Ends as a program has ended: that is how the instance's end is told.
    fn leave(&mut self, end: End) -> ! {
        self.print();
        self.pay();
        match end {
            End::Exit(status) => process::exit_now(status),
            End::Signal(signal) => process::end_by(signal),
        }
    }
}

fn content_type(head: &Head) -> String {
    head.header("content-type").unwrap_or("application/octet-stream").to_owned()
}
