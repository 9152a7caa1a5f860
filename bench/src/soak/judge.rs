//! Which ends of invocations have a cause.
//!
//! An invocation that did not end as its function had it end must have been running when something was killed, and a kill
//! excuses no more of them than it can have met.

use super::kills::Kill;

/// An invocation that ended otherwise than expected.
#[derive(Clone, Debug)]
pub struct Surprise {
    pub function: &'static str,
    /// `CLOCK_MONOTONIC`, nanoseconds: from the request to its answer.
    pub from: u64,
    pub to: u64,
    pub said: String,
}

/// Those that no kill explains. A kill's news takes up to `delay` nanoseconds to arrive.
pub fn unexplained(mut surprises: Vec<Surprise>, kills: &[Kill], clients: usize, delay: u64) -> Vec<Surprise> {
    let mut left: Vec<(u64, usize)> = kills.iter().map(|kill| (kill.at, kill.reach(clients))).collect();
    // Whoever ended first has the fewest kills to choose from.
    surprises.sort_by_key(|surprise| surprise.to);
    surprises.retain(|surprise| {
        let met = |at: u64| at <= surprise.to && at + delay >= surprise.from;
        match left.iter_mut().find(|(at, reach)| *reach > 0 && met(*at)) {
            Some((_, reach)) => {
                *reach -= 1;
                false
            }
            None => true,
        }
    });
    surprises
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::census::Part;

    fn surprise(from: u64, to: u64) -> Surprise {
        Surprise { function: "f", from, to, said: String::new() }
    }

    fn left(surprises: &[(u64, u64)], kills: &[(Part, u64)]) -> Vec<u64> {
        let kills: Vec<Kill> = kills.iter().map(|&(part, at)| Kill { part, at }).collect();
        let surprises = surprises.iter().map(|&(from, to)| surprise(from, to)).collect();
        unexplained(surprises, &kills, 2, 10).into_iter().map(|surprise| surprise.from).collect()
    }

    #[test]
    fn a_kill_explains_what_ran_when_it_happened() {
        assert_eq!(left(&[(100, 200)], &[(Part::Worker, 150)]), [0; 0]);
        assert_eq!(left(&[(100, 200)], &[(Part::Worker, 95)]), [0; 0]);
        assert_eq!(left(&[(100, 200)], &[(Part::Worker, 80)]), [100]);
        assert_eq!(left(&[(100, 200)], &[(Part::Worker, 201)]), [100]);
        assert_eq!(left(&[(100, 200)], &[]), [100]);
    }

    #[test]
    fn a_kill_explains_no_more_than_it_met() {
        assert_eq!(left(&[(100, 200), (110, 210)], &[(Part::Instance, 150)]), [110]);
        assert_eq!(left(&[(100, 200), (110, 210), (120, 220)], &[(Part::Worker, 150)]), [120]);
        assert_eq!(left(&[(100, 200), (140, 300)], &[(Part::Instance, 150), (Part::Instance, 250)]), [0; 0]);
    }
}
