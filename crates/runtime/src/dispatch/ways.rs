//! What the ways between a request and an engine take: to one on the request's processor, and to one on another.
//!
//! Which is shorter is the machine's: where an idle processor looks for work for a moment, another one is as good as awake, and both do
//! their own; where it has to be woken by its host that takes ten times what a change of threads takes. So it is measured, by requests
//! that were alone; and some requests go the way that seems longer.

/// What a way is believed to take until it is known, in nanoseconds.
const HERE: u64 = 20_000;
const AWAY: u64 = 40_000;
/// Longer none is: something else happened then.
const MOST: u64 = 200_000;
/// Of so many requests one goes the other way: of the first ones, and of all later ones.
const BEGINNING: u32 = 64;
const OFTEN: u32 = 4;
const SELDOM: u32 = 128;

/// The way of one request, to its engine and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Here,
    Away,
}

/// The ways of this machine, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    here: u64,
    away: u64,
    asked: u32,
}

impl Default for Ways {
    fn default() -> Self {
        Self { here: HERE, away: AWAY, asked: 0 }
    }
}

impl Ways {
    /// What they are expected to take, to an engine here and to one elsewhere.
    pub fn expected(&self) -> (u64, u64) {
        (self.here, self.away)
    }

    /// The same for the next request, one of those that may go the other way.
    pub fn next(&mut self) -> (u64, u64) {
        self.asked = self.asked.saturating_add(1);
        let every = if self.asked < BEGINNING { OFTEN } else { SELDOM };
        let turns = self.asked.is_multiple_of(every);
        if self.asked == u32::MAX {
            self.asked = BEGINNING;
        }
        if turns { (self.away, self.here) } else { (self.here, self.away) }
    }

    /// A request that was alone has taken this way, and so long for it.
    pub fn took(&mut self, way: Way, nanoseconds: u64) {
        let known = match way {
            Way::Here => &mut self.here,
            Way::Away => &mut self.away,
        };
        *known = *known - *known / 8 + nanoseconds.min(MOST) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many requests went which way, where these take so long.
    fn play(ways: &mut Ways, (here, away): (u64, u64), requests: u32) -> (u32, u32) {
        let mut went = (0, 0);
        for _ in 0..requests {
            let (to_here, to_away) = ways.next();
            let (way, took) = if to_here <= to_away { (Way::Here, here) } else { (Way::Away, away) };
            ways.took(way, took);
            *(if way == Way::Here { &mut went.0 } else { &mut went.1 }) += 1;
        }
        went
    }

    #[test]
    fn the_shorter_way_is_found_and_found_again() {
        for (first, then) in [((15_000, 9_000), (15_000, 90_000)), ((15_000, 90_000), (15_000, 9_000))] {
            let mut ways = Ways::default();
            let short =
                |(here, away): (u32, u32), (to_here, to_away): (u64, u64)| if to_here < to_away { here } else { away };
            play(&mut ways, first, 300);
            let went = play(&mut ways, first, 1280);
            assert_eq!(short(went, first), 1280 - 10, "{first:?}: {went:?}");
            // The machine has become another one.
            play(&mut ways, then, 6000);
            let went = play(&mut ways, then, 1280);
            assert_eq!(short(went, then), 1280 - 10, "{then:?}: {went:?}");
        }
    }
}
