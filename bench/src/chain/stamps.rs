//! What the stages of a chain have noted: when each ran, and over HTTP when each had its answer.

use serde::Deserialize;

/// The event that the first stage gets.
pub const EVENT: &[u8] = br#"{"at":[],"back":[]}"#;

/// In nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Deserialize)]
pub struct Stamps {
    /// First and last line of each handler.
    at: Vec<[u64; 2]>,
    /// When the answer of the next stage was there: the last caller's first.
    back: Vec<u64>,
}

impl Stamps {
    pub fn parse(answer: &[u8]) -> Option<Self> {
        serde_json::from_slice(answer).ok()
    }

    pub fn stages(&self) -> usize {
        self.at.len()
    }

    /// Microseconds from one handler's end to the next one's beginning.
    pub fn hops(&self) -> impl Iterator<Item = f64> {
        self.at.windows(2).map(|two| micros(two[0][1], two[1][0]))
    }

    /// Microseconds of each call, there and back, less what the callee did meanwhile; none where answers do not come back.
    pub fn calls(&self) -> impl Iterator<Item = f64> {
        let answered = |caller: usize| self.back.iter().rev().nth(caller).copied();
        self.at.windows(2).enumerate().filter_map(move |(caller, two)| {
            let done = answered(caller + 1).unwrap_or(two[1][1]);
            Some(micros(two[0][1], answered(caller)?) - micros(two[1][0], done))
        })
    }
}

fn micros(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_and_calls() {
        let stamps = Stamps::parse(br#"{"at":[[0,1000],[3000,4000],[9000,10000]],"back":[12000,15000]}"#).unwrap();
        assert_eq!((stamps.stages(), stamps.hops().collect::<Vec<_>>()), (3, vec![2.0, 5.0]));
        // The first stage waits from 1 to 15, the second works from 3 to 12; that one waits from 4 to 12, the third works 1.
        assert_eq!(stamps.calls().collect::<Vec<_>>(), [5.0, 7.0]);
        let one_way = Stamps::parse(br#"{"at":[[0,1],[2,3]],"back":[]}"#).unwrap();
        assert_eq!(one_way.calls().count(), 0);
        assert!(Stamps::parse(b"\"no\"").is_none());
    }
}
