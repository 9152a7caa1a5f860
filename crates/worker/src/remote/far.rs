//! The other machine's side: it plays the gateway for the worker.

use super::RemoteError;
use super::folders::Store;
use super::passage::{Item, Message, Passage, Passed, WINDOW};
use super::stream::{Stream, TURN};
use super::words::Word;
use crate::kits::{self, Kit};
use crate::protocol::{Command, Event, Order, Ordered};
use cfork::invocation;
use interconnect::channel::{Channel, ReceiveError};
use interconnect::link::Link;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sandbox::conversation::{self, MESSAGE_MAX};
use sandbox::spec::{Code, StartSpec, TemplateSpec};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes that may wait for the link before another message is taken from an instance.
const BACKLOG: usize = 4 * 1024 * 1024;
/// The most that a channel may be asked to carry.
const BODY_MAX: u64 = 1 << 30;
/// How often what found no room is tried again.
const AGAIN: Duration = Duration::from_millis(2);
/// How long the pipe of an instance that has ended may stay open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes read from a pipe at a time.
const LINES: usize = 32 * 1024;

/// An instance, as its worker has it.
struct Hosted {
    passage: Passage,
    log: Option<OwnedFd>,
    /// What its worker needs to start it, while folders are on their way.
    parked: Option<Parked>,
    /// Taken, to be sent after what was printed before it.
    held: Option<Message>,
    /// Words that near has not passed on yet.
    unread: usize,
    ended: Option<(Event, Instant)>,
    /// It has broken its channel, and was ended for that.
    broken: bool,
    /// There may be something to do about it.
    touched: bool,
}

struct Parked {
    template: u64,
    start: StartSpec,
    kit: Kit,
}

/// One life of a remote worker, where it runs.
pub struct Far {
    worker: OwnedFd,
    stream: Stream,
    store: Store,
    /// The number of the next kit.
    next_kit: u64,
    hosted: HashMap<u64, Hosted>,
    /// Templates that wait for folders, and folders that were asked for.
    templates: Vec<(u64, TemplateSpec)>,
    wanted: Vec<PathBuf>,
}

impl Far {
    /// Between the worker at the other end of this socket and near at the other end of this link.
    pub fn new(worker: OwnedFd, link: Box<dyn Link>, store: Store) -> Self {
        let stream = Stream::new(link);
        let (hosted, next_kit) = (HashMap::new(), kits::FIRST);
        Self { worker, stream, store, next_kit, hosted, templates: Vec::new(), wanted: Vec::new() }
    }

    /// Goes on until either end is gone, or `stop` has something to say. Gives the folders back.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> (Store, Result<(), RemoteError>) {
        let result = self.serve(stop);
        (self.store, result)
    }

    fn serve(&mut self, stop: BorrowedFd<'_>) -> Result<(), RemoteError> {
        loop {
            for _ in 0..TURN {
                let Some(heard) = self.stream.hear()? else { break };
                self.hear(heard.word.clone(), heard.body())?;
            }
            let due = self.hosted.iter().filter(|(_, hosted)| hosted.is_due()).map(|(id, _)| *id);
            let due: Vec<u64> = due.collect();
            due.into_iter().try_for_each(|instance| self.look_after(instance))?;
            self.stream.pass_on()?;
            let ready = self.wait(stop);
            for instance in ready.rung {
                if let Some(hosted) = self.hosted.get_mut(&instance) {
                    hosted.touched = true;
                }
            }
            if ready.stop {
                return Ok(());
            }
            if ready.worker {
                let (event, _gauge) = conversation::hear(&self.worker, &mut vec![0; MESSAGE_MAX])?;
                self.hear_worker(event)?;
            }
        }
    }

    fn wait(&mut self, stop: BorrowedFd<'_>) -> Ready {
        let armed = self.stream.arm();
        let full = self.stream.backlog() >= BACKLOG;
        let tick = self.hosted.values().any(Hosted::is_due);
        let timeout = match () {
            () if !armed => Some(Duration::ZERO),
            () if tick => Some(AGAIN),
            () => None,
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::new(&self.worker, PollFlags::IN),
            PollFd::from_borrowed_fd(self.stream.poll_fd(), self.stream.wants()),
        ];
        // Whoever may not say more is not listened to.
        let (mut ids, heard) = (Vec::new(), |hosted: &&Hosted| !full && hosted.unread < WINDOW);
        for (id, hosted) in self.hosted.iter().filter(|(_, hosted)| heard(hosted)) {
            let log = hosted.log.as_ref().map(|log| PollFd::new(log, PollFlags::IN));
            let all = [Some(PollFd::from_borrowed_fd(hosted.passage.bell(), PollFlags::IN)), log];
            for fd in all.into_iter().flatten() {
                fds.push(fd);
                ids.push(*id);
            }
        }
        // Interrupted: looks at everything that is cheap to look at, and waits again.
        let _ = poll(&mut fds, timeout.and_then(|timeout| timeout.try_into().ok()).as_ref());
        let is_ready = |at: usize| !fds[at].revents().is_empty();
        let rung = ids.iter().enumerate().filter(|(at, _)| is_ready(3 + at)).map(|(_, id)| *id).collect();
        Ready { stop: is_ready(0), worker: is_ready(1), rung }
    }

    fn hear(&mut self, word: Word, body: &[u8]) -> Result<(), RemoteError> {
        match word {
            Word::Command(command) => self.obey(command),
            Word::Start { template, start, body_max } => self.start(template, start, body_max),
            Word::Message { instance, kind, head } => {
                let (head, body) = body.split_at_checked(head as usize).ok_or(RemoteError::Malformed)?;
                if let Some(hosted) = self.hosted.get_mut(&instance) {
                    let message = Message { kind, head: head.to_vec(), body: body.to_vec() };
                    hosted.passage.waiting.push_back(Item::Message(message));
                }
                Ok(())
            }
            Word::Taken { instance } => {
                if let Some(hosted) = self.hosted.get_mut(&instance) {
                    hosted.unread = hosted.unread.saturating_sub(1);
                    hosted.touched = true;
                }
                Ok(())
            }
            Word::Ask { at } => self.stream.say(&Word::Clock { asked: at, here: os::monotonic_ns() }, &[]),
            Word::Folder { .. } | Word::Entry { .. } | Word::More | Word::Whole { .. } => self.unpack(word, body),
            Word::Want { .. } | Word::Log { .. } | Word::Event(_) | Word::Clock { .. } => Err(RemoteError::Malformed),
        }
    }

    fn obey(&mut self, command: Command) -> Result<(), RemoteError> {
        match command {
            Command::Prepare { template, spec } => {
                self.want(spec.function.as_ref())?;
                self.templates.push((template, spec));
                self.prepare()
            }
            Command::Discard { template } if self.templates.iter().any(|(waiting, _)| *waiting == template) => {
                self.templates.retain(|(waiting, _)| *waiting != template);
                let reason = "it was discarded before its code had come".to_owned();
                self.stream.say(&Word::Event(Event::NotPrepared { template, reason, lasting: false }), &[])
            }
            Command::Retire { instance }
                if self.hosted.get(&instance).is_some_and(|hosted| hosted.parked.is_some()) =>
            {
                self.not_spawned(instance, "it was ended before its code had come")
            }
            Command::Kits { .. } | Command::Spawn(_) | Command::OpenOrders { .. } | Command::CloseOrders { .. } => {
                Err(RemoteError::Malformed)
            }
            command => Ok(conversation::say(&self.worker, &command, &[])?),
        }
    }

    /// Makes what the gateway makes for an instance; starts it as soon as its folders are here.
    fn start(&mut self, template: u64, start: StartSpec, body_max: u64) -> Result<(), RemoteError> {
        if body_max > BODY_MAX {
            return Err(RemoteError::Malformed);
        }
        let (channel, guest) = Channel::create(body_max as usize)?;
        let (log, printer) = std::io::pipe()?;
        let log = OwnedFd::from(log);
        rustix::io::ioctl_fionbio(&log, true).map_err(std::io::Error::from)?;
        self.want(start.code.as_ref())?;
        let instance = start.instance;
        let parked = Parked { template, start, kit: Kit { channel: guest, log: printer.into() } };
        let hosted = Hosted {
            passage: Passage::new(channel),
            log: Some(log),
            parked: Some(parked),
            held: None,
            unread: 0,
            ended: None,
            broken: false,
            touched: true,
        };
        self.hosted.insert(instance, hosted);
        self.spawn(instance)
    }

    /// Asks for folders that are neither here nor on their way.
    fn want(&mut self, code: Option<&Code>) -> Result<(), RemoteError> {
        for folder in folders(code) {
            if self.store.find(&folder).is_none() && !self.wanted.contains(&folder) {
                self.stream.say(&Word::Want { folder: folder.clone() }, &[])?;
                self.wanted.push(folder);
            }
        }
        Ok(())
    }

    /// The code, with its folders as they are called here; nothing while one is missing.
    fn found(&self, code: &Code) -> Option<Code> {
        let folder = self.store.find(&code.folder)?.clone();
        let layers = match &code.layers {
            Some(layers) => Some(self.store.find(layers)?.clone()),
            None => None,
        };
        Some(Code { folder, layers, config: code.config.clone() })
    }

    /// Has templates made whose folders are here.
    fn prepare(&mut self) -> Result<(), RemoteError> {
        for (template, mut spec) in std::mem::take(&mut self.templates) {
            let function = spec.function.as_ref().map(|code| self.found(code));
            if function == Some(None) {
                self.templates.push((template, spec));
                continue;
            }
            spec.function = function.flatten();
            conversation::say(&self.worker, &Command::Prepare { template, spec }, &[])?;
        }
        Ok(())
    }

    /// Has an instance started, if its folders are here.
    fn spawn(&mut self, instance: u64) -> Result<(), RemoteError> {
        let Some(parked) = self.hosted.get(&instance).and_then(|hosted| hosted.parked.as_ref()) else { return Ok(()) };
        let code = parked.start.code.as_ref().map(|code| self.found(code));
        if code == Some(None) {
            return Ok(());
        }
        let parked = self.hosted.get_mut(&instance).and_then(|hosted| hosted.parked.take());
        let Some(Parked { template, mut start, kit }) = parked else { return Ok(()) };
        start.code = code.flatten();
        // What waits for it is in its channel before it is there.
        if let Some(hosted) = self.hosted.get_mut(&instance) {
            while matches!(hosted.passage.pass(None), Passed::On) {}
        }
        let number = self.next_kit;
        self.next_kit += 1;
        conversation::say(&self.worker, &Command::Kits { first: number }, &kit.descriptors())?;
        let starts = vec![Ordered { kit: number, spec: start }];
        Ok(conversation::say(&self.worker, &Command::Spawn(Order { template, starts }), &[])?)
    }

    fn not_spawned(&mut self, instance: u64, reason: &str) -> Result<(), RemoteError> {
        self.hosted.remove(&instance);
        self.stream.say(&Word::Event(Event::NotSpawned { instance, reason: reason.to_owned() }), &[])
    }

    fn unpack(&mut self, word: Word, body: &[u8]) -> Result<(), RemoteError> {
        let result = match &word {
            Word::Folder { folder } => self.store.begin(folder.clone()),
            Word::Entry { path, entry } => self.store.entry(path, entry, body),
            Word::Whole { folder, failed } => self.store.end(folder, failed.is_some()),
            _ => self.store.more(body),
        };
        if let Err(error) = &result {
            tracing::error!(%error, "a function's code cannot be kept");
        }
        let Word::Whole { folder, failed } = word else { return Ok(()) };
        self.wanted.retain(|wanted| *wanted != folder);
        if let Some(reason) = failed.or(result.err().map(|error| error.to_string())) {
            return self.give_up(&folder, &reason);
        }
        self.prepare()?;
        let parked: Vec<u64> = self.hosted.iter().filter(|(_, h)| h.parked.is_some()).map(|(id, _)| *id).collect();
        parked.into_iter().try_for_each(|instance| self.spawn(instance))
    }

    /// Whatever waits for a folder that does not come.
    fn give_up(&mut self, folder: &PathBuf, reason: &str) -> Result<(), RemoteError> {
        let reason = format!("the function's code did not come from the head: {reason}");
        for (template, spec) in std::mem::take(&mut self.templates) {
            if folders(spec.function.as_ref()).contains(folder) {
                let event = Event::NotPrepared { template, reason: reason.clone(), lasting: false };
                self.stream.say(&Word::Event(event), &[])?;
            } else {
                self.templates.push((template, spec));
            }
        }
        let waits = |hosted: &Hosted| {
            hosted.parked.as_ref().is_some_and(|parked| folders(parked.start.code.as_ref()).contains(folder))
        };
        let parked: Vec<u64> = self.hosted.iter().filter(|(_, hosted)| waits(hosted)).map(|(id, _)| *id).collect();
        parked.into_iter().try_for_each(|instance| self.not_spawned(instance, &reason))
    }

    fn hear_worker(&mut self, event: Event) -> Result<(), RemoteError> {
        match event {
            Event::Ended { instance, .. } | Event::NotSpawned { instance, .. }
                if self.hosted.contains_key(&instance) =>
            {
                if let Some(hosted) = self.hosted.get_mut(&instance) {
                    hosted.ended = Some((event, Instant::now() + LAST_WORDS));
                }
                Ok(())
            }
            event => self.stream.say(&Word::Event(event), &[]),
        }
    }

    /// Passes on what waits for an instance, and what it says; its end last.
    fn look_after(&mut self, instance: u64) -> Result<(), RemoteError> {
        let Some(hosted) = self.hosted.get_mut(&instance) else { return Ok(()) };
        while matches!(hosted.passage.pass(None), Passed::On) {}
        hosted.passage.hush();
        // Who may not say more now is looked at when it may.
        hosted.touched = false;
        while hosted.unread < WINDOW {
            if self.stream.backlog() >= BACKLOG {
                hosted.touched = true;
                break;
            }
            if hosted.held.is_none() && !hosted.broken {
                match hosted.passage.take() {
                    Ok(message) => hosted.held = message,
                    // It cannot be trusted with anything more.
                    Err(ReceiveError::Broken) => {
                        hosted.broken = true;
                        conversation::say(&self.worker, &Command::Retire { instance }, &[])?;
                    }
                }
            }
            // What it printed before it spoke goes first.
            if let Some(lines) = read(&mut hosted.log) {
                hosted.unread += 1;
                self.stream.say(&Word::Log { instance }, &[&lines])?;
                continue;
            }
            let Some(message) = hosted.held.take() else { break };
            hosted.unread += 1;
            let word = Word::Message { instance, kind: message.kind, head: message.head.len() as u32 };
            self.stream.say(&word, &[&message.head, &message.body])?;
            if matches!(message.kind, invocation::OPEN | invocation::PART) {
                hosted.passage.nudge(invocation::ROOM);
            }
        }
        let Some((_, until)) = &hosted.ended else { return Ok(()) };
        let silent = hosted.log.is_none() && hosted.held.is_none() && hosted.unread < WINDOW;
        if silent || Instant::now() >= *until {
            let ended = self.hosted.remove(&instance).and_then(|hosted| hosted.ended);
            if let Some((event, _)) = ended {
                self.stream.say(&Word::Event(event), &[])?;
            }
        }
        Ok(())
    }
}

/// What there is to look at.
struct Ready {
    stop: bool,
    worker: bool,
    rung: Vec<u64>,
}

impl Hosted {
    fn is_due(&self) -> bool {
        self.touched || self.ended.is_some() || !self.passage.waiting.is_empty()
    }
}

/// The folders that code is in.
fn folders(code: Option<&Code>) -> Vec<PathBuf> {
    code.into_iter().flat_map(|code| [Some(&code.folder), code.layers.as_ref()]).flatten().cloned().collect()
}

/// What was printed. A pipe that has come to its end is closed.
fn read(log: &mut Option<OwnedFd>) -> Option<Vec<u8>> {
    let mut lines = vec![0; LINES];
    loop {
        match rustix::io::read(log.as_ref()?.as_fd(), &mut lines) {
            Ok(0) => *log = None,
            Ok(len) => {
                lines.truncate(len);
                return Some(lines);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return None,
            Err(_) => *log = None,
        }
    }
}
