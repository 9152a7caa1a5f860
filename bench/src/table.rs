//! A figure as text.

use crate::figure::{Arm, Figure};

const HEADINGS: [&str; 7] = ["arm", "unit", "n", "p50", "p99", "min", "mean"];

/// A heading, the arms in aligned columns, and the notes.
pub fn render(figure: &Figure) -> String {
    let rows: Vec<[String; 7]> =
        [HEADINGS.map(str::to_owned)].into_iter().chain(figure.arms.iter().map(cells)).collect();
    let widths: Vec<usize> = (0..7).map(|c| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = format!("{}  ({})\n{}\n\n", figure.figure, figure.paper, figure.machine.describe());
    for row in &rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - cell.chars().count());
            line += &if c < 2 { format!("{cell}{space}  ") } else { format!("{space}{cell}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    for note in &figure.notes {
        text += &format!("\n{note}\n");
    }
    for fault in &figure.faults {
        text += &format!("\nFAILED: {fault}\n");
    }
    text
}

fn cells(arm: &Arm) -> [String; 7] {
    let Arm { name, unit, n, p50, p99, min, mean } = arm;
    let number = |value: &f64| digits(*value);
    [name.clone(), unit.as_str().to_owned(), n.to_string(), number(p50), number(p99), number(min), number(mean)]
}

/// Three digits that mean something, all digits of what is larger.
pub fn digits(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 || magnitude == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Unit;
    use crate::machine::Machine;

    #[test]
    fn columns_are_aligned() {
        let arms = [("warm", 0.0512), ("crun run", 1234.5)];
        let arms = arms.iter().filter_map(|(name, v)| Arm::of(*name, Unit::Milliseconds, &[*v])).collect();
        let figure = Figure::new("startup", "ours", &Machine::default(), arms).with_notes(["All of it."]);
        let text = render(&figure);
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(lines[0], "arm       unit  n    p50    p99    min   mean");
        assert_eq!(lines[1], "warm      ms    1  0.051  0.051  0.051  0.051");
        assert!(lines[2].starts_with("crun run  ms    1   12"));
        assert!(text.ends_with("\nAll of it.\n"));
    }

    #[test]
    fn three_digits() {
        assert_eq!(
            [0.0, 0.05123, 1.2345, 12.345, 123.45, 17363.0].map(digits),
            ["0.00", "0.051", "1.23", "12.3", "123", "17363"]
        );
    }
}
