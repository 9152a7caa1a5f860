//! A checked flow: sets, the applications that make and take them, and nothing that could be wrong about them.
//!
//! Every flow of a program is a [`Graph`] of its own. A flow that is applied to whole sets has been put into the graph
//! that applies it; one that is applied piece by piece stays a target, and has a run of its own for every piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use sets::Item;

/// How a set is divided among the shards of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Each shard gets all of it.
    All,
    /// Each shard gets all items of one key.
    Keyed,
    /// Each shard gets one item.
    Each,
    /// Each shard gets some of the keys: how many is the platform's to choose.
    AnyKeyed,
    /// Each shard gets some of the items: how many is the platform's to choose.
    AnyEach,
}

impl Mode {
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Keyed => "keyed",
            Self::Each => "each",
            Self::AnyKeyed => "anyKeyed",
            Self::AnyEach => "anyEach",
        }
    }
}

/// What ties an input to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Everything with everything.
    Cross,
    /// Keys that both have.
    Inner,
    /// Keys of what came before.
    Left,
    /// Keys of this input.
    Right,
    /// Keys that either has.
    Full,
}

pub type SetId = usize;
pub type AppId = usize;
pub type GraphId = usize;

/// What a shard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Runs the function of this name.
    Function(String),
    /// Runs a flow of the same program.
    Flow(GraphId),
}

/// What the failure of a shard means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The flow fails.
    Fail,
    /// The shard gives nothing.
    Skip,
    /// The shard gives a report into this set.
    Into(SetId),
}

/// One input of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub parameter: String,
    pub set: SetId,
    pub mode: Mode,
    /// Nothing in the set is fine.
    pub optional: bool,
}

/// Ports whose parts are joined by their keys; axes are crossed with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Indices of ports, each with how it is tied to those before it; the first has [`Join::Cross`].
    pub ports: Vec<(usize, Join)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// What it is called in graphs and counts: the target's name, below those of the flows that it has been put in from.
    pub label: String,
    pub target: Target,
    pub ports: Vec<Port>,
    pub axes: Vec<Axis>,
    /// Sets that need an item for the application to run at all, beside those of its ports.
    pub gates: Vec<SetId>,
    /// What the target gives, and where it goes.
    pub outputs: Vec<(String, SetId)>,
    pub on_error: OnError,
    /// Line of the text, from 1.
    pub line: usize,
}

/// A set, and who waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetInfo {
    pub name: String,
    /// Ports that take it.
    pub takers: Vec<(AppId, usize)>,
    /// Applications that it gates.
    pub gated: Vec<AppId>,
    /// The flow's outputs that it is.
    pub outputs: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    pub name: String,
    pub inputs: Vec<(String, SetId)>,
    pub outputs: Vec<(String, SetId)>,
    pub sets: Vec<SetInfo>,
    /// Each comes after those that make what it takes.
    pub apps: Vec<App>,
    /// Sets whose items are known before any run.
    pub statics: Vec<(SetId, Vec<StaticItem>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticItem {
    pub name: Option<String>,
    pub key: u64,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Ready(Bytes),
    /// To be read by whoever deploys the text.
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// A flow stands before those that apply it; the one to run is the last.
    pub graphs: Vec<Graph>,
}

/// A file of a static set has not been given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file {path:?} of set `{set}` was not given: it is read where the flow is deployed, and sent along")]
pub struct Unbound {
    pub path: String,
    pub set: String,
}

impl Program {
    /// The graph of the flow that is run.
    pub fn main(&self) -> &Graph {
        &self.graphs[self.graphs.len() - 1]
    }

    /// The files that static sets are made of.
    pub fn files(&self) -> Vec<String> {
        let items = self.graphs.iter().flat_map(|graph| &graph.statics).flat_map(|(_, items)| items);
        let paths = items.filter_map(|item| match &item.content {
            Content::File(path) => Some(path.clone()),
            Content::Ready(_) => None,
        });
        let unique: std::collections::BTreeSet<String> = paths.collect();
        unique.into_iter().collect()
    }

    /// Puts the files' content in. A path may stand for several items: those of a folder.
    pub fn bind(&mut self, files: &BTreeMap<String, Vec<Item<Bytes>>>) -> Result<(), Unbound> {
        for graph in &mut self.graphs {
            for (set, items) in &mut graph.statics {
                let name = &graph.sets[*set].name;
                let bound = std::mem::take(items).into_iter().map(|item| bound(item, files, name));
                *items = bound.collect::<Result<Vec<_>, _>>()?.concat();
            }
        }
        Ok(())
    }

    /// The functions that are run, each once.
    pub fn functions(&self) -> Vec<&str> {
        let targets = self.graphs.iter().flat_map(|graph| &graph.apps).filter_map(|app| match &app.target {
            Target::Function(name) => Some(name.as_str()),
            Target::Flow(_) => None,
        });
        let unique: std::collections::BTreeSet<&str> = targets.collect();
        unique.into_iter().collect()
    }
}

fn bound(item: StaticItem, files: &BTreeMap<String, Vec<Item<Bytes>>>, set: &str) -> Result<Vec<StaticItem>, Unbound> {
    let Content::File(path) = &item.content else { return Ok(vec![item]) };
    let found = files.get(path).ok_or_else(|| Unbound { path: path.clone(), set: set.to_owned() })?;
    let one = found.len() == 1;
    let items = found.iter().map(|file| {
        let name = item.name.clone().filter(|_| one).unwrap_or_else(|| file.name.clone());
        StaticItem { name: Some(name), key: item.key, content: Content::Ready(file.data.clone()) }
    });
    Ok(items.collect())
}
