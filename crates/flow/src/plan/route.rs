//! How items and the ends of sets travel within a plan: to the inputs that take a set, the applications that it gates, and
//! the outputs that it is, which in a flow within a flow are sets of the outer one.

use std::cmp::Reverse;

use sets::{Item, Sets};

use super::frame::{FrameId, tagged};
use super::past::Have;
use super::tag::Tag;
use super::{Data, Plan};
use crate::graph::{AppId, OnError, SetId};

impl<D: Data> Plan<D> {
    /// What a shard has made, to the sets that its application names.
    pub(super) fn hand_on(&mut self, frame: FrameId, app: AppId, tag: &Tag, made: Sets<Have<D>>) {
        let program = self.program.clone();
        let shape = &program.graphs[self.graph(frame)].apps[app];
        for set in made {
            let goes: Vec<SetId> =
                shape.outputs.iter().filter(|(result, _)| *result == set.name).map(|(_, to)| *to).collect();
            let Some((last, others)) = goes.split_last() else { continue };
            for (tag, item) in tagged(tag, set.items) {
                others.iter().for_each(|to| self.deliver(frame, *to, &tag, item.clone()));
                self.deliver(frame, *last, &tag, item);
            }
        }
    }

    /// An item comes into a set.
    pub(super) fn deliver(&mut self, frame: FrameId, set: SetId, tag: &Tag, item: Item<Have<D>>) {
        let program = self.program.clone();
        let graph = &program.graphs[self.graph(frame)];
        let info = &graph.sets[set];
        for app in &info.gated {
            self.app(frame, *app).open_gate(set);
            self.mark(frame, *app);
        }
        for output in &info.outputs {
            self.give(frame, *output, tag, item.clone());
        }
        let Some(((last, last_port), others)) = info.takers.split_last() else { return };
        for (app, port) in others {
            self.take(frame, *app, *port, tag, item.clone());
        }
        self.take(frame, *last, *last_port, tag, item);
    }

    fn take(&mut self, frame: FrameId, app: AppId, port: usize, tag: &Tag, item: Item<Have<D>>) {
        let program = self.program.clone();
        let shape = &program.graphs[self.graph(frame)].apps[app];
        if self.app(frame, app).push(shape, port, tag, item) {
            self.mark(frame, app);
        }
    }

    /// An item comes out of the flow that a frame runs.
    fn give(&mut self, frame: FrameId, output: usize, tag: &Tag, item: Item<Have<D>>) {
        let Some(parent) = self.frame(frame).parent.clone() else {
            return self.outputs[output].push((tag.clone(), item));
        };
        let program = self.program.clone();
        let (name, _) = &program.graphs[self.graph(frame)].outputs[output];
        let outer = &program.graphs[self.graph(parent.frame)].apps[parent.app];
        let tag = Tag::join(&[&parent.tag, tag]);
        for (_, to) in outer.outputs.iter().filter(|(result, _)| result == name) {
            self.deliver(parent.frame, *to, &tag, item.clone());
        }
    }

    /// Carries on what has become complete or done, until nothing follows from it.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some((frame, set)) = self.complete.pop() {
                self.end_set(frame, set);
            } else if let Some((frame, app)) = self.asked.pop() {
                self.end_app(frame, app);
            } else {
                return;
            }
        }
    }

    fn end_set(&mut self, frame: FrameId, set: SetId) {
        let program = self.program.clone();
        let graph = &program.graphs[self.graph(frame)];
        let (info, spread) = (&graph.sets[set], self.bounds.spread);
        for app in &info.gated {
            self.app(frame, *app).end_gate(set);
        }
        for (app, port) in &info.takers {
            self.app(frame, *app).end_port(&graph.apps[*app], *port, spread);
        }
        for app in info.gated.iter().chain(info.takers.iter().map(|(app, _)| app)) {
            self.mark(frame, *app);
            self.asked.push((frame, *app));
        }
    }

    /// Where an application is over, its sets are complete.
    fn end_app(&mut self, frame: FrameId, app: AppId) {
        // Asked more than once, the frame may be gone by now, or be another's.
        let Some(Some(open)) = self.frames.get_mut(frame) else { return };
        let Some(state) = open.apps.get_mut(app) else { return };
        if state.done || !state.is_over() {
            return;
        }
        state.done = true;
        state.give_up();
        open.left -= 1;
        let (left, depth) = (open.left, open.depth);
        let program = self.program.clone();
        let shape = &program.graphs[self.graph(frame)].apps[app];
        let is_flow = matches!(shape.target, crate::graph::Target::Flow(_));
        self.ready.remove(&(is_flow, Reverse(depth), Reverse(app), frame));
        if left == 0 {
            return self.close(frame);
        }
        let mut sets: Vec<SetId> = shape.outputs.iter().map(|(_, set)| *set).collect();
        if let OnError::Into(set) = shape.on_error {
            sets.push(set);
        }
        self.complete.extend(sets.into_iter().map(|set| (frame, set)));
    }

    /// A frame whose applications are all done.
    pub(super) fn close(&mut self, frame: FrameId) {
        let Some(closed) = self.frames[frame].take() else { return };
        if let Some(parent) = closed.parent {
            self.free.push(frame);
            self.ended(parent.frame, parent.app);
        }
    }
}
