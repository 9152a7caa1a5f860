//! Where the boxes of a graph stand: in columns, from what is given to what comes out, each line as short as a few sweeps
//! make it. A line over several columns has a place in each of them, so that it passes between boxes and not behind them.

use std::collections::BTreeMap;

/// Pixels.
const ROW_GAP: f64 = 18.0;
const COLUMN_GAP: f64 = 110.0;
const SWEEPS: usize = 6;

/// A box, with its size; where it stands comes out.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub width: f64,
    pub height: f64,
    pub x: f64,
    pub y: f64,
}

/// A line from one box to another; the points that it passes come out.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    pub via: Vec<(f64, f64)>,
}

/// Places everything; the picture's width and height.
pub fn place(nodes: &mut Vec<Node>, edges: &mut [Edge]) -> (f64, f64) {
    let boxes = nodes.len();
    let mut column = columns(boxes, edges);
    let routes = routes(nodes, edges, &mut column);
    let mut ranks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, column) in column.iter().enumerate() {
        ranks.entry(*column).or_default().push(node);
    }
    let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for pair in routes.iter().flat_map(|route| route.windows(2)) {
        neighbours[pair[0]].push(pair[1]);
        neighbours[pair[1]].push(pair[0]);
    }
    order(&mut ranks, &neighbours, &column);
    let size = coordinates(nodes, &ranks);
    for (edge, route) in edges.iter_mut().zip(&routes) {
        let inner = &route[1..route.len() - 1];
        edge.via = inner.iter().map(|node| (nodes[*node].x, nodes[*node].y)).collect();
    }
    nodes.truncate(boxes);
    size
}

/// Each node stands right of all that it depends on. Edges point forward in a graph without circles.
fn columns(nodes: usize, edges: &[Edge]) -> Vec<usize> {
    let mut column = vec![0; nodes];
    for _ in 0..nodes {
        let mut moved = false;
        for edge in edges {
            if column[edge.to] <= column[edge.from] {
                column[edge.to] = column[edge.from] + 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    column
}

/// The nodes that each line passes, with places added where it passes a column.
fn routes(nodes: &mut Vec<Node>, edges: &[Edge], column: &mut Vec<usize>) -> Vec<Vec<usize>> {
    let route = |edge: &Edge| {
        let mut route = vec![edge.from];
        for between in column[edge.from] + 1..column[edge.to] {
            route.push(nodes.len());
            nodes.push(Node { height: 4.0, ..Node::default() });
            column.push(between);
        }
        route.push(edge.to);
        route
    };
    edges.iter().map(route).collect()
}

/// Nodes move to the middle of their neighbours, column after column, forth and back.
fn order(ranks: &mut BTreeMap<usize, Vec<usize>>, neighbours: &[Vec<usize>], column: &[usize]) {
    let mut place = vec![0.0; neighbours.len()];
    let note = |rank: &[usize], place: &mut Vec<f64>| {
        for (at, node) in rank.iter().enumerate() {
            place[*node] = (at as f64 + 0.5) / rank.len() as f64;
        }
    };
    ranks.values().for_each(|rank| note(rank, &mut place));
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        let keys: Vec<usize> =
            if forth { ranks.keys().copied().collect() } else { ranks.keys().rev().copied().collect() };
        for key in keys {
            let Some(rank) = ranks.get_mut(&key) else { continue };
            let wanted = |node: usize| {
                let side = |other: &&usize| if forth { column[**other] < key } else { column[**other] > key };
                let around: Vec<f64> = neighbours[node].iter().filter(side).map(|other| place[*other]).collect();
                if around.is_empty() { place[node] } else { around.iter().sum::<f64>() / around.len() as f64 }
            };
            let mut sorted: Vec<(f64, usize)> = rank.iter().map(|node| (wanted(*node), *node)).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            *rank = sorted.into_iter().map(|(_, node)| node).collect();
            note(rank, &mut place);
        }
    }
}

/// Centres of the nodes: columns as wide as their widest box, each in the middle of the height.
fn coordinates(nodes: &mut [Node], ranks: &BTreeMap<usize, Vec<usize>>) -> (f64, f64) {
    let tall = |rank: &Vec<usize>| rank.iter().map(|node| nodes[*node].height + ROW_GAP).sum::<f64>() - ROW_GAP;
    let height = ranks.values().map(tall).fold(0.0, f64::max);
    let tops: Vec<f64> = ranks.values().map(|rank| (height - tall(rank)) / 2.0).collect();
    let mut x = 0.0;
    for (rank, top) in ranks.values().zip(tops) {
        let width = rank.iter().map(|node| nodes[*node].width).fold(0.0, f64::max);
        let mut y = top;
        for node in rank {
            let node = &mut nodes[*node];
            (node.x, node.y) = (x + width / 2.0, y + node.height / 2.0);
            y += node.height + ROW_GAP;
        }
        x += width + COLUMN_GAP;
    }
    ((x - COLUMN_GAP).max(0.0), height.max(0.0))
}
