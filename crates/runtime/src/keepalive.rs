//! How long an instance is kept that nobody uses: a fixed time. Pure.

/// How many of a function's idle instances are due to end at `now`, those idle for longest first. `since` are the times
/// since when they are idle, ascending; `spare` says how many the function can lose before it has fewer than it must
/// keep.
pub fn due(since: impl Iterator<Item = u64>, now: u64, keep: u64, spare: usize) -> usize {
    since.take_while(|since| now.saturating_sub(*since) >= keep).count().min(spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_idle_for_long_enough_ends() {
        let since = [10, 20, 30];
        assert_eq!(due(since.into_iter(), 29, 20, 9), 0);
        assert_eq!(due(since.into_iter(), 40, 20, 9), 2);
        assert_eq!(due(since.into_iter(), 40, 20, 1), 1);
        assert_eq!(due(since.into_iter(), 90, 20, 0), 0);
    }
}
