//! The instance's side of its channel: take an invocation, answer it, whole or in parts.
//!
//! ```text
//! poll ─► begin ─┬─► reply | fail
//!                ╰─► open ─► part … ─► reply | fail        Busy: wait_for_room, or for the bell, and once more
//! ```
//!
//! An instance that has become a stage of a chain does the same: then requests come from the stage before, and answers go to
//! the one after, and who serves them need not know.

use crate::chain::Order;
use crate::invocation::{self, Invocation, Served, Started};
use crate::stage::{Parcel, Stage, StageError};
use interconnect::channel::{Channel, Message, ReceiveError, SendError};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// An instance, as its language runtime sees it. Used by one thread at a time.
pub struct Instance {
    channel: Channel,
    started: Started,
    begun: u64,
    /// What it is beside, where it is a stage of a chain.
    stage: Option<Box<Stage>>,
}

/// What the gateway has to say.
pub enum Heard<'a> {
    Invoke(Request<'a>),
    /// There is room for parts of an answer.
    Room,
    /// The instance is about to be ended, for this reason.
    Farewell(String),
}

/// An invocation to serve.
pub struct Request<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Gateway(Message<'a>),
    /// The gateway, to the first stage of a chain: with this head in the place of what came.
    First(&'a [u8], Message<'a>),
    Stage(Parcel<'a>),
}

impl Instance {
    /// An instance that has just entered its slot.
    pub fn new(channel: Channel, started: Started) -> Self {
        Self { channel, started, begun: 0, stage: None }
    }

    /// Tells that the function is loaded.
    pub fn ready(&mut self) -> Result<(), SendError> {
        self.started.loaded = os::monotonic_ns();
        self.channel.sender.send(invocation::READY, &self.started.encode(), &[])
    }

    /// As [`Instance::ready`]; the gateway then says farewell, and waits a while, before it ends the instance.
    pub fn ready_with_farewell(&mut self) -> Result<(), SendError> {
        self.started.loaded = os::monotonic_ns();
        self.channel.sender.send(invocation::READY, &self.started.encode(), invocation::WITH_FAREWELL)
    }

    /// Tells that the function cannot be loaded: `error` is Lambda's error object.
    pub fn init_failed(&mut self, error: &[u8]) -> Result<(), SendError> {
        self.started.loaded = os::monotonic_ns();
        self.channel.sender.send(invocation::INIT_FAILED, &self.started.encode(), error)
    }

    /// Whether an invocation waits. Never blocks, but for some calls to the shim while it becomes a stage of a chain.
    pub fn poll(&mut self) -> Result<Option<Request<'_>>, ReceiveError> {
        // What comes late of room for an earlier answer's parts is of no use any more.
        while self.channel.receiver.next_of(&[invocation::INVOKE, invocation::CHAIN])? == Some(invocation::CHAIN) {
            self.follow()?;
        }
        if self.stage.as_ref().is_some_and(|stage| stage.has_input()) {
            return Ok(self.take_parcel());
        }
        let Some(message) = self.channel.receiver.receive()? else { return Ok(None) };
        let source = match &mut self.stage {
            None => Source::Gateway(message),
            Some(stage) => {
                stage.accept(message.head()).map_err(|_| ReceiveError::Broken)?;
                Source::First(stage.head(), message)
            }
        };
        Ok(Some(Request { source }))
    }

    /// Follows an order that waits.
    fn follow(&mut self) -> Result<(), ReceiveError> {
        let Some(message) = self.channel.receiver.receive()? else { return Ok(()) };
        let order = Order::decode(message.head()).ok_or(ReceiveError::Broken)?;
        let followed = match &mut self.stage {
            None => Stage::attach(&order).map(|stage| self.stage = Some(Box::new(stage))),
            Some(stage) => stage.follow(&order),
        };
        drop(message);
        match (followed, &self.stage) {
            (Ok(()), Some(stage)) => self.tell(invocation::CHAINED, &stage.place().encode(), &[]),
            (Ok(()), None) => self.unchain(&StageError::OutOfTurn),
            (Err(error), _) => self.unchain(&error),
        }
        Ok(())
    }

    /// Says that this cannot be a stage, or not any more.
    fn unchain(&mut self, error: &StageError) {
        let whose: &[u8] = if error.is_of_the_next() { invocation::NEXT_STAGE } else { &[] };
        self.tell(invocation::UNCHAINED, error.to_string().as_bytes(), whose);
    }

    fn tell(&mut self, kind: u32, head: &[u8], body: &[u8]) {
        // A gateway that does not read is about to end this instance.
        let _ = self.channel.sender.send(kind, head, body);
    }

    /// What has come from the stage before, if it is not too late for it.
    fn take_parcel(&mut self) -> Option<Request<'_>> {
        loop {
            match self.stage.as_mut()?.take() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.stage.as_mut()?.give_up();
                    self.unchain(&error);
                    return None;
                }
            }
            self.begun = 0;
            match self.stage.as_ref()?.overdue() {
                None => break,
                // It is no matter who tells it: the gateway has a clock of its own.
                Some(error) => drop(self.fail(&error)),
            }
        }
        Some(Request { source: Source::Stage(self.stage.as_ref()?.parcel()) })
    }

    /// Whatever the gateway has to say; nothing where it says nothing, or what is not known. Never blocks.
    pub fn hear(&mut self) -> Result<Option<Heard<'_>>, ReceiveError> {
        let message = self.channel.receiver.receive()?;
        Ok(message.and_then(|message| match message.kind() {
            invocation::INVOKE => Some(Heard::Invoke(Request { source: Source::Gateway(message) })),
            invocation::ROOM => Some(Heard::Room),
            invocation::FAREWELL => Some(Heard::Farewell(String::from_utf8_lossy(message.head()).into_owned())),
            _ => None,
        }))
    }

    /// Sleeps until there may be an invocation, after looking for one during `spin`. Call [`Instance::poll`] before and
    /// after. Holds no lock: a runtime with a global lock gives it up around this.
    pub fn wait(&mut self, spin: Duration) {
        match self.stage.as_mut().filter(|stage| stage.has_input()) {
            Some(stage) => stage.wait(),
            None => self.channel.receiver.wait(spin, None),
        }
    }

    /// For event loops: from now on [`Instance::bell`] polls readable when an invocation arrives. Poll once after this.
    /// Where it [rings once](Instance::rings_once), do not poll: false says that something has come already.
    pub fn sleep_by_event(&mut self) -> bool {
        match self.stage.as_mut().filter(|stage| stage.has_input()) {
            Some(stage) => stage.arm(),
            None => {
                self.channel.receiver.sleep_by_event();
                true
            }
        }
    }

    /// Whether the bell has to be asked to ring, each time anew.
    pub fn rings_once(&self) -> bool {
        self.stage.as_ref().is_some_and(|stage| stage.has_input())
    }

    /// For event loops whose bell has rung: one that [rings once](Instance::rings_once), and that nothing is taken from as a
    /// request is under way, polls readable no more.
    pub fn hush(&mut self) {
        if let Some(stage) = &mut self.stage {
            stage.hush();
        }
    }

    /// The descriptor that rings: another one, once this is a stage of a chain. Level-triggered loops empty it by
    /// [`interconnect::doorbell::hush`], or by [`Instance::hush`].
    pub fn bell(&self) -> BorrowedFd<'_> {
        let stage = self.stage.as_ref().filter(|stage| stage.has_input());
        stage.and_then(|stage| stage.bell()).unwrap_or_else(|| self.channel.receiver.bell())
    }

    /// Notes that the handler's first line comes next.
    pub fn begin(&mut self) {
        self.begun = os::monotonic_ns();
    }

    /// The longest answer that the channel takes.
    pub fn answer_max(&self) -> usize {
        self.channel.sender.body_max()
    }

    /// Begins an answer that comes in parts with its first one, which may be empty. Content type and part are cut off
    /// where they are longer than [`invocation::CONTENT_TYPE_MAX`] and [`invocation::PART_MAX`]: answers how much of the
    /// part was taken.
    pub fn open(&mut self, content_type: &str, first: &[u8]) -> Result<usize, SendError> {
        let content_type = &content_type.as_bytes()[..content_type.len().min(invocation::CONTENT_TYPE_MAX)];
        self.send_part(invocation::OPEN, content_type, first)
    }

    /// Sends another part of the answer: how many of its bytes were taken, [`invocation::PART_MAX`] at most.
    /// [`SendError::Busy`] as long as the gateway has not taken earlier ones.
    pub fn part(&mut self, bytes: &[u8]) -> Result<usize, SendError> {
        self.send_part(invocation::PART, &[], bytes)
    }

    fn send_part(&mut self, kind: u32, head: &[u8], bytes: &[u8]) -> Result<usize, SendError> {
        let bytes = &bytes[..bytes.len().min(invocation::PART_MAX).min(self.channel.sender.body_max())];
        if let Some(stage) = self.handing_on() {
            stage.keep(bytes);
            return Ok(bytes.len());
        }
        self.channel.sender.send(kind, head, bytes).map(|()| bytes.len())
    }

    /// Whether the gateway has taken all that was sent, so that an answer's end is not refused as busy.
    pub fn is_idle(&self) -> bool {
        self.stage.as_ref().is_some_and(|stage| stage.has_output()) || self.channel.sender.is_idle()
    }

    /// Takes what the gateway says of room for parts; whether it has said anything since this was last called. Only while
    /// an invocation is served: it drops whatever waits. Never blocks.
    pub fn hear_of_room(&mut self) -> Result<bool, ReceiveError> {
        self.channel.receiver.nudged(invocation::ROOM)
    }

    /// For event loops: the descriptor that rings when the gateway has taken parts of the answer, once it was asked to by
    /// [`Instance::wait_for_room_by_event`].
    pub fn room_bell(&self) -> BorrowedFd<'_> {
        self.channel.receiver.bell()
    }

    pub fn wait_for_room_by_event(&mut self) {
        self.channel.receiver.sleep_by_event();
    }

    /// Sleeps until the gateway may have taken parts of the answer, for `timeout` at most. For runtimes without an event
    /// loop; others wait for the [`Instance::room_bell`], and call [`Instance::hear_of_room`].
    pub fn wait_for_room(&mut self, timeout: Option<Duration>) -> Result<(), ReceiveError> {
        if !self.hear_of_room()? {
            self.channel.receiver.wait(Duration::ZERO, timeout);
            self.hear_of_room()?;
        }
        Ok(())
    }

    /// Answers the invocation.
    pub fn reply(&mut self, body: &[u8]) -> Result<(), SendError> {
        if self.stage.as_ref().is_some_and(|stage| stage.has_output()) {
            return self.hand_on(body);
        }
        self.answer(invocation::REPLY, body)
    }

    fn handing_on(&mut self) -> Option<&mut Stage> {
        self.stage.as_deref_mut().filter(|stage| stage.has_output())
    }

    /// Hands the answer to the next stage. The gateway reads of it later, and is told at once where that fails.
    fn hand_on(&mut self, body: &[u8]) -> Result<(), SendError> {
        let served = Served { begun: self.begun, ended: os::monotonic_ns() };
        let Some(stage) = self.handing_on() else { return Err(SendError::Broken) };
        let (len, limit) = (stage.result_len(body), stage.result_max());
        if len > limit {
            return Err(SendError::TooLong { len, limit });
        }
        // Before the next stage can have answered. Where there is no room for it, its bill goes to that one.
        let _ = self.channel.sender.send_asleep(invocation::PASSED, &served.encode(), &[]);
        let passed = self.handing_on().map_or(Err(StageError::OutOfTurn), |stage| stage.pass(body));
        if let Err(error) = passed {
            self.unchain(&error);
        }
        Ok(())
    }

    /// Answers the invocation with Lambda's error object.
    pub fn fail(&mut self, error: &[u8]) -> Result<(), SendError> {
        self.answer(invocation::FAILED, error)
    }

    fn answer(&mut self, kind: u32, body: &[u8]) -> Result<(), SendError> {
        let served = Served { begun: self.begun, ended: os::monotonic_ns() };
        self.channel.sender.send(kind, &served.encode(), body)
    }
}

impl Request<'_> {
    /// What accompanies the event, encoded: see [`Invocation::decode`].
    pub fn head(&self) -> &[u8] {
        match &self.source {
            Source::Gateway(message) => message.head(),
            Source::First(head, _) => head,
            Source::Stage(parcel) => parcel.head,
        }
    }

    /// What accompanies the event; nothing where the gateway sent nonsense.
    pub fn invocation(&self) -> Option<Invocation<'_>> {
        Invocation::decode(self.head())
    }

    /// Bytes of the event.
    pub fn event_len(&self) -> usize {
        match &self.source {
            Source::Gateway(message) | Source::First(_, message) => message.body_len(),
            Source::Stage(parcel) => parcel.event.len(),
        }
    }

    /// Copies the event to `to`, which has just that length.
    pub fn copy_event(&self, to: &mut [u8]) {
        match &self.source {
            Source::Gateway(message) | Source::First(_, message) => message.copy_body(to),
            Source::Stage(parcel) => to.copy_from_slice(parcel.event),
        }
    }
}
