//! The shards of an application: every combination of the parts of its axes, each once, made one at a time, as the parts
//! come.
//!
//! A part that comes is combined with all that the other axes have had so far; then it is kept for those to come. Where
//! the other axes have ended, it need not be: a set that is divided item by item beside sets that are given as a whole is
//! gone from here as its shards start.

use std::collections::VecDeque;

use super::join::Joined;
use super::part::{Part, Piece};
use super::tag::Tag;

/// One side of the product: the parts of one input, or the combinations of several that are joined.
#[derive(Debug)]
pub struct Side<D> {
    /// Inputs, in the order of a combination's parts.
    ports: Vec<usize>,
    pending: VecDeque<Part<D>>,
    joined: Option<Joined<D>>,
    /// What has been combined, and is there for what comes on other sides.
    kept: Vec<Vec<Part<D>>>,
    /// No more will come.
    closed: bool,
}

impl<D: Clone> Side<D> {
    fn waiting(&self) -> usize {
        self.pending.len() + self.joined.as_ref().map_or(0, Joined::left)
    }

    fn ended(&self) -> bool {
        self.closed && self.waiting() == 0
    }

    fn next(&mut self) -> Option<Vec<Part<D>>> {
        match self.pending.pop_front() {
            Some(part) => Some(vec![part]),
            None => self.joined.as_mut().and_then(Joined::next),
        }
    }
}

/// A new combination on one side, and how far it has been combined with the other sides.
#[derive(Debug)]
struct Current<D> {
    side: usize,
    parts: Vec<Part<D>>,
    /// An index into what every other side has kept; that of `side` stays 0.
    at: Vec<usize>,
}

/// What one shard is given.
#[derive(Debug)]
pub struct Combination<D> {
    /// In the order of the ports.
    pub pieces: Vec<Piece<D>>,
    pub tag: Tag,
    /// The key of its first part that has one.
    pub key: Option<u64>,
}

#[derive(Debug)]
pub struct Cross<D> {
    sides: Vec<Side<D>>,
    current: Option<Current<D>>,
    /// An application without inputs runs once.
    once: bool,
}

impl<D: Clone> Cross<D> {
    /// `sides`: the ports of each.
    pub fn new(sides: impl IntoIterator<Item = Vec<usize>>) -> Self {
        let side = |ports| Side { ports, pending: VecDeque::new(), joined: None, kept: Vec::new(), closed: false };
        let sides: Vec<Side<D>> = sides.into_iter().map(side).collect();
        Self { once: sides.is_empty(), sides, current: None }
    }

    pub fn push(&mut self, side: usize, part: Part<D>) {
        self.sides[side].pending.push_back(part);
    }

    /// No more parts will come on this side but these.
    pub fn close(&mut self, side: usize, parts: VecDeque<Part<D>>) {
        self.sides[side].pending.extend(parts);
        self.sides[side].closed = true;
    }

    pub fn close_joined(&mut self, side: usize, joined: Joined<D>) {
        self.sides[side].joined = Some(joined);
        self.sides[side].closed = true;
    }

    /// Whether all combinations there will ever be have been made.
    pub fn exhausted(&self) -> bool {
        let nothing = |side: &Side<D>| side.ended() && side.kept.is_empty();
        let ended = self.sides.iter().all(Side::ended) || self.sides.iter().any(nothing);
        !self.once && self.current.is_none() && ended
    }

    /// The next shard's inputs, where there are any by now.
    pub fn next(&mut self) -> Option<Combination<D>> {
        if std::mem::take(&mut self.once) {
            return Some(Combination { pieces: Vec::new(), tag: Tag::root(), key: None });
        }
        loop {
            if self.current.is_none() {
                self.begin()?;
            }
            let current = self.current.as_ref()?;
            let others = self.sides.iter().enumerate().filter(|(side, _)| *side != current.side);
            if others.into_iter().any(|(_, side)| side.kept.is_empty()) {
                self.end();
                continue;
            }
            let combination = self.combine(current);
            self.advance();
            return Some(combination);
        }
    }

    /// Takes up the next part of the side that has the fewest: the others' can then be dropped as they are combined.
    fn begin(&mut self) -> Option<()> {
        if self.sides.iter().any(|side| side.waiting() == 0 && side.kept.is_empty()) {
            return None;
        }
        let waiting = self.sides.iter().enumerate().filter(|(_, side)| side.waiting() > 0);
        let (side, _) = waiting.min_by_key(|(_, side)| (!side.closed, side.waiting()))?;
        let parts = self.sides[side].next()?;
        self.current = Some(Current { side, parts, at: vec![0; self.sides.len()] });
        Some(())
    }

    fn combine(&self, current: &Current<D>) -> Combination<D> {
        let chosen = |side: usize| match side == current.side {
            true => &current.parts,
            false => &self.sides[side].kept[current.at[side]],
        };
        let parts: Vec<&Part<D>> = (0..self.sides.len()).flat_map(chosen).collect();
        let ports = self.sides.iter().flat_map(|side| &side.ports);
        let mut pieces: Vec<(usize, Piece<D>)> =
            ports.copied().zip(parts.iter().map(|part| part.piece.clone())).collect();
        pieces.sort_unstable_by_key(|(port, _)| *port);
        Combination {
            pieces: pieces.into_iter().map(|(_, piece)| piece).collect(),
            tag: Tag::join(&parts.iter().map(|part| &part.tag).collect::<Vec<_>>()),
            key: parts.iter().find_map(|part| part.key),
        }
    }

    fn advance(&mut self) {
        let Some(current) = &mut self.current else { return };
        for (side, at) in current.at.iter_mut().enumerate().rev().filter(|(side, _)| *side != current.side) {
            *at += 1;
            if *at < self.sides[side].kept.len() {
                return;
            }
            *at = 0;
        }
        self.end();
    }

    fn end(&mut self) {
        let Some(current) = self.current.take() else { return };
        let more = self.sides.iter().enumerate().any(|(side, other)| side != current.side && !other.ended());
        if more {
            self.sides[current.side].kept.push(current.parts);
        }
    }
}
