//! Latency against load: arms named `WHAT at LOAD/s`, a curve for each WHAT, through its medians and, broken, through its
//! 99th percentiles.

use super::axis::Axis;
use super::{AXIS_HEIGHT, MARGIN, NUMBERS, PARTS, Picture, WIDTH, tick_label};
use crate::figure::Arm;

const HEIGHT: f64 = 280.0;
const LEFT: f64 = 70.0;

/// A curve: of each arm the load and the arm itself.
type Curve<'a> = (&'a str, Vec<(f64, &'a Arm)>);

/// Arms by what they are of, each with its load, in their order.
fn curves(arms: &[Arm]) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for arm in arms {
        let Some((name, load)) = arm.name.rsplit_once(" at ") else { continue };
        let Some(load) = load.strip_suffix("/s").and_then(|load| load.parse().ok()) else { continue };
        match curves.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push((load, arm)),
            None => curves.push((name, vec![(load, arm)])),
        }
    }
    curves
}

pub fn draw(picture: &mut Picture, arms: &[Arm]) {
    let curves = curves(arms);
    let Some(unit) = arms.first().map(|arm| arm.unit) else { return };
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    picture.legend(&names, LEFT);
    let (top, bottom) = (picture.height, picture.height + HEIGHT);
    let points = || curves.iter().flat_map(|(_, points)| points);
    let across = Axis::from_zero(points().map(|(load, _)| *load).fold(0.0, f64::max), LEFT, WIDTH - NUMBERS);
    let up = Axis::over(points().flat_map(|(_, arm)| [arm.p50, arm.p99]), bottom, top);
    for (value, x) in across.ticks() {
        picture.line((x, top), (x, bottom + 4.0), "stroke=\"#e3e5e8\"");
        picture.text(x, bottom + 18.0, "middle", "note", &tick_label(value));
    }
    for (value, y) in up.ticks() {
        picture.line((LEFT, y), (WIDTH - NUMBERS, y), "stroke=\"#e3e5e8\"");
        picture.text(LEFT - 8.0, y + 4.0, "end", "note", &tick_label(value));
    }
    picture.text(WIDTH - NUMBERS + 12.0, bottom + 18.0, "start", "note", "1/s");
    picture.text(MARGIN, top - 6.0, "start", "note", unit.as_str());
    for ((_, points), colour) in curves.iter().zip(PARTS.iter().cycle()) {
        let place = |load: f64, value: f64| (across.place(load), up.place(value));
        for pair in points.windows(2) {
            let [(from, first), (to, second)] = pair else { continue };
            let style = format!("stroke=\"{colour}\" stroke-width=\"2\"");
            picture.line(place(*from, first.p50), place(*to, second.p50), &style);
            picture.line(place(*from, first.p99), place(*to, second.p99), &format!("{style} stroke-dasharray=\"4 3\""));
        }
        for (load, arm) in points {
            let (x, y) = place(*load, arm.p50);
            picture.body += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n");
        }
    }
    picture.height = bottom + AXIS_HEIGHT;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Unit;

    #[test]
    fn arms_of_one_thing_are_a_curve() {
        let arm = |name: &str, value: f64| Arm::of(name, Unit::Microseconds, &[value, value * 3.0]).unwrap();
        let arms = [arm("a at 100/s", 5.0), arm("a at 200/s", 6.0), arm("b at 100/s", 7.0), arm("c", 8.0)];
        let found = curves(&arms);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1.len(), found[0].1[1].0), ("a", 2, 200.0));
        let mut picture = Picture::default();
        draw(&mut picture, &arms);
        assert_eq!((picture.body.matches("<circle").count(), picture.body.matches("dasharray").count()), (3, 1));
    }
}
