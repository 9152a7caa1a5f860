//! One instance of a pure function, as its engine has it: a channel, and what holds for each of its runs.

use crate::held::Shelf;
use crate::run::Limits;
use crate::{Blob, Finished, Program, Run, RunError, Stop};
use bytes::Bytes;
use cfork::invocation::{self, Cause, Processor, Ran, Served, Started};
use interconnect::channel::{Channel, ReceiveError, SendError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sets::wire::{self, Ask, Data, Held};
use sets::{Set, Sets};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a log's reader may make the engine wait in all; what it has not taken then is dropped.
const LOG_PATIENCE: Duration = Duration::from_millis(200);

/// Answers from this length on are put together where the gateway reads them.
const COMPOSED_FROM: usize = 16 << 10;
/// What may come before the last item's data, if that is to lie alone, for the gateway to hand on where it lies.
const FRONT_MAX: usize = 4 << 10;
/// Bytes of inputs whose pages stay for the next ones: having them anew takes as long as a short run.
const KEPT_MAX: usize = 256 << 10;

/// What holds for every run of an instance.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The function, for people.
    pub name: String,
    pub timeout: Duration,
    pub limits: Limits,
    /// The program's name first.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The sets that the function says it leaves; none for whatever it leaves.
    pub outputs: Vec<String>,
    pub deterministic: bool,
    /// What a request may bring.
    pub inputs: sets::Limits,
    /// Sets that every run finds beside those of its request.
    pub fixed: Vec<Set<Blob>>,
}

/// An attached channel.
pub(super) struct Lane {
    pub instance: u64,
    pub program: u64,
    pub channel: Channel,
    log: OwnedFd,
    terms: Terms,
    /// Times that the bell was heard and not emptied.
    pub rings: u32,
    /// When it served last, in rounds of its engine.
    pub round: u64,
    /// Nanoseconds that its last few runs took.
    pub typical: u64,
    /// When the last request was sent; 0 if that is not known.
    pub sent: u64,
    /// A request for what an engine holds that is not known here yet, and how long it waits.
    waiting: Option<(Asked, Instant)>,
}

/// A request as it has come.
type Asked = (Option<Ask>, Sets<Data<Bytes>>);

/// What a request is.
pub(super) enum Request {
    Inputs(Vec<Set<Blob>>, Option<Ask>),
    /// It makes no sense.
    Malformed(RunError),
}

/// The gateway has broken the channel, or does not read what it asked for.
pub(super) struct Broken;

impl Lane {
    pub fn new(attachment: super::Attachment) -> Self {
        let super::Attachment { instance, program, mut channel, log, terms } = attachment;
        channel.receiver.keep(KEPT_MAX);
        let _ = rustix::io::ioctl_fionbio(&log, true);
        Self { instance, program, channel, log, terms, rings: 0, round: 0, typical: 0, sent: 0, waiting: None }
    }

    /// Says that the function is loaded, and where it runs.
    pub fn ready(&mut self, since: u64, processor: Processor) -> Result<(), Broken> {
        let started = Started { forked: since, entered: since, loaded: os::monotonic_ns() };
        self.channel.sender.send(invocation::READY, &started.encode(), &processor).map_err(|_| Broken)
    }

    /// Says that it could not be loaded.
    pub fn not_loaded(&mut self, reason: &str) {
        let started = Started { loaded: os::monotonic_ns(), ..Started::default() };
        let body = error_object("Pure.Load", &format!("{}: {reason}", self.terms.name));
        // A gateway that does not read is about to end this instance.
        let _ = self.channel.sender.send(invocation::INIT_FAILED, &started.encode(), &body);
    }

    /// Whether there is a request that cannot be carried out yet.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The next request, if there is one. One that needs an engine which is not known here yet waits until it is.
    pub fn take(&mut self, shelf: &mut Shelf) -> Result<Option<Request>, Broken> {
        let (asked, until) = match self.waiting.take() {
            Some((asked, until)) => (asked, Some(until)),
            None => match self.receive()? {
                None => return Ok(None),
                Some(Ok(asked)) => (asked, None),
                Some(Err(error)) => return Ok(Some(Request::Malformed(error))),
            },
        };
        if awaits(&asked, shelf) {
            let until = until.unwrap_or_else(|| Instant::now() + super::ACQUAINTED);
            if Instant::now() < until {
                self.waiting = Some((asked, until));
                return Ok(None);
            }
        }
        let (ask, sets) = asked;
        Ok(Some(inputs(sets, ask, shelf)))
    }

    fn receive(&mut self) -> Result<Option<Result<Asked, RunError>>, Broken> {
        let message = match self.channel.receiver.receive_only(invocation::INVOKE) {
            Ok(None) => return Ok(None),
            Ok(Some(message)) => message,
            Err(ReceiveError::Broken) => return Err(Broken),
        };
        self.sent = message.head().try_into().map_or(0, u64::from_le_bytes);
        let (front, tail) = message.split();
        // The gateway is trusted, and writes nothing to what it has sent until that is given back.
        let tail = tail.map(|tail| Bytes::from_owner(tail.in_place()));
        let message = match tail {
            Some(whole) if front.is_empty() => wire::Split { front: whole, tail: None },
            tail => wire::Split { front: front.into(), tail },
        };
        let asked = wire::decode_asking(&message, self.terms.inputs);
        Ok(Some(asked.map_err(|error| RunError::BadInput(error.to_string()))))
    }

    /// Runs the program once on these inputs.
    pub fn run(&self, program: &mut dyn Program, inputs: &[Set<Blob>], stop: &Stop) -> Finished {
        let terms = &self.terms;
        if let Some(set) = terms.fixed.iter().find(|own| inputs.iter().any(|set| set.name == own.name)) {
            // It may be its code: Python's script, say.
            let why = format!("the set {:?} is the function's own: a request brings none of that name", set.name);
            return Finished::failed(RunError::BadInput(why));
        }
        let all: Vec<Set<Blob>>;
        let all = match terms.fixed.is_empty() {
            true => inputs,
            false => {
                all = inputs.iter().chain(&terms.fixed).cloned().collect();
                &all
            }
        };
        program.run(&Run {
            inputs: all,
            outputs: &terms.outputs,
            folders: &[],
            arguments: &terms.arguments,
            environment: &terms.environment,
            stdin: single(inputs),
            streams: None,
            limits: terms.limits,
            deadline: Instant::now() + terms.timeout,
            stop,
            deterministic: terms.deterministic,
        })
    }

    /// Prints what the run has printed, and answers.
    pub fn answer(
        &mut self,
        finished: Finished,
        served: Served,
        (ask, shelf): (Option<Ask>, &mut Shelf),
        scratch: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let printed = !finished.stdout.is_empty() || !finished.stderr.is_empty();
        if printed {
            let patience = Instant::now() + LOG_PATIENCE;
            print(&self.log, &finished.stdout, patience);
            print(&self.log, &finished.stderr, patience);
        }
        let mut ran = Ran { served, memory: finished.memory_peak, printed, cause: Cause::Function };
        let error = match finished.outcome {
            Ok(outputs) => match self.reply(&outputs, &ran, (ask, shelf), scratch) {
                Ok(()) => return Ok(()),
                Err(error) => error?,
            },
            Err(error) => error,
        };
        ran.cause = cause(&error);
        let (kind, message) = (format!("Pure.{}", error.code()), format!("{}: {error}", self.terms.name));
        let body = match error {
            RunError::Gone { lost, .. } => {
                let object = serde_json::json!({ "errorType": kind, "errorMessage": message, "lost": lost });
                object.to_string().into_bytes()
            }
            _ => error_object(&kind, &message),
        };
        self.channel.sender.send(invocation::FAILED, &ran.encode(), &body).map_err(|_| Broken)
    }

    fn reply(
        &mut self,
        outputs: &Sets<Blob>,
        ran: &Ran,
        (ask, shelf): (Option<Ask>, &mut Shelf),
        scratch: &mut Vec<u8>,
    ) -> Result<(), Result<RunError, Broken>> {
        let shown: Vec<Set<Shown<'_>>> = outputs.iter().map(|set| shown(set, ask, shelf)).collect();
        let (len, limit) = (wire::encoded_len(&shown), self.channel.sender.body_max());
        if len > limit {
            return Err(Ok(RunError::OutputTooLarge { limit: limit as u64 }));
        }
        let bad = |error: wire::EncodeError| Ok(RunError::BadOutput(error.to_string()));
        let apart = wire::last(&shown).filter(|last| last.len() >= COMPOSED_FROM && len - last.len() <= FRONT_MAX);
        scratch.clear();
        let sent = if len < COMPOSED_FROM {
            wire::encode(&shown, scratch).map_err(bad)?;
            self.channel.sender.send(invocation::REPLY, &ran.encode(), scratch)
        } else if let Some(last) = apart {
            wire::encode_front(&shown, scratch).map_err(bad)?;
            self.channel.sender.send_parts(invocation::REPLY, &ran.encode(), [scratch.as_slice(), last].into_iter())
        } else {
            match self.channel.sender.compose(len) {
                Ok(mut reply) => {
                    wire::encode_parts(&shown, |part| reply.put(part)).map_err(bad)?;
                    reply.send(invocation::REPLY, &ran.encode())
                }
                Err(error) => Err(error),
            }
        };
        match sent {
            Ok(()) => Ok(()),
            Err(SendError::TooLong { limit, .. }) => Err(Ok(RunError::OutputTooLarge { limit: limit as u64 })),
            Err(SendError::Busy | SendError::Broken) => Err(Err(Broken)),
        }
    }
}

/// Whether some of it is held by an engine that is to be met.
fn awaits((ask, sets): &Asked, shelf: &Shelf) -> bool {
    let mut items = sets.iter().filter(|_| ask.is_some()).flat_map(|set| &set.items);
    items.any(|item| matches!(item.data, Data::Held(held) if shelf.awaits(held.engine)))
}

fn inputs(sets: Sets<Data<Bytes>>, ask: Option<Ask>, shelf: &mut Shelf) -> Request {
    let mut inputs = Vec::with_capacity(sets.len());
    let (mut places, mut gone, mut lost) = (0.., None, Vec::new());
    for set in sets {
        let mut items = Vec::with_capacity(set.items.len());
        for (item, place) in set.items.into_iter().zip(&mut places) {
            let data = match item.data {
                Data::Inline(bytes) => Some(Blob::new(bytes)),
                Data::Held(held) => ask.and_then(|ask| shelf.find(ask.run, held)),
            };
            match data {
                Some(data) => items.push(sets::Item { name: item.name, key: item.key, data }),
                None => {
                    gone.get_or_insert(item.name);
                    lost.push(place);
                }
            }
        }
        inputs.push(Set { name: set.name, items });
    }
    match gone {
        None => Request::Inputs(inputs, ask),
        Some(name) => Request::Malformed(RunError::Gone { name, lost }),
    }
}

/// An output as the reply has it.
enum Shown<'a> {
    Whole(&'a [u8]),
    Held(Held),
}

impl wire::Encode for Shown<'_> {
    fn data(&self) -> Data<&[u8]> {
        match self {
            Self::Whole(bytes) => Data::Inline(bytes),
            Self::Held(held) => Data::Held(*held),
        }
    }
}

fn shown<'a>(set: &'a Set<Blob>, ask: Option<Ask>, shelf: &mut Shelf) -> Set<Shown<'a>> {
    let items = set.items.iter().map(|item| {
        let asked = ask.filter(|ask| ask.from != Ask::NOTHING && item.data.len() >= ask.from as usize);
        let held = asked.filter(|_| !item.data.is_empty()).and_then(|ask| shelf.hold(ask.run, &item.data));
        sets::Item::new(item.name.clone(), item.key, held.map_or(Shown::Whole(&item.data), Shown::Held))
    });
    Set { name: set.name.clone(), items: items.collect() }
}

/// The item that is all that there is: a program that knows nothing of sets reads it as its input.
fn single(inputs: &[Set<Blob>]) -> Option<&Blob> {
    let mut items = inputs.iter().flat_map(|set| &set.items);
    let first = items.next()?;
    items.next().is_none().then_some(&first.data)
}

fn cause(error: &RunError) -> Cause {
    match error {
        RunError::Timeout => Cause::Timeout,
        RunError::OutOfMemory { .. } => Cause::OutOfMemory,
        RunError::Cancelled => Cause::Cancelled,
        RunError::Gone { .. } => Cause::Gone,
        error if error.is_platforms() => Cause::Engine,
        _ => Cause::Function,
    }
}

/// Lambda's.
fn error_object(kind: &str, message: &str) -> Vec<u8> {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into_bytes()
}

/// Writes to a pipe that does not block, for as long as its reader is worth waiting for.
fn print(log: &OwnedFd, mut text: &[u8], until: Instant) {
    while !text.is_empty() {
        match rustix::io::write(log, text) {
            Ok(written) => text = &text[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = until.saturating_duration_since(Instant::now());
                let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
                if left.is_zero() || poll(&mut [PollFd::new(log, PollFlags::OUT)], Some(&timeout)) == Ok(0) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
