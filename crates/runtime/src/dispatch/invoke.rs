//! One invocation, from its admission to its bill.
//!
//! ```text
//!  admit ──► acquire ──┬─ instance ──────────► send ──╮
//!    │         ▲       ├─ leave to start ─► start ────┼──► what happens next ──► conclude ──► outcome
//!  refused     │       ╰─ queue ─► either of these    │            │
//!              ╰──────── once more, where the instance has not taken the request ╯
//! ```

use super::aside::{self, Aside, Look};
use super::call::{Call, InvokeError, Outcome, PlatformError, Report, Spans, StartKind};
use super::failure::Failure;
use super::instance::{Event, Instance};
use super::keep_going::Cancel;
use super::lines::{self, Figures};
use super::node::{Asked, Step};
use super::placing::kinds_of;
use super::reception::Reception;
use super::shared::Departure;
use super::start::FirstRequest;
use super::ticket::{Admission, Grant, Lease, Ticket};
use super::{Dispatcher, trace};
use crate::billing::{Bill, billed_ms};
use crate::function::{Function, Isolation};
use crate::placement::Terms;
use bytes::Bytes;
use cfork::invocation::{Cause, Invocation, Ran};
use interconnect::channel::Tail;
use sandbox::spec::End;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// For how long a request waits for an instance, as long as there is a worker.
const QUEUE_MAX: Duration = Duration::from_secs(60);

/// One invocation under way.
struct Course {
    node: Arc<Dispatcher>,
    function: Arc<Function>,
    call: Call,
    reception: Reception,
    admission: Admission,
    spans: Spans,
    /// When it began to look for an instance.
    sought: u64,
    /// Whether the log says that it has begun.
    announced: bool,
    /// Whether the request was sent before, and so is not sent again.
    last: bool,
    /// Whether it passes by the engines of long runs, and has done so.
    passes: bool,
    has_passed: bool,
    /// Tells where the run ends when nobody waits for it any more.
    cancel: Option<Arc<Cancel>>,
    /// What an engine said of the run.
    ran: Ran,
    /// The end of its answer, where that has stayed.
    tail: Option<Tail>,
}

/// What came of one attempt.
enum Attempt {
    Done(Result<Outcome, InvokeError>),
    /// The instance has done nothing with the request: another may.
    Again,
}

/// A result to be reported.
struct Answer {
    start: StartKind,
    /// The function's answer, or what went wrong with it.
    body: Result<Bytes, Failure>,
    /// Since when its duration counts.
    begun: u64,
    /// What came before, where this invocation waited for it.
    init: Option<Duration>,
    /// The time that it has, or that its instance has for loading.
    limit: Duration,
}

/// Runs a function once.
pub(super) async fn run(
    node: Arc<Dispatcher>,
    function: Arc<Function>,
    call: Call,
    reception: Reception,
    cancel: Option<Arc<Cancel>>,
) -> Result<Outcome, InvokeError> {
    let sought = os::monotonic_ns();
    let accepted = if call.accepted > 0 { call.accepted } else { sought };
    let (admission, mut step) = node.admit(&function, &call)?;
    let spans = Spans { accepted, ..Spans::default() };
    let ran = Ran::default();
    let [announced, last, passes, has_passed] = [false; 4];
    let mut course = Course {
        node,
        function,
        call,
        reception,
        admission,
        spans,
        sought,
        announced,
        last,
        passes,
        has_passed,
        cancel,
        ran,
        tail: None,
    };
    loop {
        match course.attempt(step).await {
            Attempt::Done(result) => {
                if result.is_err() {
                    course.admission.meter().counters.platform_error();
                }
                return result;
            }
            Attempt::Again => step = course.node.acquire(&course.function, course.asked()),
        }
    }
}

/// What a request for this function that waits is given.
pub(super) async fn wait(
    node: &Dispatcher,
    function: &Function,
    mut granted: oneshot::Receiver<Grant>,
) -> Result<Grant, InvokeError> {
    let began = Instant::now();
    loop {
        match tokio::time::timeout(node.config.worker_wait(), &mut granted).await {
            Ok(Ok(grant)) => return Ok(grant),
            Ok(Err(_)) => return Err(InvokeError::NoWorker),
            Err(_) if !node.is_up_for(function) => return Err(nowhere(function)),
            Err(_) if began.elapsed() >= QUEUE_MAX => return Err(PlatformError::Overdue(QUEUE_MAX).into()),
            Err(_) => {}
        }
    }
}

/// That no PU is up on which the function may run.
fn nowhere(function: &Function) -> InvokeError {
    match function.profiles.is_empty() {
        true => InvokeError::NoWorker,
        false => InvokeError::NoPu { kinds: kinds_of(function) },
    }
}

impl Course {
    async fn attempt(&mut self, step: Result<Step, PlatformError>) -> Attempt {
        let grant = match step {
            Ok(Step::Take(instance)) => Ok(Grant::Instance(Lease::new(self.node.clone(), instance))),
            Ok(Step::Start(permit)) => Ok(Grant::Start(Ticket::new(self.node.clone(), permit))),
            Ok(Step::Wait(granted)) => Box::pin(wait(&self.node, &self.function, granted)).await,
            Err(error) => Err(error.into()),
        };
        match grant {
            Ok(Grant::Instance(lease)) => self.take(lease).await,
            // As rare as it is long: what every invocation is made of has no room for it.
            Ok(Grant::Start(ticket)) => Box::pin(self.start(ticket)).await,
            Ok(Grant::Never { reason }) => Attempt::Done(Err(PlatformError::NoTemplate { reason }.into())),
            Err(error) => Attempt::Done(Err(error)),
        }
    }

    /// An instance that waits.
    async fn take(&mut self, mut lease: Lease) -> Attempt {
        let begun = os::monotonic_ns();
        self.spans.decided = begun;
        let instance = &mut *lease.instance;
        if !instance.is_sound() {
            return Attempt::Again;
        }
        let start = if instance.has_served { StartKind::Warm } else { StartKind::Stem };
        let mut answer = Answer { start, body: Ok(Bytes::new()), begun, init: None, limit: self.timeout() };
        instance.journal.begin(&self.call.request_id, self.call.log_tail);
        instance.set_lends(self.call.lends);
        self.announce(instance);
        // Engines are told nothing but the sets, and when these were sent.
        let (sent, head) =
            (begun.to_le_bytes(), (!self.function.kind.is_pure()).then(|| self.head(api::time::now_ms())));
        if instance.send(head.as_deref().unwrap_or(&sent), self.call.parts()).is_err() {
            answer.body = Err(Failure::broken(&self.call.request_id));
            return self.conclude(lease, false, answer).await;
        }
        let event = self.hear_out(instance, begun + self.patience().as_nanos() as u64).await;
        self.settle(lease, event, answer).await
    }

    /// An instance of its own.
    async fn start(&mut self, mut ticket: Ticket) -> Attempt {
        let decided = os::monotonic_ns();
        self.spans.decided = decided;
        // Its time counts from when the instance has loaded the function.
        let head = self.head(0);
        let started = self.node.start(&mut ticket, Some(FirstRequest { call: &self.call, head: &head }));
        let mut instance = match started {
            Ok(instance) => instance,
            Err(error) => return Attempt::Done(Err(error.into())),
        };
        // Before it is loaded, as its own lines may follow at once.
        self.announce(&mut instance);
        instance.set_lends(self.call.lends);
        let loading = self.timeout().max(self.node.config.init_timeout());
        let may_pass = !self.has_passed && self.node.may_pass(&instance, self.call.len());
        let patience = if may_pass { aside::START } else { loading.as_nanos() as u64 };
        instance.set_deadline(decided + patience);
        let first = instance.next().await;
        if may_pass && matches!(first, Event::TimedOut) {
            return self.pass(Aside::Short);
        }
        let seen = os::monotonic_ns();
        let mut answer =
            Answer { start: StartKind::Cold, body: Ok(Bytes::new()), begun: decided, init: None, limit: loading };
        if !matches!(first, Event::Ready) {
            if matches!(first, Event::TimedOut) && !instance.shared.is_spawned() {
                let reason = format!("the worker has not started it within {loading:?}");
                return Attempt::Done(Err(PlatformError::NotStarted { reason }.into()));
            }
            return self.settle(ticket.into_lease(instance), first, answer).await;
        }
        let mut lease = ticket.into_lease(instance);
        let instance = &mut *lease.instance;
        // Its own account of the time is believed as far as it is possible.
        answer.begun = instance.started.loaded.clamp(decided, seen);
        answer.init = Some(Duration::from_nanos(answer.begun - decided));
        instance.start_took = answer.begun - decided;
        answer.limit = self.timeout();
        let event = self.hear_out(instance, answer.begun + self.patience().as_nanos() as u64).await;
        self.settle(lease, event, answer).await
    }

    /// What the instance comes to say at last, until `due`, once all parts of its answer are where they are wanted.
    async fn hear_out(&mut self, instance: &mut Instance, due: u64) -> Event {
        if let Some(cancel) = self.cancel.clone() {
            return self.hear_engine(instance, &cancel, due).await;
        }
        instance.set_deadline(due);
        loop {
            let (part, last) = match instance.next().await {
                Event::Opened { content_type, part } => {
                    self.reception.open(content_type);
                    (part, None)
                }
                Event::Part(part) => (part, None),
                Event::Replied { body, tail, failed: false, served, ran } if self.reception.is_open() => {
                    (body, Some(Event::Replied { body: Bytes::new(), tail, failed: false, served, ran }))
                }
                event => return event,
            };
            let interrupted = tokio::select! {
                biased;
                () = self.reception.take(part) => None,
                event = instance.interrupted() => Some(event),
            };
            if let Some(event) = interrupted.or(last) {
                return event;
            }
        }
    }

    /// What an engine comes to say, unless the request is better off with another one.
    async fn hear_engine(&mut self, instance: &mut Instance, cancel: &Cancel, due: u64) -> Event {
        cancel.begin();
        let mut look = Look::default();
        loop {
            instance.set_deadline(due.min(aside::next_look(os::monotonic_ns())));
            let event = tokio::select! {
                biased;
                event = instance.next() => event,
                () = cancel.told() => Event::Cancelled,
            };
            if !matches!(event, Event::TimedOut) || os::monotonic_ns() >= due {
                return event;
            }
            match self.node.look(instance, self.asked(), &mut look) {
                Some(Aside::Short) if self.has_passed => {}
                Some(aside) => return Event::Aside(aside),
                None => {}
            }
        }
    }

    fn asked(&self) -> Asked {
        Asked { bytes: self.call.len(), passes: self.passes }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.function.timeout_s.into())
    }

    /// How long an answer is waited for. An engine keeps its runs' deadlines itself, and others may come first there.
    fn patience(&self) -> Duration {
        if self.function.kind.is_pure() { self.timeout() + QUEUE_MAX } else { self.timeout() }
    }

    /// What accompanies the event; the invocation's time counts from `since`.
    fn head(&self, since: u64) -> Vec<u8> {
        let invoked_arn = &self.call.invoked_arn;
        let head = Invocation {
            deadline_unix_ms: since + self.timeout().as_millis() as u64,
            request_id: &self.call.request_id,
            function_arn: if invoked_arn.is_empty() { &self.function.arn } else { invoked_arn },
            trace_id: &self.call.trace_id,
            client_context: &self.call.client_context,
            cognito_identity: &self.call.cognito_identity,
            tenant_id: &self.call.tenant_id,
        };
        head.encode()
    }

    fn announce(&mut self, instance: &mut Instance) {
        if !std::mem::replace(&mut self.announced, true) {
            match self.function.kind.is_pure() {
                true => instance.journal.start_ahead(&self.function),
                false => instance.journal.note(lines::start(&self.function, &self.call.request_id)),
            }
        }
    }

    /// It goes to another engine.
    fn pass(&mut self, aside: Aside) -> Attempt {
        self.passes = aside == Aside::Short;
        self.has_passed |= self.passes;
        // What was to come first in its log comes first in the next one's.
        self.announced = false;
        Attempt::Again
    }

    /// What became of the request.
    async fn settle(&mut self, mut lease: Lease, event: Event, mut answer: Answer) -> Attempt {
        if let Event::Aside(aside) = event {
            return self.pass(aside);
        }
        let instance = &lease.instance;
        let untouched = !self.reception.is_open() && !instance.has_taken_request();
        if untouched && answer.start == StartKind::Warm && matches!(event, Event::Departed(_)) {
            // It was about to end when it was chosen, as others may be; there are only so many of them.
            return Attempt::Again;
        }
        let may_repeat = !std::mem::replace(&mut self.last, true);
        let untouched = may_repeat && untouched;
        let id = &self.call.request_id;
        let (body, sound) = match event {
            Event::Replied { body, tail, failed, served, ran } => {
                self.tail = tail;
                (self.spans.begun, self.spans.ended) = (served.begun, served.ended);
                if self.function.kind.is_pure() {
                    self.ran = ran;
                    lease.instance.ran.took = served.ended.saturating_sub(served.begun);
                    lease.instance.asked = self.call.len();
                }
                (self.replied(body, failed, answer.limit), true)
            }
            Event::Cancelled => (Err(Failure::cancelled(id)), false),
            Event::TooLarge => (Err(Failure::response_too_large(self.node.config.response_max)), true),
            Event::InitFailed(body) => (Err(Failure::told(super::counters::Fault::Init, body)), false),
            Event::TimedOut => (Err(Failure::timed_out(id, answer.limit)), false),
            Event::LogLimit => (Err(Failure::log_limit(id, self.node.config.log_max_mib)), false),
            Event::Departed(_) if untouched => return Attempt::Again,
            Event::NotEntered { .. } if may_repeat => return Attempt::Again,
            Event::Departed(Departure::Ended { end, .. }) if self.function.kind.is_pure() && end != End::Lost => {
                self.ran.cause = Cause::Ended;
                (Err(Failure::engine_ended(id, end)), false)
            }
            Event::Departed(Departure::Ended { end: End::Lost, .. }) => {
                return Attempt::Done(Err(PlatformError::WorkerLost.into()));
            }
            Event::Departed(Departure::Ended { end, .. }) => (Err(Failure::ended(id, end)), false),
            Event::Departed(Departure::NotSpawned { reason }) => {
                return Attempt::Done(Err(PlatformError::NotStarted { reason }.into()));
            }
            Event::NotEntered { step, error } => {
                let reason = format!("it could not {step}: {error}");
                return Attempt::Done(Err(PlatformError::NotStarted { reason }.into()));
            }
            // What is out of its turn, or stages' only.
            _ => (Err(Failure::broken(id)), false),
        };
        answer.body = body;
        self.conclude(lease, sound, answer).await
    }

    /// What its own word for its answer is worth.
    fn replied(&mut self, body: Bytes, failed: bool, limit: Duration) -> Result<Bytes, Failure> {
        if failed && self.function.kind.is_pure() {
            return Err(Failure::of_a_run(self.ran.cause, &self.call.request_id, limit, body));
        }
        if failed {
            return Err(Failure::told(super::counters::Fault::Unhandled, body));
        }
        match self.reception.excess() {
            Some(limit) => Err(Failure::response_too_large(limit)),
            None if self.reception.is_open() => Ok(self.reception.collected()),
            None => Ok(body),
        }
    }

    /// Reports, bills, and lets go of the instance, which may serve others if it is `sound`.
    async fn conclude(&mut self, mut lease: Lease, mut sound: bool, mut answer: Answer) -> Attempt {
        let received = os::monotonic_ns();
        let instance = &mut *lease.instance;
        instance.clear_deadline();
        if instance.ran.took > 0 && answer.start != StartKind::Cold {
            // By the engine's own account, as far as that is possible.
            let begun = self.spans.begun.clamp(self.sought.min(received), received);
            instance.ran.waited = begun - self.sought.min(begun);
            instance.ran.answered = received - self.spans.ended.clamp(begun, received);
        }
        let is_silent = sound && self.function.kind.is_pure() && !self.ran.printed;
        let within_limit = is_silent || instance.journal.drain().await.is_ok();
        if sound && !within_limit {
            answer.body = Err(Failure::log_limit(&self.call.request_id, self.node.config.log_max_mib));
            sound = false;
        } else if sound && !instance.can_ring().await {
            answer.body = Err(Failure::mute(&self.call.request_id));
            sound = false;
        }
        if !instance.shared.is_spawned() {
            // The answer has overtaken the worker's news of the instance, which says what memory it uses: let it in.
            tokio::task::yield_now().await;
        }
        let duration = Duration::from_nanos(received - answer.begun.min(received));
        let figures = Figures {
            duration,
            billed_ms: billed_ms(duration + answer.init.unwrap_or_default()),
            memory_mib: instance.shared.terms.memory_mib,
            memory_peak: if self.ran.memory > 0 { self.ran.memory } else { instance.shared.memory_peak() },
            init: answer.init,
            produced: match &answer.body {
                Ok(_) if self.reception.is_open() => self.reception.came(),
                Ok(body) => body.len() + self.tail.as_ref().map_or(0, Tail::len),
                Err(failure) => failure.body.len(),
            },
        };
        self.spans.received = received;
        if answer.start == StartKind::Cold {
            let started = instance.started;
            (self.spans.forked, self.spans.entered) = (started.forked, started.entered);
            self.spans.loaded = started.loaded;
        }
        if let Err(failure) = &answer.body
            && answer.start == StartKind::Cold
            && answer.init.is_none()
        {
            instance.journal.note(lines::init_failed(&self.function, duration, failure));
        }
        if !is_silent || answer.body.is_err() || self.call.log_tail {
            let end = lines::end(&self.function, &self.call.request_id, &figures, answer.body.as_ref().err());
            instance.journal.note(end);
        }
        let log_tail = instance.journal.end();
        let (id, terms) = (instance.shared.id, instance.shared.terms);
        (instance.has_served, instance.took) = (true, figures.duration.as_nanos() as u64);
        if sound && self.function.isolation == Isolation::Instance {
            lease.give_back();
        } else {
            drop(lease);
        }
        Attempt::Done(Ok(self.outcome((id, terms), &figures, answer, log_tail)))
    }

    fn outcome(
        &mut self,
        (instance, terms): (u64, Terms),
        figures: &Figures,
        answer: Answer,
        log_tail: Option<Vec<u8>>,
    ) -> Outcome {
        let fault = answer.body.as_ref().err().map(|failure| failure.fault);
        self.admission.meter().counters.invocation(answer.start, figures.duration, fault);
        self.node.bills.record(Bill {
            function: self.function.key.clone(),
            request_id: self.call.request_id.clone(),
            start: answer.start,
            at_unix_ms: api::time::now_ms(),
            duration: figures.duration,
            billed_ms: figures.billed_ms,
            pu: terms.pu,
            price: terms.price,
            memory_mib: figures.memory_mib,
            memory_peak: figures.memory_peak,
            init: figures.init,
            failed: fault.is_some(),
        });
        trace::stops(&self.spans, &self.function, instance, &self.call.request_id);
        let report = Report {
            start: answer.start,
            instance,
            pu: terms.pu,
            duration: figures.duration,
            billed_ms: figures.billed_ms,
            init: figures.init,
            memory_peak: figures.memory_peak,
            remembered: false,
            cause: self.ran.cause,
            spans: self.spans,
        };
        let tail = self.tail.take().filter(|_| fault.is_none());
        let body = answer.body.unwrap_or_else(|failure| failure.body);
        Outcome { body, tail, failed: fault.is_some(), log_tail, report }
    }
}
