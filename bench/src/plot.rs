//! A figure as an SVG picture, without any library: a panel for each unit, a row for each arm.
//!
//! ```text
//!   lichen, warm     |-●----|                         12 us (99 %: 31)
//!   crun run                         |---●-------|    41 ms
//!                  0.01   0.1    1     10    100
//! ```
//! What is Lichen's is green, all else grey. Colours and fonts work on a white page; the picture brings that page along.

mod axis;
mod curves;

use crate::figure::{Arm, Figure, Shape, Unit};
use crate::table::digits;
use axis::Axis;

const WIDTH: f64 = 920.0;
const ROW: f64 = 24.0;
const MARGIN: f64 = 16.0;
const AXIS_HEIGHT: f64 = 34.0;
/// Of a letter of the labels, about.
const LETTER: f64 = 6.7;
/// Where the numbers at the end of a row stand.
const NUMBERS: f64 = 132.0;
const OURS: &str = "#2f7d4f";
const THEIRS: &str = "#8a8f98";
/// Of the parts of a stack, in their order; repeated when there are more.
const PARTS: [&str; 8] = ["#2f7d4f", "#7fb88f", "#c9b458", "#d9883d", "#b5523b", "#7b5ea7", "#4a7fb5", "#8a8f98"];

/// The picture's text.
pub fn render(figure: &Figure) -> String {
    let mut picture = Picture::default();
    picture.title(figure);
    match figure.shape {
        Shape::Ranges => panels(&figure.arms).into_iter().for_each(|(unit, arms)| picture.ranges(unit, &arms)),
        Shape::Stacks => picture.stacks(&figure.arms),
        Shape::Curves => curves::draw(&mut picture, &figure.arms),
    }
    picture.finish()
}

/// Arms by unit, in the order in which units appear.
fn panels(arms: &[Arm]) -> Vec<(Unit, Vec<&Arm>)> {
    let mut panels: Vec<(Unit, Vec<&Arm>)> = Vec::new();
    for arm in arms {
        match panels.iter_mut().find(|(unit, _)| *unit == arm.unit) {
            Some((_, members)) => members.push(arm),
            None => panels.push((arm.unit, vec![arm])),
        }
    }
    panels
}

/// A bar and its parts.
type Bar<'a> = (&'a str, Vec<(&'a str, f64)>);

fn bars(arms: &[Arm]) -> Vec<Bar<'_>> {
    let mut bars: Vec<Bar<'_>> = Vec::new();
    for arm in arms {
        let (bar, part) = arm.name.rsplit_once(": ").unwrap_or((&arm.name, ""));
        match bars.iter_mut().find(|(name, _)| *name == bar) {
            Some((_, parts)) => parts.push((part, arm.p50)),
            None => bars.push((bar, vec![(part, arm.p50)])),
        }
    }
    bars
}

/// A picture that grows downwards.
#[derive(Default)]
struct Picture {
    body: String,
    height: f64,
}

impl Picture {
    fn title(&mut self, figure: &Figure) {
        self.text(MARGIN, 28.0, "start", "title", &figure.figure);
        self.text(MARGIN, 46.0, "start", "note", &figure.paper);
        self.text(MARGIN, 62.0, "start", "note", &figure.machine.describe());
        self.height = 82.0;
    }

    fn ranges(&mut self, unit: Unit, arms: &[&Arm]) {
        let left = label_width(arms.iter().map(|arm| arm.name.as_str()));
        let axis = Axis::over(arms.iter().flat_map(|arm| [arm.min, arm.p50, arm.p99]), left, WIDTH - NUMBERS);
        self.grid(&axis, arms.len(), unit);
        for arm in arms {
            let y = self.height + ROW / 2.0;
            let colour = if arm.name.starts_with("lichen") { OURS } else { THEIRS };
            let (from, median, to) = (axis.place(arm.min), axis.place(arm.p50), axis.place(arm.p99));
            self.text(left - 10.0, y + 4.0, "end", "label", &arm.name);
            self.line((from, y), (to, y), &format!("stroke=\"{colour}\" stroke-width=\"3\" opacity=\"0.55\""));
            self.body += &format!("<circle cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>\n");
            let numbers = format!("{} (99 %: {})", digits(arm.p50), digits(arm.p99));
            self.text(WIDTH - NUMBERS + 12.0, y + 4.0, "start", "number", &numbers);
            self.height += ROW;
        }
        self.height += AXIS_HEIGHT;
    }

    fn stacks(&mut self, arms: &[Arm]) {
        let Some(unit) = arms.first().map(|arm| arm.unit) else { return };
        let bars = bars(arms);
        let left = label_width(bars.iter().map(|(name, _)| *name));
        let totals: Vec<f64> = bars.iter().map(|(_, parts)| parts.iter().map(|(_, value)| value).sum()).collect();
        let axis = Axis::from_zero(totals.iter().copied().fold(0.0, f64::max), left, WIDTH - NUMBERS);
        let mut names: Vec<&str> = Vec::new();
        bars.iter().flat_map(|(_, parts)| parts).for_each(|(part, _)| {
            if !names.contains(part) {
                names.push(part);
            }
        });
        self.legend(&names, left);
        self.grid(&axis, bars.len(), unit);
        for ((name, parts), total) in bars.iter().zip(&totals) {
            let y = self.height + ROW / 2.0;
            self.text(left - 10.0, y + 4.0, "end", "label", name);
            let mut sum = 0.0;
            for (part, value) in parts {
                let colour = PARTS[names.iter().position(|name| name == part).unwrap_or(0) % PARTS.len()];
                let (from, to) = (axis.place(sum), axis.place(sum + value));
                let (top, width) = (y - 7.0, to - from);
                self.body += &format!(
                    "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\n"
                );
                sum += value;
            }
            self.text(WIDTH - NUMBERS + 12.0, y + 4.0, "start", "number", &digits(*total));
            self.height += ROW;
        }
        self.height += AXIS_HEIGHT;
    }

    fn legend(&mut self, names: &[&str], left: f64) {
        let mut x = left;
        for (name, colour) in names.iter().zip(PARTS.iter().cycle()) {
            let width = 24.0 + name.chars().count() as f64 * LETTER;
            if x + width > WIDTH - MARGIN {
                (x, self.height) = (left, self.height + 18.0);
            }
            let y = self.height;
            self.body +=
                &format!("<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\n", y - 9.0);
            self.text(x + 15.0, y, "start", "label", name);
            x += width + 8.0;
        }
        self.height += 14.0;
    }

    /// Lines behind the rows to come, and the numbers and the unit below them.
    fn grid(&mut self, axis: &Axis, rows: usize, unit: Unit) {
        let (top, bottom) = (self.height, self.height + rows as f64 * ROW);
        for (value, x) in axis.ticks() {
            self.line((x, top), (x, bottom + 4.0), "stroke=\"#e3e5e8\"");
            self.text(x, bottom + 18.0, "middle", "note", &tick_label(value));
        }
        let kind = if axis.is_logarithmic() { ", logarithmic" } else { "" };
        self.text(WIDTH - NUMBERS + 12.0, bottom + 18.0, "start", "note", &format!("{}{kind}", unit.as_str()));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) {
        self.body += &format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>\n");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = escape(text);
        self.body +=
            &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>\n");
    }

    fn finish(self) -> String {
        let height = self.height + MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\">\n\
             <style>.title{{font-size:17px;font-weight:bold}}.note{{font-size:11px;fill:#60656d}}\
             .label{{font-size:12.5px}}.number{{font-size:11.5px;fill:#30343a}}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn label_width<'a>(labels: impl Iterator<Item = &'a str>) -> f64 {
    labels.map(|label| label.chars().count()).max().unwrap_or(0) as f64 * LETTER + MARGIN + 14.0
}

/// As short as it can be: ticks are round numbers.
fn tick_label(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn figure(shape: Shape, arms: &[(&str, Unit, f64)]) -> Figure {
        let arms = arms.iter().filter_map(|(name, unit, v)| Arm::of(*name, *unit, &[*v, *v * 2.0])).collect();
        Figure { shape, ..Figure::new("a < b", "ours", &Machine::default(), arms) }
    }

    #[test]
    fn ranges_have_a_panel_for_each_unit() {
        let arms = [
            ("lichen, warm", Unit::Microseconds, 50.0),
            ("lichen, c=16", Unit::PerSecond, 9.0),
            ("crun", Unit::Microseconds, 9e4),
        ];
        let svg = render(&figure(Shape::Ranges, &arms));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a &lt; b") && svg.contains(">us, logarithmic<") && svg.contains(">1/s<"));
        assert_eq!((svg.matches(OURS).count(), svg.matches(THEIRS).count()), (4, 2));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn stacks_add_up() {
        let arms = [
            ("lichen: fork", Unit::Microseconds, 10.0),
            ("lichen: enter", Unit::Microseconds, 30.0),
            ("crun: fork", Unit::Microseconds, 20.0),
        ];
        let figure = figure(Shape::Stacks, &arms);
        assert_eq!(
            bars(&figure.arms),
            [("lichen", vec![("fork", 10.0), ("enter", 30.0)]), ("crun", vec![("fork", 20.0)])]
        );
        let svg = render(&figure);
        assert!(svg.contains(">40.0<") && svg.contains(">enter<"));
        // The page, two squares of the legend, three parts.
        assert_eq!(svg.matches("<rect").count(), 6);
    }

    #[test]
    fn a_figure_without_arms_is_a_picture_too() {
        assert!(render(&figure(Shape::Curves, &[])).ends_with("</svg>\n"));
        assert!(render(&figure(Shape::Stacks, &[])).ends_with("</svg>\n"));
        assert!(render(&figure(Shape::Ranges, &[])).ends_with("</svg>\n"));
    }
}
