//! The instance's side of its channel: take an invocation, answer it.

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

    /// Tells that the function cannot be loaded: `error` is Lambda's error object.
    pub fn init_failed(&mut self, error: &[u8]) -> Result<(), SendError> {
        self.started.loaded = os::monotonic_ns();
        self.channel.sender.send(invocation::INIT_FAILED, &self.started.encode(), error)
    }

    /// Whether an invocation waits. Never blocks.
    pub fn poll(&mut self) -> Result<Option<Request<'_>>, ReceiveError> {
        let message = self.channel.receiver.receive()?;
        Ok(message.filter(|message| message.kind() == invocation::INVOKE).map(|message| Request { message }))
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
