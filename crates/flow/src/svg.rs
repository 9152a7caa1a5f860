//! The graph of a program as a picture, readable on light and on dark ground; and with the times of a run in it.
//!
//! Sets are lines, applications are boxes, what is given and what comes out are rounded. A flow that is run piece by piece
//! has a picture of its own below the one that applies it.

mod layout;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::graph::{AppId, Graph, GraphId, OnError, Program, SetId, Target};
use layout::{Edge, Node};

/// What a run has spent on one application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    pub shards: u64,
    pub failed: u64,
    /// When its first shard has begun and its last has ended, from the run's begin.
    pub begun_us: u64,
    pub ended_us: u64,
    /// All shards together.
    pub busy_us: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    pub total_us: u64,
    pub apps: BTreeMap<(GraphId, AppId), Timing>,
}

/// Pixels, of a fixed-width letter and around a text.
const LETTER: f64 = 7.3;
const PADDING: f64 = 12.0;
const MARGIN: f64 = 20.0;
const STYLE: &str = "text{font:12px ui-monospace,monospace;fill:#1f2328}.s{font-size:10px;fill:#59636e}.h{font-size:13px;font-weight:600}\
.b{fill:#f6f8fa;stroke:#59636e}.n{stroke-width:3}.g{fill:#ddf4ff;stroke:#0969da}.f{fill:none;stroke-dasharray:4 3}\
.e{fill:none;stroke:#8c959f}.x{stroke:#cf222e;stroke-dasharray:2 3}.t{fill:#2da44e}.r{fill:#d0d7de}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.b{fill:#161b22;stroke:#9198a1}.g{fill:#0c2d6b;stroke:#4493f8}\
.e{stroke:#6e7681}.x{stroke:#ff7b72}.t{fill:#3fb950}.r{fill:#30363d}}";

/// One picture of the flow that is run, and of those within it.
pub fn draw(program: &Program, times: Option<&Times>) -> String {
    let shown = shown(program);
    let (mut body, mut width, mut y) = (String::new(), 200.0_f64, MARGIN);
    for id in shown {
        let graph = &program.graphs[id];
        let picture = Picture::of(graph, id, times);
        let title = match times {
            Some(times) if id == program.graphs.len() - 1 => format!("{} · {}", graph.name, micros(times.total_us)),
            _ => graph.name.clone(),
        };
        let _ = write!(body, r#"<text class="h" x="{MARGIN}" y="{}">{}</text>"#, y + 12.0, escaped(&title));
        let _ = write!(body, r#"<g transform="translate({MARGIN} {})">"#, y + 28.0);
        picture.write(&mut body);
        body.push_str("</g>");
        width = width.max(picture.width + 2.0 * MARGIN);
        y += picture.height + 28.0 + 2.0 * MARGIN;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{y:.0}" viewBox="0 0 {width:.0} {y:.0}"><style>{STYLE}</style>{body}</svg>"#
    ) + "\n"
}

/// The main graph, then those that are targets, each once.
fn shown(program: &Program) -> Vec<GraphId> {
    let mut shown = vec![program.graphs.len() - 1];
    let mut next = 0;
    while let Some(id) = shown.get(next).copied() {
        let targets = program.graphs[id].apps.iter().filter_map(|app| match app.target {
            Target::Flow(inner) => Some(inner),
            Target::Function(_) => None,
        });
        for inner in targets {
            if !shown.contains(&inner) {
                shown.push(inner);
            }
        }
        next += 1;
    }
    shown
}

/// What is drawn as a box.
struct Shape {
    class: &'static str,
    round: bool,
    label: String,
    /// A second, smaller line.
    note: String,
    timing: Option<(Timing, u64)>,
}

struct Line {
    label: String,
    class: &'static str,
}

struct Picture {
    shapes: Vec<Shape>,
    nodes: Vec<Node>,
    lines: Vec<Line>,
    edges: Vec<Edge>,
    width: f64,
    height: f64,
}

impl Picture {
    fn of(graph: &Graph, id: GraphId, times: Option<&Times>) -> Self {
        let mut picture = Self {
            shapes: Vec::new(),
            nodes: Vec::new(),
            lines: Vec::new(),
            edges: Vec::new(),
            width: 0.0,
            height: 0.0,
        };
        let mut makers: BTreeMap<SetId, usize> = BTreeMap::new();
        let plain = |class, label: &str, note: String| Shape {
            class,
            round: true,
            label: label.to_owned(),
            note,
            timing: None,
        };
        for (name, set) in &graph.inputs {
            makers.insert(*set, picture.add(plain("b g", name, String::new())));
        }
        for (set, items) in &graph.statics {
            let note = format!("{} fixed", items.len());
            makers.insert(*set, picture.add(plain("b f", &graph.sets[*set].name, note)));
        }
        let first = picture.shapes.len();
        for (index, app) in graph.apps.iter().enumerate() {
            let timing = times.map(|times| (times.apps.get(&(id, index)).copied().unwrap_or_default(), times.total_us));
            let note = timing.map_or(String::new(), |(timing, _)| said(&timing));
            let class = if matches!(app.target, Target::Flow(_)) { "b n" } else { "b" };
            let node = picture.add(Shape { class, round: false, label: app.label.clone(), note, timing });
            makers.extend(app.outputs.iter().map(|(_, set)| (*set, node)));
            if let OnError::Into(set) = app.on_error {
                makers.insert(set, node);
            }
        }
        for (index, app) in graph.apps.iter().enumerate() {
            for port in &app.ports {
                let optional = if port.optional { "?" } else { "" };
                let label = format!("{} {}{optional}", port.mode.word(), graph.sets[port.set].name);
                picture.line(makers.get(&port.set), first + index, label, "e");
            }
        }
        for (name, set) in &graph.outputs {
            let node = picture.add(plain("b g", name, String::new()));
            let reports = graph.apps.iter().any(|app| app.on_error == OnError::Into(*set));
            let label = graph.sets[*set].name.clone();
            picture.line(
                makers.get(set),
                node,
                if label == *name { String::new() } else { label },
                if reports { "e x" } else { "e" },
            );
        }
        (picture.width, picture.height) = layout::place(&mut picture.nodes, &mut picture.edges);
        picture
    }

    fn add(&mut self, shape: Shape) -> usize {
        let letters = shape.label.chars().count().max((shape.note.chars().count() * 5).div_ceil(6));
        let width = letters as f64 * LETTER + 2.0 * PADDING;
        let lines = if shape.note.is_empty() { 1.0 } else { 2.0 };
        let bar = if shape.timing.is_some() { 8.0 } else { 0.0 };
        self.nodes.push(Node { width, height: 12.0 + 15.0 * lines + bar, ..Node::default() });
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    fn line(&mut self, from: Option<&usize>, to: usize, label: String, class: &'static str) {
        let Some(from) = from.copied() else { return };
        self.edges.push(Edge { from, to, via: Vec::new() });
        self.lines.push(Line { label, class });
    }

    fn write(&self, out: &mut String) {
        for (line, edge) in self.lines.iter().zip(&self.edges) {
            self.write_line(line, edge, out);
        }
        for (shape, node) in self.shapes.iter().zip(&self.nodes) {
            write_shape(shape, node, out);
        }
    }

    fn write_line(&self, line: &Line, edge: &Edge, out: &mut String) {
        let (from, to) = (&self.nodes[edge.from], &self.nodes[edge.to]);
        let mut at = (from.x + from.width / 2.0, from.y);
        let end = (to.x - to.width / 2.0, to.y);
        let _ = write!(out, r#"<path class="{}" d="M{:.1} {:.1}"#, line.class, at.0, at.1);
        let mut last = at;
        for point in edge.via.iter().copied().chain([end]) {
            let middle = (at.0 + point.0) / 2.0;
            let _ = write!(out, " C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}", at.1, point.1, point.0, point.1);
            last = at;
            at = point;
        }
        out.push_str("\"/>");
        // Lines come together at a box: labels stand where they are still apart.
        let (x, y) = (end.0 - 10.0, last.1 + (end.1 - last.1) * 0.85 - 4.0);
        let _ =
            write!(out, r#"<text class="s" text-anchor="end" x="{x:.1}" y="{y:.1}">{}</text>"#, escaped(&line.label));
    }
}

fn write_shape(shape: &Shape, node: &Node, out: &mut String) {
    let (left, top) = (node.x - node.width / 2.0, node.y - node.height / 2.0);
    let round = if shape.round { node.height / 2.0 } else { 4.0 };
    let _ = write!(
        out,
        r#"<rect class="{}" x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" rx="{round:.1}"/>"#,
        shape.class, node.width, node.height
    );
    let _ = write!(
        out,
        r#"<text text-anchor="middle" x="{:.1}" y="{:.1}">{}</text>"#,
        node.x,
        top + 17.0,
        escaped(&shape.label)
    );
    if !shape.note.is_empty() {
        let _ = write!(
            out,
            r#"<text class="s" text-anchor="middle" x="{:.1}" y="{:.1}">{}</text>"#,
            node.x,
            top + 31.0,
            escaped(&shape.note)
        );
    }
    let Some((timing, total)) = &shape.timing else { return };
    // When it ran, within the whole run.
    let (width, y) = (node.width - 16.0, top + node.height - 9.0);
    let scale = |at: u64| at.min(*total) as f64 / (*total).max(1) as f64 * width;
    let (begun, ended) = (scale(timing.begun_us), scale(timing.ended_us));
    let _ = write!(out, r#"<rect class="r" x="{:.1}" y="{y:.1}" width="{width:.1}" height="4" rx="2"/>"#, left + 8.0);
    if timing.shards > 0 {
        let shown = (ended - begun).max(2.0);
        let _ = write!(
            out,
            r#"<rect class="t" x="{:.1}" y="{y:.1}" width="{shown:.1}" height="4" rx="2"/>"#,
            left + 8.0 + begun
        );
    }
}

fn said(timing: &Timing) -> String {
    let shards = if timing.shards == 1 { "1 shard".to_owned() } else { format!("{} shards", timing.shards) };
    let failed = if timing.failed > 0 { format!(", {} failed", timing.failed) } else { String::new() };
    match timing.shards {
        0 => "not run".to_owned(),
        count => format!("{shards}{failed} · {} each", micros(timing.busy_us / count)),
    }
}

fn micros(time: u64) -> String {
    match time {
        0..1_000 => format!("{time} µs"),
        1_000..1_000_000 => format!("{:.1} ms", time as f64 / 1e3),
        _ => format!("{:.2} s", time as f64 / 1e6),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{Offline, check};

    #[test]
    fn a_graph_is_a_picture_and_a_run_shows_its_times() {
        let text = "flow inner(A) => (B) { g(a = each A) => (B = r); }
            flow f(A, W) => (C, E) { h(a = all A) => (M = r); inner(A = each M) => (N = B);
                k(n = all N, m = optional all M, w = keyed W) => (C = r) on error => E; }";
        let program = check(text, None, &Offline).program.unwrap();
        let plain = draw(&program, None);
        for part in [
            ">h<",
            ">each M<",
            ">all M?<",
            ">keyed W<",
            ">inner<",
            ">g<",
            ">C<",
            "class=\"e x\"",
            "prefers-color-scheme",
        ] {
            assert!(plain.contains(part), "{part} in {plain}");
        }
        let timing = Timing { shards: 3, failed: 1, begun_us: 500, ended_us: 1_500, busy_us: 3_000 };
        let times = Times { total_us: 2_000, apps: BTreeMap::from([((1, 0), timing)]) };
        let run = draw(&program, Some(&times));
        for part in ["f · 2.0 ms", "3 shards, 1 failed · 1.0 ms each", "not run"] {
            assert!(run.contains(part), "{part} in {run}");
        }
        assert_eq!(plain.matches("<rect").count(), plain.matches("<rect class").count());
    }

    /// No two boxes of a picture lie on each other.
    #[test]
    fn boxes_stand_apart() {
        let calls: String = (0..12)
            .map(|index| format!("f{index}(a = each A, b = all B{}) => (B{index} = r);", index / 2 + 20))
            .collect();
        let sets: String = (20..26).map(|index| format!("set B{index} = \"x\";")).collect();
        let outputs = (0..12).map(|index| format!("B{index}")).collect::<Vec<_>>().join(", ");
        let text = format!("flow f(A) => ({outputs}) {{ {sets} {calls} }}");
        let program = check(&text, None, &Offline).program.unwrap();
        let picture = Picture::of(program.main(), 0, None);
        for (index, a) in picture.nodes.iter().enumerate() {
            for b in &picture.nodes[..index] {
                let apart =
                    (a.x - b.x).abs() >= (a.width + b.width) / 2.0 || (a.y - b.y).abs() >= (a.height + b.height) / 2.0;
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }
}
