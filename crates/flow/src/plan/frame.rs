//! One flow that is being run: the state of each of its applications. The flow that was asked for is a frame, and so is
//! every piece that a flow within it is applied to.

use sets::Item;

use super::cross::{Combination, Cross};
use super::join::Joined;
use super::part::{Gathered, Part};
use super::past::Have;
use super::tag::Tag;
use crate::graph::{App, AppId, Graph, GraphId, Mode};

pub type FrameId = usize;

/// For whom a frame runs.
#[derive(Debug, Clone)]
pub struct Parent {
    pub frame: FrameId,
    pub app: AppId,
    /// Of the shard that the frame is.
    pub tag: Tag,
}

#[derive(Debug)]
pub struct Frame<D> {
    pub graph: GraphId,
    pub parent: Option<Parent>,
    pub depth: usize,
    pub apps: Vec<AppState<D>>,
    /// Applications that are not done.
    pub left: usize,
}

impl<D: Clone> Frame<D> {
    pub fn new(graph: GraphId, shape: &Graph, parent: Option<Parent>, depth: usize) -> Self {
        let apps: Vec<AppState<D>> = shape.apps.iter().map(AppState::new).collect();
        Self { graph, parent, depth, left: apps.len(), apps }
    }
}

#[derive(Debug)]
pub struct AppState<D> {
    ports: Vec<Gathered<D>>,
    /// Ports of each side that have not ended.
    open: Vec<usize>,
    /// Parts of inputs that are joined, until all of them are there.
    parts: Vec<Option<std::collections::VecDeque<Part<D>>>>,
    cross: Option<Cross<D>>,
    /// Gates that have seen no item yet.
    gates: Vec<crate::graph::SetId>,
    pub running: usize,
    pub done: bool,
}

impl<D: Clone> AppState<D> {
    fn new(app: &App) -> Self {
        let sides = app.axes.iter().map(|axis| axis.ports.iter().map(|(port, _)| *port).collect());
        Self {
            ports: app.ports.iter().map(|_| Gathered::new()).collect(),
            open: app.axes.iter().map(|axis| axis.ports.len()).collect(),
            parts: app.ports.iter().map(|_| None).collect(),
            cross: Some(Cross::new(sides)),
            gates: app.gates.clone(),
            running: 0,
            done: false,
        }
    }

    /// An item comes in. Whether there may be a shard to run now.
    pub fn push(&mut self, app: &App, port: usize, tag: &Tag, item: Item<Have<D>>) -> bool {
        let Some(cross) = &mut self.cross else { return false };
        self.ports[port].seen = true;
        let axis = axis_of(app, port);
        if app.ports[port].mode == Mode::Each && app.axes[axis].ports.len() == 1 {
            cross.push(axis, Part::one(tag.clone(), item));
            return true;
        }
        self.ports[port].push(tag.clone(), item);
        false
    }

    /// A set that gates has an item.
    pub fn open_gate(&mut self, set: crate::graph::SetId) {
        self.gates.retain(|gate| *gate != set);
    }

    /// A set that gates is complete.
    pub fn end_gate(&mut self, set: crate::graph::SetId) {
        if self.gates.contains(&set) {
            self.give_up();
        }
    }

    /// An input is complete.
    pub fn end_port(&mut self, app: &App, port: usize, spread: usize) {
        let Some(cross) = &mut self.cross else { return };
        let shape = &app.ports[port];
        if !self.ports[port].seen && !shape.optional {
            return self.give_up();
        }
        let side = axis_of(app, port);
        let axis = &app.axes[side];
        let mut parts = self.ports[port].divide(shape, axis.ports.len() > 1, spread);
        if let [_] = axis.ports.as_slice() {
            if !self.ports[port].seen {
                parts.push_back(Part::empty());
            }
            return cross.close(side, parts);
        }
        self.parts[port] = Some(parts);
        self.open[side] -= 1;
        if self.open[side] == 0 {
            let inputs = axis.ports.iter().map(|(port, join)| (*join, self.parts[*port].take().unwrap_or_default()));
            cross.close_joined(side, Joined::new(inputs.collect()));
        }
    }

    pub fn next(&mut self) -> Option<Combination<D>> {
        if !self.gates.is_empty() {
            return None;
        }
        self.cross.as_mut()?.next()
    }

    /// Whether nothing of it runs or will ever run.
    pub fn is_over(&self) -> bool {
        let exhausted = self.cross.as_ref().is_none_or(|cross| self.gates.is_empty() && cross.exhausted());
        self.running == 0 && exhausted
    }

    /// Nothing of it will run: what has come for it is dropped.
    pub fn give_up(&mut self) {
        self.cross = None;
        self.ports.iter_mut().for_each(|port| *port = Gathered::new());
        self.parts.iter_mut().for_each(|parts| *parts = None);
    }
}

fn axis_of(app: &App, port: usize) -> usize {
    // Every port is on one axis.
    app.axes.iter().position(|axis| axis.ports.iter().any(|(on, _)| *on == port)).unwrap_or(0)
}

/// The tag of the items that a shard gives into one of its sets.
pub fn tagged<D>(tag: &Tag, items: Vec<Item<D>>) -> impl Iterator<Item = (Tag, Item<D>)> {
    items.into_iter().enumerate().map(move |(index, item)| (tag.then(index), item))
}
