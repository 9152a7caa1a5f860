//! An instance as a stage of a chain: its attachment to the shim, the FIFO that it reads, the one that it writes.
//!
//! A parcel's head goes on as it came; what the handler is told in its place is this stage's own function. One parcel at a
//! time is under way in a set, so a parcel finds its lane empty.

use crate::chain::{self, Order, Place};
use crate::invocation::{self, Invocation};
use rustix::event::Timespec;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;
use xpucall::error::{AttachError, ConnectError, CreateError, GrantError, ReadError, WriteError};
use xpucall::id::{FifoId, Rights, XpuPid};
use xpucall::wire::Transport;
use xpucall::{Event, Fifo, Limits, Process, Reader, Writer};

/// Where a sandbox finds the shim of its PU.
pub const SHIM: &str = "/run/lichen/shim.sock";

/// The next stage has this long to take a result that is longer than its lane.
const PATIENCE: Duration = Duration::from_secs(10);
/// A shim that is not there may be about to come back.
const RETURN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// How long a wait may last before it is seen whether a signal has come.
const SLICE: Duration = Duration::from_secs(1);

/// Why an instance cannot be a stage, or not any more.
#[derive(Debug, Error)]
pub enum StageError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("its input could not be made: {0}")]
    Create(#[from] CreateError),
    #[error("the stage before it could not be let in: {0}")]
    Grant(#[from] GrantError),
    #[error("it could not be connected: {0}")]
    Connect(#[from] ConnectError),
    #[error("its input broke: {0}")]
    Read(#[from] ReadError),
    #[error("the next stage could not be reached: {0}")]
    Write(#[from] WriteError),
    #[error("it was ordered what makes no sense at this point")]
    OutOfTurn,
    #[error("it was sent what is no parcel")]
    Malformed,
}

impl StageError {
    /// Whether it is the stage after this one that cannot be reached.
    pub fn is_of_the_next(&self) -> bool {
        matches!(self, Self::Write(WriteError::Ended(_) | WriteError::TimedOut | WriteError::Full))
    }
}

/// A stage.
pub struct Stage {
    // The order of the fields is that in which they are dropped: ends first, then their FIFO, then the attachment.
    output: Option<Writer>,
    input: Option<Input>,
    fifo: Option<Fifo>,
    process: Process,
    function_arn: String,
    parcel_max: usize,
    serves: bool,
    /// What arrived last.
    parcel: Vec<u8>,
    /// The head that came with the request under way, to go on; and what the handler is told in its place.
    passed_head: Vec<u8>,
    head: Vec<u8>,
    deadline_unix_ms: u64,
    /// An answer that comes in parts, for a stage that takes it whole.
    parts: Vec<u8>,
}

struct Input {
    reader: Reader,
    /// Polls readable when something has come, once armed.
    bell: OwnedFd,
    armed: bool,
    /// What a wait has found.
    found: Option<Result<Event, ReadError>>,
}

/// The event of a request that has come from the stage before.
pub struct Parcel<'a> {
    pub head: &'a [u8],
    pub event: &'a [u8],
}

impl Stage {
    /// Attaches this process to its shim, as an order says.
    pub fn attach(order: &Order<'_>) -> Result<Self, StageError> {
        let Order::Attach { function_arn, has_input, parcel_max } = *order else { return Err(StageError::OutOfTurn) };
        let process = attach()?;
        let limits = Limits { message_max: parcel_max, ..Limits::default() };
        let fifo = if has_input { Some(Fifo::create(&process, limits)?) } else { None };
        let input = fifo.as_ref().map(Input::new).transpose()?;
        Ok(Self {
            output: None,
            input,
            fifo,
            process,
            function_arn: function_arn.to_owned(),
            parcel_max: usize::try_from(parcel_max).unwrap_or(usize::MAX),
            serves: false,
            parcel: Vec::new(),
            passed_head: Vec::new(),
            head: Vec::new(),
            deadline_unix_ms: 0,
            parts: Vec::new(),
        })
    }

    /// Where others find it.
    pub fn place(&self) -> Place {
        Place { process: self.process.pid().0, input: self.fifo.as_ref().map_or(0, |fifo| fifo.id().0) }
    }

    /// Follows an order other than the first.
    pub fn follow(&mut self, order: &Order<'_>) -> Result<(), StageError> {
        match (*order, &self.fifo) {
            (Order::Admit { writer }, Some(fifo)) => fifo.grant(XpuPid(writer), Rights::WRITE)?,
            (Order::Begin { output }, _) if !self.serves => {
                if output != 0 {
                    self.output = Some(self.process.connect_writer(FifoId(output))?);
                }
                self.serves = true;
            }
            _ => return Err(StageError::OutOfTurn),
        }
        Ok(())
    }

    /// Nothing comes from the stage before any more.
    pub fn give_up(&mut self) {
        self.input = None;
    }

    /// Whether requests come from another stage rather than from the gateway.
    pub fn has_input(&self) -> bool {
        self.serves && self.input.is_some()
    }

    /// Whether answers go to another stage rather than to the gateway.
    pub fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Takes what has come, if anything: then there is a parcel to be [opened](Self::open).
    pub fn take(&mut self) -> Result<bool, StageError> {
        let Some(input) = &mut self.input else { return Ok(false) };
        if std::mem::take(&mut input.armed) {
            input.reader.wake()?;
        }
        loop {
            let event = match input.found.take() {
                Some(found) => Some(found?),
                None => input.reader.try_event()?,
            };
            match event {
                Some(Event::Message(message)) => {
                    let (head, _) = chain::open(&message.bytes).ok_or(StageError::Malformed)?;
                    self.accept(head)?;
                    self.parcel = message.bytes;
                    return Ok(true);
                }
                // The stage before has ended. The gateway knows, and will end this one.
                Some(Event::Ended { .. }) => {}
                None => return Ok(false),
            }
        }
    }

    /// Notes the head of a request that is under way from now on.
    pub fn accept(&mut self, head: &[u8]) -> Result<(), StageError> {
        let told = Invocation::decode(head).ok_or(StageError::Malformed)?;
        self.head = Invocation { function_arn: &self.function_arn, ..told }.encode();
        self.deadline_unix_ms = told.deadline_unix_ms;
        self.passed_head.clear();
        self.passed_head.extend_from_slice(head);
        self.parts.clear();
        Ok(())
    }

    /// What the handler is told of the request under way.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The request that was taken.
    pub fn parcel(&self) -> Parcel<'_> {
        let (_, event) = chain::open(&self.parcel).unwrap_or_default();
        Parcel { head: &self.head, event }
    }

    /// What is answered where the request that was taken is past its deadline: Lambda's error object.
    pub fn overdue(&self) -> Option<Vec<u8>> {
        if self.deadline_unix_ms > invocation::unix_ms() {
            return None;
        }
        let head = Invocation::decode(&self.head)?;
        // What comes from another function may be anything, and is not to break out of its text.
        let id: String = head.request_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let message = format!("RequestId: {id} Error: Task timed out before this stage of its chain began");
        Some(format!(r#"{{"errorType":"Sandbox.Timedout","errorMessage":"{message}"}}"#).into_bytes())
    }

    /// Sleeps until something may have come, and some time at most.
    pub fn wait(&mut self) {
        let Some(input) = &mut self.input else { return };
        if input.found.is_none() {
            input.found = match input.reader.event_by(Instant::now() + SLICE) {
                Err(ReadError::TimedOut) => None,
                found => Some(found),
            };
        }
    }

    /// From now on the bell polls readable when something comes. Whether nothing has come yet.
    pub fn arm(&mut self) -> bool {
        let Some(input) = &mut self.input else { return true };
        input.armed = true;
        match input.reader.arm() {
            Ok(rests) => rests && input.found.is_none(),
            Err(error) => {
                input.found = Some(Err(error));
                false
            }
        }
    }

    /// Where the bell is waited for although a request is under way: takes what has rung. It is left until then, or until the
    /// stage waits for the next request, so that this one need not wait for a call of the kernel.
    pub fn hush(&mut self) {
        let Some(input) = &mut self.input else { return };
        if !input.armed && input.found.is_none() {
            input.found = input.reader.hush().err().map(Err);
        }
    }

    /// Polls readable when something has come, once armed.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(|input| input.bell.as_fd())
    }

    /// Keeps a part of an answer for the next stage, which takes it whole. Bytes beyond any limit are not kept.
    pub fn keep(&mut self, part: &[u8]) {
        if self.parts.len() <= self.parcel_max {
            self.parts.extend_from_slice(part);
        }
    }

    /// The longest result that the next stage can be handed.
    pub fn result_max(&self) -> usize {
        self.parcel_max.saturating_sub(chain::PARCEL_OVERHEAD + self.passed_head.len())
    }

    /// How long the result is whose end this is.
    pub fn result_len(&self, last: &[u8]) -> usize {
        self.parts.len() + last.len()
    }

    /// Hands the result on whose end this is.
    pub fn pass(&mut self, last: &[u8]) -> Result<(), StageError> {
        let Some(output) = &mut self.output else { return Err(StageError::OutOfTurn) };
        let prefix = chain::prefix(&self.passed_head);
        let message = [&prefix[..], &self.passed_head, &self.parts, last];
        let passed = output.write_parts(&message, Some(Instant::now() + PATIENCE));
        self.parts.clear();
        Ok(passed?)
    }
}

/// Attaches, and has some patience with a shim that is started anew.
fn attach() -> Result<Process, AttachError> {
    let until = Instant::now() + RETURN;
    loop {
        match Process::attach(Path::new(SHIM), Transport::Adaptive) {
            Err(AttachError::NoShim { .. } | AttachError::Connection(_)) if Instant::now() < until => {
                // There is nothing to be waited for: the socket is made anew. A signal shortens it.
                let _ = rustix::event::poll(&mut [], Some(&LOOK_AGAIN));
            }
            result => return result,
        }
    }
}

impl Input {
    fn new(fifo: &Fifo) -> Result<Self, StageError> {
        let mut reader = fifo.reader()?;
        let bell = reader.poll_fd()?.try_clone_to_owned().map_err(ConnectError::Own)?;
        Ok(Self { reader, bell, armed: false, found: None })
    }
}
