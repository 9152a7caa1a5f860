//! How a set comes to be: an instance for each stage, all at once, and then the steps by which they find each other
//! (`cfork::chain`).

use super::super::call::PlatformError;
use super::super::instance::Event;
use super::super::node::{Asked, Step};
use super::super::shared::Departure;
use super::super::ticket::{Grant, Lease, Ticket};
use super::super::{Dispatcher, HEAD_OVERHEAD, InvokeError, failure::Failure, invoke};
use super::set::Set;
use super::{CONTEXT_MAX, Flow, Refusal};
use crate::function::Function;
use cfork::chain::{Order, PARCEL_OVERHEAD, Place};
use std::sync::Arc;
use tokio::task::JoinSet;

/// How often an instance is sought for a stage.
const ATTEMPTS: usize = 3;

/// Why a stage has no instance.
enum Unmanned {
    Platform(InvokeError),
    /// Its function cannot be loaded: its error object.
    Unloadable(bytes::Bytes),
}

impl From<PlatformError> for Unmanned {
    fn from(error: PlatformError) -> Self {
        Self::Platform(error.into())
    }
}

impl From<InvokeError> for Unmanned {
    fn from(error: InvokeError) -> Self {
        Self::Platform(error)
    }
}

/// Builds a set. What was begun of it ends when it cannot be.
pub(super) async fn build(node: &Arc<Dispatcher>, flow: &Arc<Flow>) -> Result<Set, Refusal> {
    let mut manning = JoinSet::new();
    for (at, stage) in flow.stages.iter().enumerate() {
        let (its, function) = (node.clone(), stage.function.clone());
        manning.spawn_on(async move { (at, man(&its, &function).await) }, &node.runtime);
    }
    let mut leases: Vec<Option<Lease>> = flow.stages.iter().map(|_| None).collect();
    while let Some(manned) = manning.join_next().await {
        // The runtime shuts down.
        let Ok((at, manned)) = manned else { return Err(InvokeError::Draining.into()) };
        match manned {
            Ok(lease) => leases[at] = Some(lease),
            Err(Unmanned::Platform(error)) => return Err(error.into()),
            Err(Unmanned::Unloadable(body)) => return Err(Refusal::Stage { at, body }),
        }
    }
    let mut set = Set::new(flow.clone(), leases.into_iter().flatten().collect());
    connect(node, &mut set).await?;
    Ok(set)
}

/// An instance for a stage, as any request gets one, with its function loaded.
async fn man(node: &Arc<Dispatcher>, function: &Arc<Function>) -> Result<Lease, Unmanned> {
    for _ in 0..ATTEMPTS {
        let grant = match node.acquire(function, Asked::default())? {
            Step::Take(instance) => Grant::Instance(Lease::new(node.clone(), instance)),
            Step::Start(permit) => Grant::Start(Ticket::new(node.clone(), permit)),
            Step::Wait(granted) => invoke::wait(node, function, granted).await?,
        };
        match grant {
            Grant::Never { reason } => return Err(PlatformError::NoTemplate { reason }.into()),
            Grant::Instance(mut lease) => {
                if lease.instance.is_sound() {
                    return Ok(lease);
                }
            }
            Grant::Start(ticket) => {
                if let Some(lease) = start(node, ticket, function).await? {
                    return Ok(lease);
                }
            }
        }
    }
    Err(PlatformError::NotStarted { reason: "its instances end before they serve".into() }.into())
}

/// Starts an instance. Nothing where another attempt may fare better.
async fn start(node: &Arc<Dispatcher>, mut ticket: Ticket, function: &Function) -> Result<Option<Lease>, Unmanned> {
    let mut instance = node.start(&mut ticket, None)?;
    let limit = node.config.init_timeout().max(std::time::Duration::from_secs(function.timeout_s.into()));
    instance.set_deadline(os::monotonic_ns() + limit.as_nanos() as u64);
    let event = instance.next().await;
    instance.clear_deadline();
    // What it prints while it loads belongs to no request, and to its log all the same.
    let printed = instance.journal.drain().await;
    let failure = match event {
        Event::Ready if printed.is_ok() => return Ok(Some(ticket.into_lease(instance))),
        Event::InitFailed(body) => return Err(Unmanned::Unloadable(body)),
        Event::NotEntered { .. } | Event::Departed(Departure::NotSpawned { .. }) => return Ok(None),
        Event::TimedOut => Failure::timed_out("", limit),
        Event::Departed(Departure::Ended { end, .. }) => Failure::ended("", end),
        _ => Failure::broken(""),
    };
    Err(Unmanned::Unloadable(failure.body))
}

/// Has the instances attach to their shims and find each other.
async fn connect(node: &Dispatcher, set: &mut Set) -> Result<(), Refusal> {
    let flow = set.flow.clone();
    let parcel_max = (PARCEL_OVERHEAD + HEAD_OVERHEAD + CONTEXT_MAX + node.config.response_max) as u64;
    let attach = |at: usize| Order::Attach { function_arn: &flow.stages[at].arn, has_input: at > 0, parcel_max };
    let places = step(node, set, 0, attach).await?;
    step(node, set, 1, |at| Order::Admit { writer: places[at - 1].process }).await?;
    step(node, set, 0, |at| Order::Begin { output: places.get(at + 1).map_or(0, |next| next.input) }).await?;
    Ok(())
}

/// Gives all stages from `first` on their orders, and waits until all have followed them.
async fn step<'a>(
    node: &Dispatcher,
    set: &mut Set,
    first: usize,
    order: impl Fn(usize) -> Order<'a>,
) -> Result<Vec<Place>, Refusal> {
    let due = os::monotonic_ns() + node.config.init_timeout().as_nanos() as u64;
    for at in first..set.len() {
        if set.instance(at).order(&order(at)).is_err() {
            return Err(refused(set, at, "it has broken its channel".into()));
        }
    }
    let mut places = vec![Place::default(); set.len()];
    for (at, place) in places.iter_mut().enumerate().skip(first) {
        let instance = set.instance(at);
        instance.set_deadline(due);
        let event = instance.next().await;
        instance.clear_deadline();
        *place = match event {
            Event::Chained(place) => place,
            event => return Err(refused(set, at, why(event))),
        };
    }
    Ok(places)
}

fn why(event: Event) -> String {
    match event {
        Event::Unchained { reason, .. } => reason,
        Event::TimedOut => "it does not answer".into(),
        Event::Departed(_) => "its instance has ended".into(),
        _ => "it says what makes no sense".into(),
    }
}

fn refused(set: &Set, at: usize, reason: String) -> Refusal {
    let function = set.flow.stages[at].arn.clone();
    PlatformError::NotChained { stage: at + 1, function, reason }.into()
}
