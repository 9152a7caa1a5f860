//! A naive interpreter of graphs: one application after the other, all of its shards at once, by what the words mean and
//! not by how the plan does it. Flows within flows that were not put in are interpreted by calling itself. A flow of chance's
//! may come to any number of shards, as products of products: one of more than `SHARDS_MAX` is given up.

use std::collections::{BTreeMap, BTreeSet};

use sets::{Item, Set, Sets};

use super::super::tag::Tag;
use super::function;
use crate::graph::{App, Content, Graph, Join, Mode, Port, Program, SetId, Target};

type Tagged = (Tag, Item<String>);
type Ran = BTreeMap<String, usize>;

const SHARDS_MAX: usize = 2_000;

/// What the flow gives and how often each shard ran, unless there are too many.
pub fn run(program: &Program, inputs: &Sets<String>) -> Option<(Sets<String>, Ran)> {
    let mut ran = Ran::new();
    let inputs = inputs.iter().map(|set| (set.name.clone(), set.items.clone())).collect();
    let outputs = graph(program, program.main(), inputs, &mut ran)?;
    let plain =
        |(name, items): (String, Vec<Tagged>)| Set::new(name, items.into_iter().map(|(_, item)| item).collect());
    Some((outputs.into_iter().map(plain).collect(), ran))
}

fn graph(
    program: &Program,
    graph: &Graph,
    inputs: BTreeMap<String, Vec<Item<String>>>,
    ran: &mut Ran,
) -> Option<Vec<(String, Vec<Tagged>)>> {
    let mut sets: BTreeMap<SetId, Vec<Tagged>> = BTreeMap::new();
    let tagged =
        |items: Vec<Item<String>>| items.into_iter().enumerate().map(|(at, item)| (Tag::index(at), item)).collect();
    for (name, set) in &graph.inputs {
        sets.insert(*set, tagged(inputs.get(name).cloned().unwrap_or_default()));
    }
    for (set, items) in &graph.statics {
        let item = |(index, item): (usize, &crate::graph::StaticItem)| {
            let Content::Ready(text) = &item.content else { panic!("a file") };
            let name = item.name.clone().unwrap_or_else(|| index.to_string());
            Item::new(name, item.key, String::from_utf8(text.to_vec()).unwrap())
        };
        sets.insert(*set, tagged(items.iter().enumerate().map(item).collect()));
    }
    for app in &graph.apps {
        let made = apply(program, app, &sets, ran)?;
        for (result, to) in &app.outputs {
            let mut items = made.get(result).cloned().unwrap_or_default();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            sets.insert(*to, items);
        }
    }
    let outputs = graph.outputs.iter();
    Some(outputs.map(|(name, set)| (name.clone(), sets.get(set).cloned().unwrap_or_default())).collect())
}

fn apply(
    program: &Program,
    app: &App,
    sets: &BTreeMap<SetId, Vec<Tagged>>,
    ran: &mut Ran,
) -> Option<BTreeMap<String, Vec<Tagged>>> {
    let empty = |set: &SetId| sets.get(set).is_none_or(Vec::is_empty);
    let mut made: BTreeMap<String, Vec<Tagged>> = BTreeMap::new();
    if app.gates.iter().any(empty) || app.ports.iter().any(|port| !port.optional && empty(&port.set)) {
        return Some(made);
    }
    for (pieces, tag) in combinations(app, sets)? {
        let inputs = app.ports.iter().map(|port| port.parameter.clone()).zip(pieces);
        let outputs = match app.target {
            Target::Function(_) if ran.values().sum::<usize>() == SHARDS_MAX => return None,
            Target::Function(_) => shard(app, inputs, &tag, ran),
            Target::Flow(inner) => {
                let mut outputs = graph(program, &program.graphs[inner], inputs.collect(), ran)?;
                let items = outputs.iter_mut().flat_map(|(_, items)| items);
                items.for_each(|(inner, _)| *inner = Tag::join(&[&tag, inner]));
                outputs
            }
        };
        for (name, items) in outputs {
            made.entry(name).or_default().extend(items);
        }
    }
    Some(made)
}

fn shard(
    app: &App,
    inputs: impl Iterator<Item = (String, Vec<Item<String>>)>,
    tag: &Tag,
    ran: &mut Ran,
) -> Vec<(String, Vec<Tagged>)> {
    let plain = |item: Item<String>| (item.name, item.key, item.data);
    let inputs = inputs.map(|(name, items)| (name, items.into_iter().map(plain).collect::<Vec<_>>()));
    let inputs: Vec<_> = inputs.collect();
    let name = app.label.rsplit('.').next().unwrap();
    *ran.entry(format!("{name} {inputs:?}")).or_insert(0) += 1;
    let results: Vec<String> = app.outputs.iter().map(|(result, _)| result.clone()).collect();
    let outputs = function(name, &inputs, &results).into_iter();
    let tagged = |(at, item)| (tag.then(at), item);
    outputs.map(|set| (set.name, set.items.into_iter().enumerate().map(tagged).collect())).collect()
}

#[derive(Clone)]
struct Part {
    items: Vec<Item<String>>,
    tag: Tag,
    key: Option<u64>,
}

/// Parts, each with its port.
type Row = Vec<(usize, Part)>;

/// The pieces of a shard in the order of the ports, and its tag.
type Combination = (Vec<Vec<Item<String>>>, Tag);

/// Every combination, unless there are too many.
fn combinations(app: &App, sets: &BTreeMap<SetId, Vec<Tagged>>) -> Option<Vec<Combination>> {
    let mut rows: Vec<Row> = vec![Vec::new()];
    for axis in &app.axes {
        let joined = axis.ports.len() > 1;
        let nothing = Part { items: Vec::new(), tag: Tag::root(), key: None };
        let mut side: Option<(BTreeSet<u64>, Vec<Row>)> = None;
        for (port, join) in &axis.ports {
            let parts = divide(&app.ports[*port], &sets[&app.ports[*port].set], joined);
            let keys: BTreeSet<u64> = parts.iter().map(|part| part.key.unwrap_or(0)).collect();
            let Some((before, rows)) = side else {
                let parts = if parts.is_empty() && !joined { vec![nothing.clone()] } else { parts };
                side = Some((keys, parts.into_iter().map(|part| vec![(*port, part)]).collect()));
                continue;
            };
            let after: BTreeSet<u64> = match join {
                Join::Inner => before.intersection(&keys).copied().collect(),
                Join::Left => before,
                Join::Right => keys,
                _ => before.union(&keys).copied().collect(),
            };
            let mut joined_rows = Vec::new();
            for key in &after {
                let width =
                    rows.first().map_or_else(|| axis.ports.iter().position(|(p, _)| p == port).unwrap(), Vec::len);
                let mut left: Vec<_> =
                    rows.iter().filter(|row| row.iter().any(|(_, part)| part.key == Some(*key))).cloned().collect();
                if left.is_empty() {
                    left.push(axis.ports[..width].iter().map(|(port, _)| (*port, nothing.clone())).collect());
                }
                let mut right: Vec<Part> = parts.iter().filter(|part| part.key == Some(*key)).cloned().collect();
                if right.is_empty() {
                    right.push(nothing.clone());
                }
                if joined_rows.len() + left.len() * right.len() > SHARDS_MAX {
                    return None;
                }
                for row in &left {
                    joined_rows.extend(right.iter().map(|part| [row.clone(), vec![(*port, part.clone())]].concat()));
                }
            }
            side = Some((after, joined_rows));
        }
        let (_, side) = side.unwrap();
        if rows.len() * side.len() > SHARDS_MAX {
            return None;
        }
        rows = rows.iter().flat_map(|row| side.iter().map(|more| [row.clone(), more.clone()].concat())).collect();
    }
    let finished = rows.into_iter().map(|row| {
        let tag = Tag::join(&row.iter().map(|(_, part)| &part.tag).collect::<Vec<_>>());
        let mut row = row;
        row.sort_by_key(|(port, _)| *port);
        (row.into_iter().map(|(_, part)| part.items).collect(), tag)
    });
    Some(finished.collect())
}

fn divide(port: &Port, items: &[Tagged], joined: bool) -> Vec<Part> {
    let plain = |items: &[Tagged]| items.iter().map(|(_, item)| item.clone()).collect::<Vec<_>>();
    let by_key = || {
        let keys: BTreeSet<u64> = items.iter().map(|(_, item)| item.key).collect();
        let of = |key: u64| {
            items.iter().filter(|(_, item)| item.key == key).map(|(_, item)| item.clone()).collect::<Vec<_>>()
        };
        keys.into_iter().map(|key| Part { items: of(key), tag: Tag::key(key), key: Some(key) }).collect::<Vec<_>>()
    };
    if items.is_empty() {
        return Vec::new();
    }
    match (port.mode, joined) {
        (Mode::All, _) => vec![Part { items: plain(items), tag: Tag::root(), key: None }],
        (Mode::Each, _) | (Mode::AnyEach, true) => items
            .iter()
            .map(|(tag, item)| Part { items: vec![item.clone()], tag: tag.clone(), key: Some(item.key) })
            .collect(),
        (Mode::Keyed, _) | (Mode::AnyKeyed, true) => by_key(),
        (Mode::AnyEach, false) => {
            let count = items.len().min(3);
            let chunk = |at: usize| plain(&items[items.len() * at / count..items.len() * (at + 1) / count]);
            (0..count).map(|at| Part { items: chunk(at), tag: Tag::index(at), key: None }).collect()
        }
        (Mode::AnyKeyed, false) => {
            let mut groups = by_key();
            groups.sort_by_key(|part| (std::cmp::Reverse(part.items.len()), part.key));
            let mut bins: Vec<Vec<Item<String>>> = vec![Vec::new(); groups.len().min(3)];
            for group in groups {
                let least = (0..bins.len()).min_by_key(|bin| bins[*bin].len()).unwrap();
                bins[least].extend(group.items);
            }
            bins.into_iter().enumerate().map(|(at, items)| Part { items, tag: Tag::index(at), key: None }).collect()
        }
    }
}
