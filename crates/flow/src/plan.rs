//! A run of a flow: a state machine. Events go in, actions come out; who carries them out is not its business.
//!
//! ```text
//! start ──▶ Run, Run, … ──▶ Finished │ Failed │ Interrupted ──▶ Run, … ──▶ Done
//!                                                   ╰───── Cancel ──▶ Abort
//! ```
//!
//! A shard starts as soon as its own inputs are there. Those nearest to the flow's end come first, so that what lies
//! between functions stays little; flows within the flow are opened only when nothing else can run. Shards are made when
//! there is room for them and not listed ahead.
//!
//! Data is dropped where it is no longer needed: a `D` that stands for something elsewhere lets go of it when dropped.
//! When a plan is over, or itself dropped, it holds nothing.
//!
//! What is elsewhere may be lost there. A plan remembers how it was made, and has it made again where it is still wanted.

mod cross;
mod frame;
mod join;
mod part;
mod past;
mod redo;
mod route;
mod tag;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sets::{Item, Set, Sets};

use crate::graph::{App, AppId, Content, GraphId, OnError, Program, Target};
use cross::Combination;
use frame::{AppState, Frame, FrameId, Parent};
use part::{Lot, Piece};
pub use past::ENDS_MAX;
use past::{Have, Recipes, Tries};
use redo::{Remake, Waiting};
use tag::Tag;

pub type ShardId = u64;

/// The data of an item, or what stands for it.
pub trait Data: Clone + From<Bytes> {
    /// Whether it is elsewhere, and may be lost there.
    fn is_away(&self) -> bool {
        false
    }
}

impl Data for Bytes {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Shards that run at a time.
    pub window: usize,
    /// Parts of sets whose division is the platform's to choose.
    pub spread: usize,
    /// Shards of the whole run, those of flows within it counted as well.
    pub shards: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { window: 64, spread: 4, shards: 1_000_000 }
    }
}

/// One run of one application.
#[derive(Debug)]
pub struct Shard<D> {
    pub id: ShardId,
    pub graph: GraphId,
    pub app: AppId,
    /// In the order of the application's ports.
    pub inputs: Vec<Vec<Item<D>>>,
}

#[derive(Debug)]
pub enum Event<D> {
    /// Sets that the application does not name are dropped.
    Finished {
        shard: ShardId,
        outputs: Sets<D>,
    },
    /// `report` is what the author may have asked to be handed on.
    Failed {
        shard: ShardId,
        report: D,
    },
    /// An engine has ended with the shard, or with these of its inputs, counted through all of them: the shard has not run
    /// then. It is a failure where the shard may not be run again, or was too often.
    Interrupted {
        shard: ShardId,
        lost: Vec<usize>,
        report: D,
    },
    Cancel,
}

#[derive(Debug)]
pub enum Action<D> {
    Run(Shard<D>),
    /// The last action: the flow's outputs, every one of its sets.
    Done(Sets<D>),
    /// The last action: what runs is to be ended, and its outcome is not asked for.
    Abort(Abort),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// The failure of this shard is the flow's.
    Failed(ShardId),
    /// This shard was run again for items that were lost, and has left others.
    Differs(ShardId, (GraphId, AppId)),
    Cancelled,
    /// There are more shards than [`Bounds::shards`].
    TooMany,
}

/// A set was given that the flow does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the flow takes no set '{name}'; it takes: {takes}")]
pub struct UnknownSet {
    pub name: String,
    pub takes: String,
}

#[derive(Debug)]
struct Running<D> {
    /// The number that it had at first.
    origin: ShardId,
    of: (GraphId, AppId),
    /// None: it was done before, and is run for items that were lost.
    toward: Option<Toward>,
    /// Of one that may be run again.
    inputs: Vec<Piece<D>>,
    tries: Tries,
}

/// Where what a shard makes goes.
#[derive(Debug)]
struct Toward {
    frame: FrameId,
    tag: Tag,
    /// What a report is called by, where it is handed on.
    name: Option<String>,
    key: u64,
}

/// Flows wait behind functions; then the deepest first, then the nearest to the end.
type Ready = (bool, Reverse<usize>, Reverse<AppId>, FrameId);

#[derive(Debug)]
pub struct Plan<D> {
    program: Arc<Program>,
    bounds: Bounds,
    frames: Vec<Option<Frame<D>>>,
    free: Vec<FrameId>,
    running: HashMap<ShardId, Running<D>>,
    next: ShardId,
    /// How many numbers were given to shards that had one.
    repeated: u64,
    /// Of each application whether its shards may be run again.
    again: Vec<Vec<bool>>,
    recipes: Recipes<D>,
    /// Shards that were done and run once more, by their first numbers.
    remakes: HashMap<ShardId, Remake<D>>,
    /// Shards whose inputs are being made again, and shards that are to be run as soon as there is room.
    waiting: HashMap<ShardId, Waiting<D>>,
    delayed: VecDeque<Running<D>>,
    /// Applications that may have a shard to run.
    ready: BTreeSet<Ready>,
    /// Sets that have just become complete.
    complete: Vec<(FrameId, usize)>,
    /// Applications that may be done.
    asked: Vec<(FrameId, AppId)>,
    outputs: Vec<Vec<(Tag, Item<Have<D>>)>>,
    over: bool,
}

impl<D: Data> Plan<D> {
    /// A run of the program's main flow. Sets that are not given are empty. `again`: whether a function may be run more than
    /// once for the same shard.
    pub fn start(
        program: Arc<Program>,
        bounds: Bounds,
        again: impl Fn(&str) -> bool,
        inputs: Sets<D>,
        out: &mut Vec<Action<D>>,
    ) -> Result<Self, UnknownSet> {
        let main = program.main();
        for set in &inputs {
            if !main.inputs.iter().any(|(name, _)| *name == set.name) {
                let takes: Vec<&str> = main.inputs.iter().map(|(name, _)| name.as_str()).collect();
                return Err(UnknownSet { name: set.name.clone(), takes: takes.join(", ") });
            }
        }
        let outputs = main.outputs.iter().map(|_| Vec::new()).collect();
        let graph = program.graphs.len() - 1;
        let again = |app: &App| matches!(&app.target, Target::Function(name) if again(name));
        let again = program.graphs.iter().map(|graph| graph.apps.iter().map(again).collect()).collect();
        let mut plan = Self {
            program,
            bounds,
            frames: Vec::new(),
            free: Vec::new(),
            running: HashMap::new(),
            next: 0,
            repeated: 0,
            again,
            recipes: Recipes::new(),
            remakes: HashMap::new(),
            waiting: HashMap::new(),
            delayed: VecDeque::new(),
            ready: BTreeSet::new(),
            complete: Vec::new(),
            asked: Vec::new(),
            outputs,
            over: false,
        };
        plan.open(graph, None, inputs.into_iter().map(|set| set.map(Have::Here)).collect());
        plan.pump(out);
        Ok(plan)
    }

    pub fn step(&mut self, event: Event<D>, out: &mut Vec<Action<D>>) {
        if self.over {
            return;
        }
        match event {
            Event::Finished { shard, outputs } => {
                let Some(running) = self.running.remove(&shard) else { return };
                match &running.toward {
                    Some(toward) => self.finished(&running, toward, outputs),
                    None if self.remade(shard, &running, &outputs) => {}
                    None => return self.abort(Abort::Differs(shard, running.of), out),
                }
            }
            Event::Failed { shard, report } => {
                let Some(running) = self.running.remove(&shard) else { return };
                if !self.failed(running, report) {
                    return self.abort(Abort::Failed(shard), out);
                }
            }
            Event::Interrupted { shard, lost, report } => {
                let Some(running) = self.running.remove(&shard) else { return };
                if let Err(running) = self.run_again(shard, running, &lost)
                    && !self.failed(running, report)
                {
                    return self.abort(Abort::Failed(shard), out);
                }
            }
            Event::Cancel => return self.abort(Abort::Cancelled, out),
        }
        self.pump(out);
        self.recipes.sweep();
    }

    fn finished(&mut self, running: &Running<D>, toward: &Toward, outputs: Sets<D>) {
        let (graph, app) = running.of;
        let program = self.program.clone();
        let results = &program.graphs[graph].apps[app].outputs;
        let inputs = &running.inputs;
        let made = self.recipes.note(running.origin, running.of, inputs, results, outputs, running.tries);
        self.hand_on(toward.frame, app, &toward.tag, made);
        self.ended(toward.frame, app);
    }

    /// Whether the flow goes on.
    fn failed(&mut self, running: Running<D>, report: D) -> bool {
        // What others wait for cannot be left out.
        let Some(Toward { frame, tag, name, key }) = running.toward else { return false };
        let (graph, app) = running.of;
        match self.program.graphs[graph].apps[app].on_error {
            OnError::Fail => return false,
            OnError::Skip => {}
            OnError::Into(set) => {
                let name = name.unwrap_or_else(|| "error".to_owned());
                self.deliver(frame, set, &tag, Item { name, key, data: Have::Here(report) });
            }
        }
        self.ended(frame, app);
        true
    }

    /// How much the plan remembers of what has made the items that are elsewhere, and of their inputs: in items.
    pub fn remembered(&self) -> usize {
        self.recipes.len()
    }

    /// Remembers nothing of that any more: what was made so far is not made again.
    pub fn forget(&mut self) {
        self.recipes.clear();
    }

    /// Shards that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    fn ended(&mut self, frame: FrameId, app: AppId) {
        self.app(frame, app).running -= 1;
        self.asked.push((frame, app));
    }

    fn abort(&mut self, why: Abort, out: &mut Vec<Action<D>>) {
        self.clear();
        out.push(Action::Abort(why));
    }

    fn clear(&mut self) {
        self.over = true;
        self.frames.clear();
        self.running.clear();
        self.remakes.clear();
        self.waiting.clear();
        self.delayed.clear();
        self.recipes.clear();
        self.ready.clear();
        self.outputs.clear();
        self.complete.clear();
        self.asked.clear();
    }

    /// Runs what can be run while there is room, and ends what is done.
    fn pump(&mut self, out: &mut Vec<Action<D>>) {
        loop {
            self.settle();
            if self.over || self.frames.first().is_none_or(Option::is_none) {
                return self.finish(out);
            }
            if self.running.len() >= self.bounds.window {
                return;
            }
            if let Some(running) = self.delayed.pop_front() {
                let id = self.next;
                self.next += 1;
                self.repeated += 1;
                self.launch(id, running, out);
                continue;
            }
            if self.running.len() + self.waiting.len() >= self.bounds.window {
                return;
            }
            let Some(ready) = self.ready.first().copied() else { return };
            let (_, _, Reverse(app), frame) = ready;
            let Some(combination) = self.app(frame, app).next() else {
                self.ready.remove(&ready);
                self.asked.push((frame, app));
                continue;
            };
            if self.next - self.repeated >= self.bounds.shards {
                return self.abort(Abort::TooMany, out);
            }
            self.begin(frame, app, combination, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Action<D>>) {
        let names = self.program.main().outputs.iter().map(|(name, _)| name.clone());
        let outputs = names.zip(std::mem::take(&mut self.outputs)).map(|(name, mut items)| {
            items.sort_by(|a, b| a.0.cmp(&b.0));
            let whole = |(_, item): (Tag, Item<Have<D>>)| Some(Item::new(item.name, item.key, item.data.data()?));
            Set { name, items: items.into_iter().filter_map(whole).collect() }
        });
        out.push(Action::Done(outputs.collect()));
        self.clear();
    }

    /// A shard of a function is run by others; one of a flow is a frame.
    fn begin(&mut self, frame: FrameId, app: AppId, combination: Combination<D>, out: &mut Vec<Action<D>>) {
        let id = self.next;
        self.next += 1;
        self.app(frame, app).running += 1;
        let graph = self.graph(frame);
        let program = self.program.clone();
        let shape = &program.graphs[graph].apps[app];
        let Combination { pieces, tag, key } = combination;
        match shape.target {
            Target::Function(_) => {
                let one = pieces.iter().find(|piece| piece.items.len() == 1);
                let name =
                    matches!(shape.on_error, OnError::Into(_)).then(|| one.map(|piece| piece.items[0].name.clone()));
                let toward = Toward { frame, tag, key: key.unwrap_or(0), name: name.flatten() };
                let (of, toward, tries) = ((graph, app), Some(toward), Tries::default());
                self.launch(id, Running { origin: id, of, toward, inputs: pieces, tries }, out);
            }
            Target::Flow(inner) => {
                let given = shape.ports.iter().zip(pieces);
                let inputs =
                    given.map(|(port, piece)| Set { name: port.parameter.clone(), items: Lot::into_items(piece) });
                self.open(inner, Some(Parent { frame, app, tag }), inputs.collect());
            }
        }
    }

    /// A frame of a flow, with its inputs in it.
    fn open(&mut self, graph: GraphId, parent: Option<Parent>, inputs: Sets<Have<D>>) {
        let program = self.program.clone();
        let shape = &program.graphs[graph];
        let depth = parent.as_ref().map_or(0, |parent| self.depth(parent.frame) + 1);
        let id = self.free.pop().unwrap_or(self.frames.len());
        let made = Some(Frame::new(graph, shape, parent, depth));
        match self.frames.get_mut(id) {
            Some(place) => *place = made,
            None => self.frames.push(made),
        }
        for set in inputs {
            let Some((_, to)) = shape.inputs.iter().find(|(name, _)| *name == set.name) else { continue };
            for (index, item) in set.items.into_iter().enumerate() {
                self.deliver(id, *to, &Tag::index(index), item);
            }
        }
        for (set, items) in &shape.statics {
            for (index, item) in items.iter().enumerate() {
                // Without its files a flow is not run: who runs it has bound them.
                let Content::Ready(data) = &item.content else { continue };
                let name = item.name.clone().unwrap_or_else(|| index.to_string());
                let item = Item { name, key: item.key, data: Have::Here(D::from(data.clone())) };
                self.deliver(id, *set, &Tag::index(index), item);
            }
        }
        let given = shape.inputs.iter().map(|(_, set)| *set).chain(shape.statics.iter().map(|(set, _)| *set));
        self.complete.extend(given.map(|set| (id, set)));
        for app in 0..shape.apps.len() {
            // Those without inputs wait for nobody.
            self.mark(id, app);
        }
        if shape.apps.is_empty() {
            self.settle();
            self.close(id);
        }
    }

    fn mark(&mut self, frame: FrameId, app: AppId) {
        if self.app(frame, app).done {
            return;
        }
        let graph = &self.program.graphs[self.graph(frame)];
        let is_flow = matches!(graph.apps[app].target, Target::Flow(_));
        self.ready.insert((is_flow, Reverse(self.depth(frame)), Reverse(app), frame));
    }

    /// Frames are named by who is in them: an application that runs, or is ready, has its frame open.
    fn frame(&mut self, frame: FrameId) -> &mut Frame<D> {
        self.frames[frame].as_mut().expect("a frame is open while anything of it is left")
    }

    fn app(&mut self, frame: FrameId, app: AppId) -> &mut AppState<D> {
        &mut self.frame(frame).apps[app]
    }

    fn graph(&self, frame: FrameId) -> GraphId {
        self.frames[frame].as_ref().map_or(0, |frame| frame.graph)
    }

    fn depth(&self, frame: FrameId) -> usize {
        self.frames[frame].as_ref().map_or(0, |frame| frame.depth)
    }
}
