//! What a measurement results in: a figure with one arm for each thing that was compared.
//!
//! Its JSON is the interface of `lichen bench -o json`. How it is drawn, and what a reader has to know of it, go to the
//! table and the plot only.

use crate::machine::Machine;
use serde::Serialize;

/// One figure of a paper, or one of our own.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// A name for files: `startup-python`.
    pub figure: String,
    /// What it corresponds to: `Molecule (ASPLOS '22), Figure 10a`.
    pub paper: String,
    pub machine: Machine,
    pub arms: Vec<Arm>,
    #[serde(skip)]
    pub shape: Shape,
    /// Sentences for the reader: how it was measured, what is left out.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// What should not have happened. A figure that has any is a failure.
    #[serde(skip)]
    pub faults: Vec<String>,
}

impl Figure {
    /// Of ranges, with nothing to be said about it.
    pub fn new(figure: impl Into<String>, paper: impl Into<String>, machine: &Machine, arms: Vec<Arm>) -> Self {
        let (figure, paper, machine) = (figure.into(), paper.into(), machine.clone());
        Self { figure, paper, machine, arms, shape: Shape::Ranges, notes: Vec::new(), faults: Vec::new() }
    }

    /// The same with notes for its reader.
    pub fn with_notes(mut self, notes: impl IntoIterator<Item: Into<String>>) -> Self {
        self.notes.extend(notes.into_iter().map(Into::into));
        self
    }
}

/// How a figure is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// For each arm the range from the quickest to the 99th percentile, and the median in it.
    #[default]
    Ranges,
    /// Arms named `BAR: PART`: one bar for each BAR, the medians of its parts stacked.
    Stacks,
    /// Arms named `WHAT at LOAD/s`: for each WHAT a curve, latency against load.
    Curves,
}

/// One thing that was measured again and again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    pub name: String,
    pub unit: Unit,
    pub n: usize,
    pub p50: f64,
    pub p99: f64,
    pub min: f64,
    pub mean: f64,
}

/// What an arm counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "MiB/s")]
    MebibytesPerSecond,
    #[serde(rename = "1")]
    Count,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::PerSecond => "1/s",
            Self::Mebibytes => "MiB",
            Self::MebibytesPerSecond => "MiB/s",
            Self::Count => "1",
        }
    }
}

impl Arm {
    /// The statistics of `samples`; nothing where there is none. Percentiles are samples, by nearest rank.
    pub fn of(name: impl Into<String>, unit: Unit, samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            name: name.into(),
            unit,
            n: sorted.len(),
            p50: rounded(rank(50)?),
            p99: rounded(rank(99)?),
            min: rounded(*sorted.first()?),
            mean: rounded(sorted.iter().sum::<f64>() / sorted.len() as f64),
        })
    }
}

/// Nanoseconds are the finest that any clock here tells, and more digits than that only look exact.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let arm = Arm::of("a", Unit::Microseconds, &samples).unwrap();
        assert_eq!((arm.n, arm.min, arm.p50, arm.p99, arm.mean), (100, 1.0, 50.0, 99.0, 50.5));
        let one = Arm::of("a", Unit::Microseconds, &[7.0]).unwrap();
        assert_eq!((one.n, one.min, one.p50, one.p99, one.mean), (1, 7.0, 7.0, 7.0, 7.0));
        assert_eq!(Arm::of("a", Unit::Microseconds, &[]), None);
    }

    #[test]
    fn json_has_these_members_and_no_others() {
        let arms = Arm::of("a", Unit::Milliseconds, &[1.0, 2.0, 4.0]).into_iter().collect();
        let figure = Figure::new("f", "p", &Machine::default(), arms).with_notes(["a note"]);
        let json = serde_json::to_value(&figure).unwrap();
        let members = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(members(&json), ["figure", "paper", "machine", "arms"]);
        assert_eq!(members(&json["arms"][0]), ["name", "unit", "n", "p50", "p99", "min", "mean"]);
        assert_eq!(json["arms"][0]["unit"], "ms");
        assert_eq!(json["arms"][0]["mean"], 2.333);
    }
}
