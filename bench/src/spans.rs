//! When a request passed its stations, as the gateway tells it in a header of its answer.

use std::time::Duration;

/// Asked for with the value `1`, answered as `accepted=NS,decided=NS,…`: nanoseconds of `CLOCK_MONOTONIC`.
pub const HEADER: &str = "X-Lichen-Spans";

/// Stations in the order in which they are passed; 0 for those that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    pub accepted: u64,
    pub decided: u64,
    pub forked: u64,
    pub entered: u64,
    pub loaded: u64,
    pub begun: u64,
    pub ended: u64,
    pub received: u64,
}

impl Spans {
    /// What the header's value says; nothing where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut spans = Self::default();
        for field in text.split(',') {
            let (name, value) = field.split_once('=')?;
            let station = match name.trim() {
                "accepted" => &mut spans.accepted,
                "decided" => &mut spans.decided,
                "forked" => &mut spans.forked,
                "entered" => &mut spans.entered,
                "loaded" => &mut spans.loaded,
                "begun" => &mut spans.begun,
                "ended" => &mut spans.ended,
                "received" => &mut spans.received,
                _ => continue,
            };
            *station = value.trim().parse().ok()?;
        }
        (spans.accepted > 0 && spans.begun > spans.accepted).then_some(spans)
    }

    /// From the request's arrival to the handler's first line.
    pub fn start(&self) -> Duration {
        Duration::from_nanos(self.begun - self.accepted)
    }

    /// The way to the answer, cut at the stations that were passed: the name of each piece, and microseconds.
    pub fn pieces(&self) -> Vec<(&'static str, f64)> {
        let stations = [
            ("", self.accepted),
            ("decide", self.decided),
            ("fork", self.forked),
            ("enter", self.entered),
            ("load", self.loaded),
            ("begin", self.begun),
            ("handler", self.ended),
            ("answer", self.received),
        ];
        // Stations that a request did not pass, or that lie before it (a warm instance was loaded long ago).
        let passed: Vec<_> = stations.into_iter().filter(|(_, at)| *at >= self.accepted).collect();
        passed.windows(2).map(|two| (two[1].0, two[1].1.saturating_sub(two[0].1) as f64 / 1000.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_in_pieces() {
        let text = "accepted=1000,decided=2000,forked=100000,entered=150000,loaded=150500,begun=160000,ended=170000,received=200000,start=cold";
        let spans = Spans::parse(text).unwrap();
        assert_eq!(spans.start(), Duration::from_nanos(159_000));
        let pieces = spans.pieces();
        assert_eq!(pieces[0], ("decide", 1.0));
        assert_eq!(pieces.iter().map(|(_, us)| us).sum::<f64>(), 199.0);
    }

    #[test]
    fn a_warm_start_skips_what_was_long_ago() {
        let spans =
            Spans::parse("accepted=5000,decided=6000,forked=10,entered=20,loaded=30,begun=8000,ended=9000").unwrap();
        assert_eq!(spans.pieces(), [("decide", 1.0), ("begin", 2.0), ("handler", 1.0)]);
    }

    #[test]
    fn what_is_no_span_is_nothing() {
        for text in ["", "accepted", "accepted=x,begun=2", "begun=5", "accepted=9,begun=5"] {
            assert_eq!(Spans::parse(text), None, "{text}");
        }
    }
}
