//! One instance, held by one owner at a time: the pool while it waits, an invocation while it is busy.
//!
//! Dropping it ends it: the worker is told, unless it has told us.

use super::aside::Aside;
use super::awake::Attention;
use super::clock::Clock;
use super::engines::{Claim, Engine, Here};
use super::farewell::{Farewells, Parting};
use super::journal::{Journal, TooMuch};
use super::link::{Link, Said};
use super::shared::{Departure, Shared, Verdict};
use super::watched::Watched;
use crate::balance::Run;
use bytes::Bytes;
use cfork::chain::{Order, Place};
use cfork::invocation::{self, CONTENT_TYPE_MAX, PART_MAX, Processor, Ran, Served, Started, WITH_FAREWELL};
use interconnect::channel::{Channel, Message, SendError, Tail};
use interconnect::doorbell;
use sandbox::spec::EngineClass;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use worker::protocol::Command;

/// Bytes of an engine's answers whose pages stay for the next ones.
const KEPT_MAX: usize = 256 << 10;
/// Bytes of a reason that are shown.
const REASON_MAX: usize = 512;
/// What it takes to have another event loop wait for it, in nanoseconds.
const MOVE: u64 = 2_000;
/// How often one is looked at that has not rung, a millisecond apart.
const RING_CHANCES: u32 = 3;

/// The host's end of an instance's channel, known to the runtime by the descriptor that rings.
pub(super) struct Wire(Channel);

impl Wire {
    /// From now on the guest rings.
    pub fn new(channel: Channel) -> Self {
        channel.receiver.sleep_by_event();
        Self(channel)
    }

    /// Keeps the pages of answers of usual lengths: engines give one after the other.
    pub fn keep_bodies(&mut self) {
        self.0.receiver.keep(KEPT_MAX);
    }

    /// Sends the guest a message whose body lies in these parts.
    pub fn send<'p>(
        &mut self,
        kind: u32,
        head: &'p [u8],
        body: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<(), SendError> {
        self.0.sender.send_parts(kind, head, body)
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        use std::os::fd::AsFd;
        self.0.receiver.bell().as_fd().as_raw_fd()
    }
}

/// What an instance has to say, or what is said of it.
#[derive(Debug)]
pub(super) enum Event {
    /// Its function is loaded.
    Ready,
    /// Its function could not be loaded: Lambda's error object.
    InitFailed(Bytes),
    /// It could not be isolated; it has ended.
    NotEntered {
        step: String,
        error: String,
    },
    /// It has answered.
    Replied {
        body: Bytes,
        /// The end of its answer, if it is to stay where it is.
        tail: Option<Tail>,
        failed: bool,
        served: Served,
        /// The same and more, where it is an engine that has answered.
        ran: Ran,
    },
    /// It answers in parts, and this is the first.
    Opened {
        content_type: String,
        part: Bytes,
    },
    /// Another part.
    Part(Bytes),
    /// A stage of a chain has done what it was ordered.
    Chained(Place),
    /// It cannot do that, or be a stage any more; or it is the stage `after` it that cannot be reached.
    Unchained {
        reason: String,
        after: bool,
    },
    /// Its handler's result went to the stage after it.
    Passed(Served),
    /// It has answered with more bytes than it may.
    TooLarge,
    /// It says what makes no sense: it must not be trusted with another request.
    Broken,
    /// It has printed more than it may.
    LogLimit,
    TimedOut,
    /// Nobody waits for its answer any more. Said by who has asked, not by the instance.
    Cancelled,
    /// The request is better off with another engine. Said by who has asked.
    Aside(Aside),
    Departed(Departure),
}

/// Where an instance is, as far as its [`distance`](Instance::distance) depends on it and while it is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The address of its engine; nothing as long as none is known.
    engine: Option<usize>,
    class: EngineClass,
    event_loop: Option<Id>,
}

/// What an instance is made of.
pub(super) struct Parts {
    pub shared: Arc<Shared>,
    pub link: Weak<Link>,
    pub clock: Arc<Clock>,
    pub farewells: Arc<Farewells>,
    pub wire: Wire,
    pub journal: Journal,
    /// Bytes of an answer.
    pub response_max: usize,
}

/// One instance.
pub(super) struct Instance {
    pub shared: Arc<Shared>,
    pub journal: Journal,
    /// When it passed the stations of its start, by its own account.
    pub started: Started,
    pub has_served: bool,
    /// What its last invocation took, and its start where nobody has asked for that yet, in nanoseconds.
    pub took: u64,
    pub start_took: u64,
    /// What an engine has said of its last run, and how long it and its answer waited.
    pub ran: Run,
    /// The bytes that it was asked that with.
    pub asked: usize,
    /// The processor on which its engine stays, if it is an engine's.
    pub processor: Option<u32>,
    /// That engine, once it is known.
    pub engine: Option<Arc<Engine>>,
    /// What its request is expected to take of it.
    pub claim: Option<Claim>,
    link: Weak<Link>,
    clock: Arc<Clock>,
    farewells: Arc<Farewells>,
    /// Why it ends, where it wants to be told of its end.
    farewell: Option<&'static str>,
    /// While an engine's answer is waited for, by a loop that looks for it as long as it is awake.
    attention: Option<Attention>,
    wire: Watched<Wire>,
    ready: bool,
    /// Whether it answers in parts.
    open: bool,
    /// Whether it is to be told that there is room for more parts.
    owes_room: bool,
    /// Whether it is a stage of a chain, or becomes one.
    chained: bool,
    /// Whether the end of an answer may stay where it is.
    lends: bool,
    response_max: usize,
    /// Messages received, and times that it has rung for them.
    messages: u64,
    rings: u64,
}

impl Instance {
    pub fn new(parts: Parts) -> Self {
        Self {
            shared: parts.shared,
            journal: parts.journal,
            started: Started::default(),
            has_served: false,
            took: 0,
            start_took: 0,
            ran: Run::default(),
            asked: 0,
            processor: None,
            engine: None,
            claim: None,
            link: parts.link,
            clock: parts.clock,
            farewells: parts.farewells,
            farewell: None,
            attention: None,
            wire: Watched::new(parts.wire),
            ready: false,
            open: false,
            owes_room: false,
            chained: false,
            lends: false,
            response_max: parts.response_max,
            messages: 0,
            rings: 0,
        }
    }

    /// From now on the end of an answer may stay where it is, or not.
    pub fn set_lends(&mut self, lends: bool) {
        self.lends = lends;
    }

    /// Writes a request into the channel.
    pub fn send<'p>(&mut self, head: &'p [u8], event: impl Iterator<Item = &'p [u8]> + Clone) -> Result<(), SendError> {
        self.open = false;
        self.wire.get_mut().send(invocation::INVOKE, head, event)
    }

    /// It is given a request that is expected to take so many nanoseconds.
    pub fn claim(&mut self, nanoseconds: u64) {
        self.claim = self.engine.clone().map(|engine| Claim::new(engine, self.shared.post, nanoseconds));
    }

    /// Has it become a stage of a chain, step by step; it stays one.
    pub fn order(&mut self, order: &Order<'_>) -> Result<(), SendError> {
        self.chained = true;
        self.wire.get_mut().send(invocation::CHAIN, &order.encode(), std::iter::empty())
    }

    /// Whether it has taken the request, as far as it says. One that has not has done nothing with it.
    pub fn has_taken_request(&self) -> bool {
        self.wire.get_ref().0.sender.is_read()
    }

    /// Whether it has said something that nobody has heard yet.
    pub fn has_message(&self) -> bool {
        self.wire.get_ref().0.receiver.has_message()
    }

    /// Whether it has said nothing unasked, and lives.
    pub fn is_sound(&mut self) -> bool {
        !self.shared.is_departed() && self.hear().is_none()
    }

    /// Whether it rings. One that has closed all its descriptors cannot, and its next answer would not be heard.
    pub async fn can_ring(&mut self) -> bool {
        if self.journal.is_open() {
            return true;
        }
        for _ in 0..RING_CHANCES {
            self.hush();
            if self.rings >= self.messages {
                return true;
            }
            // It may be just about to.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }

    /// From `due` on the invocation counts as timed out.
    pub fn set_deadline(&self, due: u64) {
        self.clock.set(&self.shared, due);
    }

    pub fn clear_deadline(&self) {
        self.shared.clear_due();
    }

    /// What happens next.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// What ends the invocation while a part of its answer waits for its reader. Whatever else the instance says, its end
    /// too, is heard afterwards.
    pub async fn interrupted(&mut self) -> Event {
        let interrupted = |cx: &mut Context<'_>| match self.shared.poll(cx) {
            Some(Verdict::TimedOut) => Poll::Ready(Event::TimedOut),
            Some(Verdict::Departed(_)) | None => self.journal.poll(cx).map(|TooMuch| Event::LogLimit),
        };
        std::future::poll_fn(interrupted).await
    }

    /// Has this event loop wait for its bell. What it has rung for so far is to be looked at after this.
    fn come_here(&mut self) -> io::Result<()> {
        if self.wire.home() == Some(Handle::current().id()) {
            return Ok(());
        }
        self.hush();
        self.wire.move_here()
    }

    /// Takes what has rung.
    fn hush(&mut self) {
        self.rings = self.rings.saturating_add(doorbell::hush(self.wire.get_ref().0.receiver.bell()));
    }

    pub fn spot(&self) -> Spot {
        let engine = self.engine.as_ref().map(|engine| Arc::as_ptr(engine).addr());
        Spot { engine, class: self.shared.terms.class, event_loop: self.wire.home() }
    }

    /// How far it is for a request that is here, in nanoseconds: until its engine has time, or its bell is here.
    pub fn distance(&self, here: &Here) -> u64 {
        let engine = self.engine.as_ref().map_or(0, |engine| engine.distance(here));
        engine + if self.wire.home() == here.event_loop { 0 } else { MOVE }
    }

    /// Whether its engine is to do nothing at present.
    pub fn rests(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.rests())
    }

    /// What happens next; if nothing, wakes when something does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let polled = self.poll_once(cx);
        match (&self.attention, polled.is_pending()) {
            (Some(_), false) => self.attention = None,
            (Some(attention), true) => attention.wakes(cx),
            // Others are asked whether they can ring at all.
            (None, true) if self.processor.is_some() => {
                let wire = &self.wire;
                self.attention = Attention::begin(|| wire.get_ref().0.receiver.glance(), cx);
            }
            (None, _) => {}
        }
        polled
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let departure = match self.shared.poll(cx) {
            // An answer may lie in the ring all the same, of one that cannot ring any more: it is late.
            Some(Verdict::TimedOut) => {
                self.farewell = self.farewell.map(|_| invocation::TIMED_OUT);
                return Poll::Ready(Event::TimedOut);
            }
            Some(Verdict::Departed(departure)) => Some(departure),
            None => None,
        };
        if self.come_here().is_err() {
            return Poll::Ready(Event::Broken);
        }
        loop {
            if let Some(event) = self.hear() {
                return Poll::Ready(event);
            }
            if std::mem::take(&mut self.owes_room) && self.wire.get_mut().0.sender.nudge(invocation::ROOM).is_err() {
                return Poll::Ready(Event::Broken);
            }
            // Asked for first and answered now: what it wrote before it ended is in the ring by then, and counts.
            if let Some(departure) = departure {
                return Poll::Ready(Event::Departed(departure));
            }
            if self.journal.poll(cx) == Poll::Ready(TooMuch) {
                return Poll::Ready(Event::LogLimit);
            }
            match self.wire.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                // The bell is edge-triggered and need not be emptied. What was rung for is seen by looking once more.
                Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
                // The runtime shuts down.
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Broken),
            }
        }
    }

    /// What it has said, if anything.
    pub fn hear(&mut self) -> Option<Event> {
        // Who looks for its next message would look for this one.
        if self.attention.is_some() && self.wire.get_ref().0.receiver.has_message() {
            self.attention = None;
        }
        let message = match self.wire.get_mut().0.receiver.receive() {
            Ok(message) => message?,
            Err(_) => return Some(Event::Broken),
        };
        self.messages += 1;
        if message.kind() == invocation::READY && message.body_len() == size_of::<Processor>() {
            self.processor = message.body().try_into().ok().map(u32::from_le_bytes);
        }
        let wants_farewell = message.kind() == invocation::READY && message.body_len() == WITH_FAREWELL.len();
        let (event, started) = match stage_event(&message) {
            Some(event) if self.chained => (event, None),
            _ if self.lends && self.ready && is_lendable(&message, self.response_max) => (lent(message), None),
            _ => understand(&message, self.ready, self.open, self.response_max),
        };
        self.started = started.unwrap_or(self.started);
        self.ready |= matches!(event, Event::Ready);
        self.farewell = self.farewell.or(wants_farewell.then_some(invocation::NOT_NEEDED));
        self.owes_room |= matches!(event, Event::Opened { .. } | Event::Part(_));
        self.open = matches!(event, Event::Opened { .. } | Event::Part(_));
        Some(event)
    }
}

/// What only stages of a chain say.
fn stage_event(message: &Message<'_>) -> Option<Event> {
    match message.kind() {
        invocation::CHAINED => Some(Place::decode(message.head()).map_or(Event::Broken, Event::Chained)),
        invocation::UNCHAINED => {
            let after = message.body_len() == invocation::NEXT_STAGE.len();
            Some(Event::Unchained { reason: text(message.head()), after })
        }
        invocation::PASSED => Some(Event::Passed(Served::decode(message.head()))),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_MAX)]).into_owned()
}

fn understand(message: &Message<'_>, ready: bool, open: bool, body_max: usize) -> (Event, Option<Started>) {
    let is_part = message.body_len() <= PART_MAX && message.head().len() <= CONTENT_TYPE_MAX;
    let body = || Bytes::from(message.body());
    match message.kind() {
        invocation::READY if !ready => (Event::Ready, Some(Started::decode(message.head()))),
        invocation::INIT_FAILED if !ready => (Event::InitFailed(body()), Some(Started::decode(message.head()))),
        invocation::NOT_ENTERED if !ready => {
            (Event::NotEntered { step: text(message.head()), error: text(&message.body()) }, None)
        }
        invocation::OPEN if ready && !open && is_part => {
            let content_type = String::from_utf8_lossy(message.head()).into_owned();
            (Event::Opened { content_type, part: body() }, None)
        }
        invocation::PART if open && is_part => (Event::Part(body()), None),
        invocation::REPLY | invocation::FAILED if ready && message.body_len() > body_max => (Event::TooLarge, None),
        kind @ (invocation::REPLY | invocation::FAILED) if ready => {
            let ran = Ran::decode(message.head());
            let failed = kind == invocation::FAILED;
            (Event::Replied { body: body(), tail: None, failed, served: ran.served, ran }, None)
        }
        _ => (Event::Broken, None),
    }
}

fn is_lendable(message: &Message<'_>, body_max: usize) -> bool {
    message.kind() == invocation::REPLY && message.has_tail() && message.body_len() <= body_max
}

/// An answer whose end stays where it is.
fn lent(message: Message<'_>) -> Event {
    let ran = Ran::decode(message.head());
    let (front, tail) = message.split();
    Event::Replied { body: front.into(), tail, failed: false, served: ran.served, ran }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.clock.forget(&self.shared);
        if let Some(reason) = self.farewell.filter(|_| !self.shared.is_departed())
            && self.wire.get_mut().send(invocation::FAREWELL, reason.as_bytes(), std::iter::empty()).is_ok()
        {
            self.shared.clear_due();
            let (shared, journal, link) = (self.shared.clone(), self.journal.hand_over(), self.link.clone());
            return self.farewells.see_off(Parting { shared, journal, link });
        }
        if self.shared.retire()
            && let Some(link) = self.link.upgrade()
        {
            link.tell(Said::Command(Command::Retire { instance: self.shared.id }));
        }
    }
}
