//! What a node looks like at a moment: for `ls`, `top`, `/v1` and `/metrics`.

use super::counters::Tally;
pub use super::engines::EngineState;
use super::node::State;
use super::orders::Ways;
use super::post::Post;
use super::pu::{Pu, Worker};
use crate::function::FunctionKey;
use crate::templates::{Phase, Seat};
use sandbox::spec::{Kind, Network};

/// The whole node.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// By their numbers; the host itself is the first.
    pub pus: Vec<PuState>,
    pub draining: bool,
    /// Invocations that are running or waiting for an instance.
    pub in_flight: u32,
    /// The node's limit of them.
    pub concurrency: u32,
    /// Instances being started.
    pub starting: u32,
    /// Sorted by key.
    pub functions: Vec<FunctionState>,
    pub templates: Vec<TemplateState>,
    /// Those that run pure functions.
    pub engines: Vec<EngineState>,
}

/// One PU, and its worker as far as that has said.
#[derive(Clone, Debug)]
pub struct PuState {
    pub spec: daemon::pu::Pu,
    pub ready: bool,
    /// What it runs.
    pub kinds: Vec<Kind>,
    /// What it cannot enforce there, as sentences.
    pub missing: Vec<String>,
    /// How often its worker has been lost.
    pub losses: u64,
    /// Instances being started.
    pub starting: u32,
    /// Instances that are there, those included that wait or are ending.
    pub instances: u32,
    /// Those that wait.
    pub waiting: u32,
    /// MiB that they may use, all together.
    pub reserved_mib: u64,
    /// Templates that are ready.
    pub templates: u32,
    /// How its worker was ordered to start instances, since it is there.
    pub ordered: Ways,
}

/// One function in one of its revisions.
#[derive(Clone, Debug)]
pub struct FunctionState {
    pub key: FunctionKey,
    pub revision: String,
    /// Replaced by a newer revision, or withdrawn: ends with its last instance.
    pub closed: bool,
    /// Instances that have served and wait.
    pub idle: u32,
    /// Instances that have served nobody yet and wait.
    pub stems: u32,
    pub busy: u32,
    pub starting: u32,
    /// Requests that wait for an instance.
    pub queued: u32,
    /// Over all revisions of the function, since the node's start.
    pub tally: Tally,
}

/// One template.
#[derive(Clone, Debug)]
pub struct TemplateState {
    /// The number of its PU.
    pub pu: u8,
    pub kind: Kind,
    pub network: Network,
    /// The function of a dedicated template.
    pub function: Option<FunctionKey>,
    pub phase: TemplatePhase,
}

/// How far a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePhase {
    /// Wanted, but others are prepared first.
    Waiting,
    Preparing,
    /// `prepare_us` microseconds were spent on it.
    Ready {
        prepare_us: u64,
    },
    /// Instances load the function themselves, for this reason.
    Refused {
        reason: String,
    },
}

/// Looks at everything.
pub(super) fn take(state: &State, in_flight: u32, concurrency: u32) -> NodeState {
    let mut functions: Vec<FunctionState> = state.posts.all().map(function).collect();
    functions.sort_by(|a, b| name(&a.key).cmp(&name(&b.key)).then_with(|| a.closed.cmp(&b.closed)));
    NodeState {
        pus: (0u8..).zip(&state.pus).map(|(number, one)| pu(state, number, one)).collect(),
        draining: state.draining,
        in_flight,
        concurrency,
        starting: state.starting(),
        functions,
        templates: templates(state),
        engines: state.engines.states(),
    }
}

fn name(key: &FunctionKey) -> [&str; 4] {
    [&key.account, &key.region, &key.name, &key.version]
}

fn function(post: &Post) -> FunctionState {
    FunctionState {
        key: (*post.function.key).clone(),
        revision: post.function.revision.clone(),
        closed: post.closed,
        idle: post.pool.idle() as u32,
        stems: post.pool.stems() as u32,
        busy: post.pool.busy(),
        starting: post.starting + post.stemming,
        queued: post.pool.queued() as u32,
        tally: post.meter.counters.tally(),
    }
}

fn pu(state: &State, number: u8, pu: &Pu) -> PuState {
    let worker = pu.worker.as_ref();
    let waits = |post: &Post| {
        post.pool.idle_ones().chain(post.pool.stem_ones()).filter(|i| i.shared.terms.pu == number).count()
    };
    PuState {
        spec: pu.spec.clone(),
        ready: worker.is_some_and(|worker| worker.ready),
        kinds: worker.map(Worker::kinds).unwrap_or_default(),
        missing: worker.map(|worker| worker.missing.clone()).unwrap_or_default(),
        losses: pu.losses,
        starting: pu.starting,
        instances: pu.present,
        waiting: state.posts.awake().map(|(_, post)| waits(post) as u32).sum(),
        reserved_mib: pu.reserved_mib(),
        templates: pu.templates.iter().filter(|(_, phase)| matches!(phase, Phase::Ready { .. })).count() as u32,
        ordered: worker.map(|worker| worker.link.orders.ways()).unwrap_or_default(),
    }
}

fn templates(state: &State) -> Vec<TemplateState> {
    let all = (0u8..).zip(&state.pus).flat_map(|(number, pu)| pu.templates.iter().map(move |one| (number, one)));
    all.filter_map(|(number, (seat, phase))| template(state, number, seat, phase)).collect()
}

fn template(state: &State, pu: u8, seat: Seat, phase: &Phase) -> Option<TemplateState> {
    let (kind, network, function) = match seat {
        Seat::Generic(kind, _, network) => (kind, network, None),
        Seat::Dedicated(post) => {
            let function = &state.posts.get(post)?.function;
            (function.kind, function.network, Some((*function.key).clone()))
        }
    };
    let phase = match phase {
        Phase::Waiting { .. } => TemplatePhase::Waiting,
        Phase::Preparing { .. } => TemplatePhase::Preparing,
        Phase::Ready { prepare_us, .. } => TemplatePhase::Ready { prepare_us: *prepare_us },
        Phase::Refused { reason } => TemplatePhase::Refused { reason: reason.clone() },
    };
    Some(TemplateState { pu, kind, network, function, phase })
}
