//! One request through a chain, from its admission to its bills.
//!
//! ```text
//!  admit ─► a set: taken, built or waited for ─► the first stage's channel ┄┄► whoever answers ─► conclude ─► outcome
//!    │                      ▲                                   │
//!  refused                  ╰── once more, where nothing has run ╯
//! ```

use super::super::call::{Call, InvokeError, PlatformError, StartKind};
use super::super::counters::Fault;
use super::super::failure::Failure;
use super::super::instance::Event;
use super::super::lines::{self, Figures};
use super::super::node::Meter;
use super::super::reception::Reception;
use super::super::shared::Departure;
use super::super::ticket::Admission;
use super::super::{Dispatcher, trace};
use super::account;
use super::set::Set;
use super::sets::{self, Held, Step};
use super::{CONTEXT_MAX, Flow, FlowOutcome, FlowSpans, Refusal, StageReport};
use crate::billing::{Bill, billed_ms};
use crate::dispatch::call::Spans;
use bytes::Bytes;
use cfork::invocation::{Invocation, Served};
use sandbox::spec::End;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// For how long a request waits for a set.
const QUEUE_MAX: Duration = Duration::from_secs(60);
/// For how long the end of a stage is waited for whose neighbour cannot reach it: the neighbour may know first.
const DEATH_KNELL: Duration = Duration::from_millis(5);
/// Requests are sent anew so often, of which no stage has seen anything.
const ATTEMPTS: usize = 5;

/// A place among a function's invocations in flight, of a stage beside the first.
struct Share(Arc<Meter>);

impl Share {
    fn new(meter: Arc<Meter>) -> Self {
        meter.in_flight.fetch_add(1, Relaxed);
        Self(meter)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// What a request holds while it is served: it counts once on the node, and once for each of its functions.
struct Admitted {
    _node: Admission,
    _shares: Vec<Share>,
    /// By stage.
    meters: Vec<Arc<Meter>>,
}

struct Course {
    node: Arc<Dispatcher>,
    flow: Arc<Flow>,
    call: Call,
    admitted: Admitted,
    spans: FlowSpans,
}

/// How a request has come to its end.
struct Finish {
    /// At which stage.
    at: usize,
    body: Result<Bytes, Failure>,
    /// When its handler ran, as it says.
    served: Option<Served>,
    /// Whether the set may serve others.
    sound: bool,
}

/// What came of one attempt.
enum Attempt {
    Done(Result<FlowOutcome, InvokeError>),
    /// No stage has done anything with the request.
    Again,
}

/// Runs a request through a chain.
pub(super) async fn run(node: Arc<Dispatcher>, flow: Arc<Flow>, call: Call) -> Result<FlowOutcome, InvokeError> {
    let accepted = if call.accepted > 0 { call.accepted } else { os::monotonic_ns() };
    let admitted = admit(&node, &flow, &call)?;
    let spans = FlowSpans { accepted, ..FlowSpans::default() };
    let mut course = Course { node, flow, call, admitted, spans };
    for _ in 0..ATTEMPTS {
        let (held, start) = match course.seek().await {
            Ok(found) => found,
            Err(Refusal::Platform(error)) => return course.refused(error),
            Err(Refusal::Stage { at, body }) => return Ok(course.unloadable(at, body)),
        };
        match course.attempt(held, start).await {
            Attempt::Done(Err(error)) => return course.refused(error),
            Attempt::Done(outcome) => return outcome,
            Attempt::Again => {}
        }
    }
    course.refused(PlatformError::NotStarted { reason: "sets end before they serve".into() }.into())
}

fn admit(node: &Arc<Dispatcher>, flow: &Flow, call: &Call) -> Result<Admitted, InvokeError> {
    let len = call.request_id.len() + call.trace_id.len();
    if len > CONTEXT_MAX {
        return Err(InvokeError::ContextTooLarge { len, limit: CONTEXT_MAX });
    }
    let Some(first) = flow.stages.first() else { return Err(InvokeError::NoWorker) };
    // The request counts on the node as one of the first function's.
    let (admission, meters) =
        node.admit_chain(&first.function, call, flow.stages.iter().map(|stage| &stage.function))?;
    let mut shares: Vec<Share> = Vec::new();
    for meter in meters.iter().skip(1) {
        let counts = |other: &Meter| Arc::ptr_eq(&other.in_flight, &meter.in_flight);
        if !counts(admission.meter()) && !shares.iter().any(|share| counts(&share.0)) {
            shares.push(Share::new(meter.clone()));
        }
    }
    Ok(Admitted { _node: admission, _shares: shares, meters })
}

impl Course {
    /// A set, and where it came from.
    async fn seek(&mut self) -> Result<(Held, StartKind), Refusal> {
        loop {
            let mut held = match sets::acquire(&self.node, &self.flow)? {
                Step::Take(held) => held,
                Step::Wait(granted) => self.wait(granted).await?,
            };
            self.spans.decided = os::monotonic_ns();
            if let Some(set) = held.set()
                && set.is_sound()
            {
                let start = if set.has_served { StartKind::Warm } else { StartKind::Cold };
                return Ok((held, start));
            }
        }
    }

    async fn wait(&self, mut granted: oneshot::Receiver<Result<Held, Refusal>>) -> Result<Held, Refusal> {
        let began = Instant::now();
        loop {
            match tokio::time::timeout(self.node.config.worker_wait(), &mut granted).await {
                Ok(Ok(granted)) => return granted,
                Ok(Err(_)) => return Err(InvokeError::Draining.into()),
                Err(_) if !self.node.worker_ready() => return Err(InvokeError::NoWorker.into()),
                Err(_) if began.elapsed() >= QUEUE_MAX => return Err(PlatformError::Overdue(QUEUE_MAX).into()),
                Err(_) => {}
            }
        }
    }

    async fn attempt(&mut self, mut held: Held, start: StartKind) -> Attempt {
        let Some(set) = held.set() else { return Attempt::Again };
        let id = self.call.request_id.clone();
        for (instance, stage) in set.instances().zip(&self.flow.stages) {
            instance.journal.begin(&id, false);
            instance.journal.start_ahead(&stage.function);
        }
        let sent = os::monotonic_ns();
        let limit = self.flow.timeout;
        let first = set.instance(0);
        if first.send(&self.head(), self.call.parts()).is_err() {
            let body = Err(Failure::broken(&id));
            let finish = Finish { at: 0, body, served: None, sound: false };
            return self.conclude(held, start, sent, Vec::new(), finish).await;
        }
        first.set_deadline(sent + limit.as_nanos() as u64);
        let mut served: Vec<Option<Served>> = vec![None; set.len()];
        let (at, event) = self.follow(set, &mut served).await;
        if !set.instance(0).has_taken_request() && matches!(event, Event::Departed(_)) && start == StartKind::Warm {
            return Attempt::Again;
        }
        match self.judge(at, event) {
            Ok(finish) => self.conclude(held, start, sent, served, finish).await,
            Err(error) => Attempt::Done(Err(error)),
        }
    }

    /// What accompanies the event from stage to stage; each of them puts its own function in.
    fn head(&self) -> Vec<u8> {
        let head = Invocation {
            deadline_unix_ms: api::time::now_ms() + self.flow.timeout.as_millis() as u64,
            request_id: &self.call.request_id,
            trace_id: &self.call.trace_id,
            ..Invocation::default()
        };
        head.encode()
    }

    /// Hears the stages out until the request has come to its end: at which stage, and how.
    async fn follow(&self, set: &mut Set, served: &mut [Option<Served>]) -> (usize, Event) {
        let last = served.len() - 1;
        let mut reception = Reception::whole(self.node.config.response_max);
        loop {
            let (at, event) = match set.next().await {
                (at, Event::Passed(when)) if at < last && served[at].is_none() => {
                    served[at] = Some(when);
                    continue;
                }
                (at, Event::Opened { content_type, part }) if at == last => {
                    reception.open(content_type);
                    reception.take(part).await;
                    continue;
                }
                (at, Event::Part(part)) if at == last => {
                    reception.take(part).await;
                    continue;
                }
                (at, Event::Replied { body, tail, failed: false, served, ran })
                    if at == last && reception.is_open() =>
                {
                    reception.take(body).await;
                    let whole = match reception.excess() {
                        Some(_) => Event::TooLarge,
                        None => Event::Replied { body: reception.collected(), tail, failed: false, served, ran },
                    };
                    (at, whole)
                }
                (at, Event::Replied { failed: false, .. }) if at < last => (at, Event::Broken),
                (at, Event::Unchained { reason, after }) => death(set, at + usize::from(after), reason).await,
                other => other,
            };
            set.passed(served);
            let reached = served.iter().take_while(|served| served.is_some()).count().min(last);
            return match event {
                // The clock looks at the first stage for all of them.
                Event::TimedOut => (reached, Event::TimedOut),
                event => (at, event),
            };
        }
    }

    /// What an event means for the request.
    fn judge(&self, at: usize, event: Event) -> Result<Finish, InvokeError> {
        let id = &self.call.request_id;
        let (body, served, sound) = match event {
            Event::Replied { body, failed: false, served, .. } => (Ok(body), Some(served), true),
            Event::Replied { body, failed: true, served, .. } => {
                (Err(Failure::told(Fault::Unhandled, body)), Some(served), true)
            }
            Event::TooLarge => (Err(Failure::response_too_large(self.node.config.response_max)), None, true),
            Event::TimedOut => (Err(Failure::timed_out(id, self.flow.timeout)), None, false),
            Event::LogLimit => (Err(Failure::log_limit(id, self.node.config.log_max_mib)), None, false),
            Event::Departed(Departure::Ended { end: End::Lost, .. }) => return Err(PlatformError::WorkerLost.into()),
            Event::Departed(Departure::Ended { end, .. }) => (Err(Failure::ended(id, end)), None, false),
            Event::Departed(Departure::NotSpawned { reason }) => {
                return Err(PlatformError::NotStarted { reason }.into());
            }
            Event::Unchained { reason, .. } => (Err(Failure::unreachable(id, &reason)), None, false),
            _ => (Err(Failure::broken(id)), None, false),
        };
        Ok(Finish { at, body, served, sound })
    }

    /// Reports, bills, and lets go of the set.
    async fn conclude(
        &mut self,
        mut held: Held,
        start: StartKind,
        sent: u64,
        mut served: Vec<Option<Served>>,
        mut finish: Finish,
    ) -> Attempt {
        let received = os::monotonic_ns();
        self.spans.received = received;
        let Some(set) = held.set() else { return Attempt::Again };
        set.instance(0).clear_deadline();
        served.resize(finish.at + 1, None);
        set.owe(&served[..finish.at]);
        served[finish.at] = finish.served;
        let durations = account::durations(sent, received, &served);
        for at in 0..=finish.at {
            if set.instance(at).journal.drain().await.is_err() && finish.sound {
                let body = Err(Failure::log_limit(&self.call.request_id, self.node.config.log_max_mib));
                finish = Finish { at, body, served: None, sound: false };
                break;
            }
        }
        let mut stages = Vec::with_capacity(durations.len());
        for (at, duration) in durations.into_iter().enumerate() {
            let failure = finish.body.as_ref().err().filter(|_| at == finish.at);
            let produced = finish.body.as_ref().map_or(0, Bytes::len) * usize::from(at == finish.at);
            stages.push(self.report(set, (at, start), duration, served[at].unwrap_or_default(), produced, failure));
        }
        set.has_served = true;
        let again = finish.sound && set.lasts();
        if again {
            held.give_back();
        } else {
            drop(held);
        }
        Attempt::Done(Ok(self.outcome(start, stages, finish)))
    }

    /// The end of one stage: its lines, its bill.
    fn report(
        &self,
        set: &mut Set,
        (at, start): (usize, StartKind),
        duration: Duration,
        served: Served,
        produced: usize,
        failure: Option<&Failure>,
    ) -> StageReport {
        let function = &self.flow.stages[at].function;
        let instance = set.instance(at);
        let memory_peak = instance.shared.memory_peak();
        let billed_ms = billed_ms(duration);
        let terms = instance.shared.terms;
        let memory_mib = terms.memory_mib;
        let figures = Figures { duration, billed_ms, memory_mib, memory_peak, init: None, produced };
        instance.journal.note(lines::end(function, &self.call.request_id, &figures, failure));
        drop(instance.journal.end());
        let fault = failure.map(|failure| failure.fault);
        self.admitted.meters[at].counters.invocation(start, duration, fault);
        self.node.bills.record(Bill {
            function: function.key.clone(),
            request_id: self.call.request_id.clone(),
            start,
            at_unix_ms: api::time::now_ms(),
            duration,
            billed_ms,
            pu: terms.pu,
            price: terms.price,
            memory_mib,
            memory_peak,
            init: None,
            failed: fault.is_some(),
        });
        let Served { begun, ended } = served;
        let id = instance.shared.id;
        trace::stops(&Spans { begun, ended, ..Spans::default() }, function, id, &self.call.request_id);
        StageReport { instance: id, pu: terms.pu, begun, ended, duration, billed_ms }
    }

    fn outcome(&self, start: StartKind, stages: Vec<StageReport>, finish: Finish) -> FlowOutcome {
        let (body, failed) = match finish.body {
            Ok(body) => (body, None),
            Err(failure) => (failure.body, Some(finish.at)),
        };
        FlowOutcome { body, failed, stages, start, spans: self.spans }
    }

    /// A stage cannot be loaded, so nothing has run.
    fn unloadable(&self, at: usize, body: Bytes) -> FlowOutcome {
        self.admitted.meters[at].counters.invocation(StartKind::Cold, Duration::ZERO, Some(Fault::Init));
        FlowOutcome { body, failed: Some(at), stages: Vec::new(), start: StartKind::Cold, spans: self.spans }
    }

    fn refused(&self, error: InvokeError) -> Result<FlowOutcome, InvokeError> {
        self.admitted.meters[0].counters.platform_error();
        Err(error)
    }
}

/// A stage is out of reach: it has ended, as a rule, and how is about to be known.
async fn death(set: &mut Set, at: usize, reason: String) -> (usize, Event) {
    let departed = async {
        loop {
            if let (at, event @ (Event::Departed(_) | Event::TimedOut)) = set.next().await {
                return (at, event);
            }
        }
    };
    match tokio::time::timeout(DEATH_KNELL, departed).await {
        Ok(known) => known,
        Err(_) => (at.min(set.len() - 1), Event::Unchained { reason, after: false }),
    }
}
