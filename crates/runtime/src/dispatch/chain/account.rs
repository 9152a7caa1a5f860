//! What each stage is told to have taken, and what that costs.
//!
//! Instances say themselves when their handlers began and ended, so it is not to be believed further than it is possible:
//! the gateway's own clock says when the request was sent and when its answer came, and the stages share what lies between,
//! each up to where the next took over. Whatever they say, all of it is paid for, and once.

use cfork::invocation::Served;
use std::time::Duration;

/// What each of the stages took that the request came to, by when their handlers ended; the last of these may not have.
pub(super) fn durations(sent: u64, received: u64, served: &[Option<Served>]) -> Vec<Duration> {
    let received = received.max(sent);
    let mut from = sent;
    let mut durations = Vec::with_capacity(served.len());
    for (at, served_here) in served.iter().enumerate() {
        let is_last = at + 1 == served.len();
        let until = match served_here {
            Some(served) if !is_last => served.ended.clamp(from, received),
            _ if is_last => received,
            _ => from,
        };
        durations.push(Duration::from_nanos(until - from));
        from = until;
    }
    durations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(served: &[Option<u64>]) -> Vec<u64> {
        let served: Vec<_> = served.iter().map(|ended| ended.map(|ended| Served { begun: 0, ended })).collect();
        durations(100, 200, &served).iter().map(|taken| taken.as_nanos() as u64).collect()
    }

    #[test]
    fn stages_share_the_time_that_the_gateway_has_seen() {
        assert_eq!(taken(&[Some(120), Some(150), Some(190)]), [20, 30, 50]);
        assert_eq!(taken(&[None]), [100]);
        assert_eq!(taken(&[Some(130), None]), [30, 70]);
    }

    #[test]
    fn lies_change_no_sum() {
        for lies in [[Some(0), Some(u64::MAX), None], [Some(u64::MAX), Some(0), Some(7)], [None, Some(150), None]] {
            assert_eq!(taken(&lies).iter().sum::<u64>(), 100, "{lies:?}");
        }
        assert_eq!(durations(200, 100, &[None]), [Duration::ZERO]);
    }
}
