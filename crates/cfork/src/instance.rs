//! The instance's side of its channel: take an invocation, answer it, whole or in parts.
//!
//! ```text
//! poll ─► begin ─┬─► reply | fail
//!                ╰─► open ─► part … ─► reply | fail        Busy: wait_for_room, or for the bell, and once more
//! ```

use crate::invocation::{self, Invocation, Served, Started};
use interconnect::channel::{Channel, Message, ReceiveError, SendError};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// An instance, as its language runtime sees it. Used by one thread at a time.
pub struct Instance {
    channel: Channel,
    started: Started,
    begun: u64,
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
    message: Message<'a>,
}

impl Instance {
    /// An instance that has just entered its slot.
    pub fn new(channel: Channel, started: Started) -> Self {
        Self { channel, started, begun: 0 }
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

    /// Whether an invocation waits. Never blocks.
    pub fn poll(&mut self) -> Result<Option<Request<'_>>, ReceiveError> {
        // What comes late of room for an earlier answer's parts is of no use any more.
        Ok(self.channel.receiver.receive_only(invocation::INVOKE)?.map(|message| Request { message }))
    }

    /// Whatever the gateway has to say; nothing where it says nothing, or what is not known. Never blocks.
    pub fn hear(&mut self) -> Result<Option<Heard<'_>>, ReceiveError> {
        let message = self.channel.receiver.receive()?;
        Ok(message.and_then(|message| match message.kind() {
            invocation::INVOKE => Some(Heard::Invoke(Request { message })),
            invocation::ROOM => Some(Heard::Room),
            invocation::FAREWELL => Some(Heard::Farewell(String::from_utf8_lossy(message.head()).into_owned())),
            _ => None,
        }))
    }

    /// Sleeps until there may be an invocation, after looking for one during `spin`. Call [`Instance::poll`] before and
    /// after. Holds no lock: a runtime with a global lock gives it up around this.
    pub fn wait(&mut self, spin: Duration) {
        self.channel.receiver.wait(spin, None);
    }

    /// For event loops: from now on [`Instance::bell`] polls readable when an invocation arrives. Poll once after this.
    pub fn sleep_by_event(&mut self) {
        self.channel.receiver.sleep_by_event();
    }

    /// The descriptor that rings. Level-triggered loops empty it by [`interconnect::doorbell::hush`].
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.channel.receiver.bell()
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
        self.channel.sender.send(kind, head, bytes).map(|()| bytes.len())
    }

    /// Whether the gateway has taken all that was sent, so that an answer's end is not refused as busy.
    pub fn is_idle(&self) -> bool {
        self.channel.sender.is_idle()
    }

    /// Takes what the gateway says of room for parts; whether it has said anything since this was last called. Only while
    /// an invocation is served: it drops whatever waits. Never blocks.
    pub fn hear_of_room(&mut self) -> Result<bool, ReceiveError> {
        self.channel.receiver.nudged(invocation::ROOM)
    }

    /// Sleeps until the gateway may have taken parts of the answer, for `timeout` at most. For runtimes without an event
    /// loop; others wait for the [`Instance::bell`], and call [`Instance::hear_of_room`].
    pub fn wait_for_room(&mut self, timeout: Option<Duration>) -> Result<(), ReceiveError> {
        if !self.hear_of_room()? {
            self.channel.receiver.wait(Duration::ZERO, timeout);
            self.hear_of_room()?;
        }
        Ok(())
    }

    /// Answers the invocation.
    pub fn reply(&mut self, body: &[u8]) -> Result<(), SendError> {
        self.answer(invocation::REPLY, body)
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
        self.message.head()
    }

    /// What accompanies the event; nothing where the gateway sent nonsense.
    pub fn invocation(&self) -> Option<Invocation<'_>> {
        Invocation::decode(self.message.head())
    }

    /// Bytes of the event.
    pub fn event_len(&self) -> usize {
        self.message.body_len()
    }

    /// Copies the event to `to`, which has just that length.
    pub fn copy_event(&self, to: &mut [u8]) {
        self.message.copy_body(to);
    }
}
