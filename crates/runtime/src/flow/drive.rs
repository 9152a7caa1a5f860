//! Carries out a plan: its shards beside each other in one task, their outcomes as its events, until it is over.

use super::abreast::Abreast;
use super::datum::{Datum, Full, Memory, Purse, inline};
use super::keeping::Keeping;
use super::run::Run;
use super::shard::{Made, Perform, Unmade, Work, object, whole};
use super::{Order, RunError};
use crate::dispatch::{Hold, Payload};
use bytes::Bytes;
use flow::Program;
use flow::graph::{AppId, GraphId};
use flow::plan::{Abort, Action, Bounds, Event, Plan, Shard, ShardId};
use sets::{Set, Sets};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::Instant;

/// What a function has done that was run again.
const DIFFERS: &str = "an engine has ended with items that this function had left, and when it was run again it left items of \
                       other names or keys: run the flow again, and have these depend on the function's inputs alone";

/// A shard that runs, and when it had begun.
struct Going {
    shard: ShardId,
    place: (GraphId, AppId),
    begun: u64,
}

pub(super) struct Drive {
    pub run: Arc<Run>,
    pub program: Arc<Program>,
    pub performer: Arc<dyn Perform>,
    pub purse: Purse,
    pub keeping: Keeping,
    pub bounds: Bounds,
    pub order: Order,
    pub deadline: Instant,
}

impl Drive {
    /// Dropping it ends what runs.
    pub async fn run(self, inputs: Sets<Bytes>) -> Result<Sets<Bytes>, RunError> {
        let inputs = self.purse.hold_all(inline(inputs), None).map_err(|full| self.full(full))?;
        let mut actions = Vec::new();
        let again = |function: &str| self.performer.may_repeat(function);
        let mut plan = Plan::start(self.program.clone(), self.bounds, again, inputs, &mut actions)?;
        let (mut shards, mut blame) = (Abreast::new(), BTreeMap::new());
        let mut memory = Memory::of(&self.purse);
        let timeout = tokio::time::sleep_until(self.deadline);
        let cancelled = self.run.cancelled();
        tokio::pin!(timeout, cancelled);
        loop {
            for action in actions.drain(..) {
                match action {
                    Action::Run(shard) => self.begin(shard, &mut shards),
                    Action::Done(outputs) => {
                        return whole(outputs).map_err(RunError::Failed);
                    }
                    Action::Abort(why) => return Err(self.aborted(why, &mut blame)),
                }
            }
            let event = tokio::select! {
                biased;
                () = &mut cancelled => Event::Cancel,
                () = &mut timeout => return Err(RunError::Timeout),
                // A plan that is not over has something running.
                (going, made) = poll_fn(|cx| shards.poll_next(cx)) => {
                    self.remember(&made, &mut plan, &mut memory);
                    self.end(going, made, &mut blame)?
                }
            };
            plan.step(event, &mut actions);
        }
    }

    fn begin(&self, shard: Shard<Datum>, shards: &mut Abreast<Going, Made>) {
        let (id, place) = (shard.id, (shard.graph, shard.app));
        let app = &self.program.graphs[shard.graph].apps[shard.app];
        let flow::graph::Target::Function(function) = &app.target else { return };
        let inputs = app.ports.iter().zip(shard.inputs);
        let inputs = inputs.map(|(port, items)| Set::new(port.parameter.clone(), items));
        let hold = self.keeping.get(shard.graph, shard.app).cloned();
        hold.iter().for_each(Hold::begin);
        let work = Work {
            function: function.clone(),
            inputs: inputs.collect(),
            results: app.outputs.iter().map(|(result, _)| result.clone()).collect(),
            request_id: request_id(&self.order.id, id),
            trace_id: self.order.trace_id.clone(),
            deadline: self.deadline,
            hold,
        };
        self.run.shard_begins(place);
        let begun = os::monotonic_ns();
        let made = self.performer.perform(work);
        shards.start(Going { shard: id, place, begun }, made);
    }

    /// How items were made is remembered as long as that leaves room for what comes.
    fn remember(&self, made: &Made, plan: &mut Plan<Datum>, memory: &mut Memory) {
        let sets = made.iter().flatten();
        let bytes = sets.flat_map(|set| &set.items).map(|item| item.data.len()).sum();
        if !memory.take(plan.remembered(), bytes) {
            plan.forget();
        }
    }

    fn end(&self, going: Going, made: Made, blame: &mut BTreeMap<ShardId, Bytes>) -> Result<Event<Datum>, RunError> {
        let Going { shard, place, begun } = going;
        match &made {
            Err(Unmade::Interrupted { .. }) => self.run.shard_is_interrupted(place),
            made => self.run.shard_ends(place, begun, made.is_err()),
        }
        // Asked for at once if at all: the failure of another shard is not this one's.
        blame.clear();
        let mut reported = |error: Bytes| {
            let report = self.purse.hold(error.clone()).map_err(|full| self.full(full));
            blame.insert(shard, self.located(place, shard, error));
            report
        };
        match made {
            Ok(outputs) => {
                let app = &self.program.graphs[place.0].apps[place.1];
                let taken = |set: &Set<Payload>| app.outputs.iter().any(|(result, _)| *result == set.name);
                let hold = self.keeping.get(place.0, place.1);
                let (outputs, others): (Sets<_>, Sets<_>) = outputs.into_iter().partition(taken);
                hold.iter().for_each(|hold| hold.holding.give_up_all(&others));
                let outputs = self.purse.hold_all(outputs, hold.map(|hold| &hold.holding));
                let outputs = outputs.map_err(|full| self.full(full))?;
                // From now on what it has left is given up with what stands for it.
                hold.iter().for_each(|hold| hold.heard());
                Ok(Event::Finished { shard, outputs })
            }
            Err(Unmade::Failed(error)) => Ok(Event::Failed { shard, report: reported(error)? }),
            Err(Unmade::Interrupted { lost, error }) => {
                // It has left nothing, or its engine has gone with what it left.
                self.keeping.get(place.0, place.1).iter().for_each(|hold| hold.heard());
                Ok(Event::Interrupted { shard, lost, report: reported(error)? })
            }
        }
    }

    fn aborted(&self, why: Abort, blame: &mut BTreeMap<ShardId, Bytes>) -> RunError {
        match why {
            Abort::Failed(shard) => RunError::Failed(blame.remove(&shard).unwrap_or_else(|| object("Flow.Failed", ""))),
            Abort::Differs(shard, place) => {
                RunError::Failed(self.located(place, shard, object("Flow.Differs", DIFFERS)))
            }
            Abort::Cancelled => RunError::Cancelled,
            Abort::TooMany => RunError::TooMany(self.bounds.shards),
        }
    }

    /// An error object, with where in the flow it comes from.
    fn located(&self, (graph, app): (GraphId, AppId), shard: ShardId, error: Bytes) -> Bytes {
        let app = &self.program.graphs[graph].apps[app];
        let Ok(mut said) = serde_json::from_slice::<serde_json::Map<_, _>>(&error) else { return error };
        said.insert("application".to_owned(), app.label.as_str().into());
        said.insert("line".to_owned(), app.line.into());
        said.insert("shard".to_owned(), shard.into());
        serde_json::to_vec(&said).map_or(error, Bytes::from)
    }

    fn full(&self, full: Full) -> RunError {
        match full {
            Full::Run => RunError::TooMuch(self.purse.run.limit()),
            Full::Node => RunError::NodeFull(self.purse.node.limit()),
        }
    }
}

/// The run's id, its last group the shard's number: unique, and told apart at a glance.
fn request_id(run: &str, shard: ShardId) -> String {
    match run.get(..24) {
        Some(head) if run.len() == 36 => format!("{head}{shard:012x}"),
        _ => format!("{run}-{shard:x}"),
    }
}
