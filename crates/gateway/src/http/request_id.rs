//! Request ids and trace ids: random, from the kernel, fetched for many requests at a time.

use rustix::rand::{GetRandomFlags, getrandom};
use std::cell::RefCell;
use uuid::Builder;

const POOL: usize = 4096;

thread_local! {
    static RANDOM: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], used: POOL }) };
}

struct Pool {
    bytes: [u8; POOL],
    used: usize,
}

/// Random bytes that nobody else gets.
fn random<const N: usize>() -> [u8; N] {
    RANDOM.with_borrow_mut(|pool| {
        if pool.used + N > POOL {
            pool.refill();
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&pool.bytes[pool.used..pool.used + N]);
        pool.used += N;
        bytes
    })
}

impl Pool {
    fn refill(&mut self) {
        let mut filled = 0;
        while filled < POOL {
            // Only a kernel without the call, or one that has no random numbers yet, refuses; neither runs this.
            match getrandom(&mut self.bytes[filled..], GetRandomFlags::empty()) {
                Ok(more) => filled += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel has no random numbers: {error}"),
            }
        }
        self.used = 0;
    }
}

/// A new request's id: a random UUID.
pub fn request_id() -> String {
    Builder::from_random_bytes(random()).into_uuid().hyphenated().to_string()
}

/// A trace of its own, for a request that is part of none.
pub fn trace_id(seconds: u64) -> String {
    let [root, parent] = [u128::from_ne_bytes(random()) & ((1 << 96) - 1), u128::from(u64::from_ne_bytes(random()))];
    format!("Root=1-{:08x}-{root:024x};Parent={parent:016x};Sampled=0", seconds as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_uuids_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'));
        let trace = trace_id(1_738_324_800);
        assert!(trace.starts_with("Root=1-679cbb40-") && trace.len() == 7 + 8 + 1 + 24 + 8 + 16 + 10, "{trace}");
    }
}
