//! Readiness by tokens: who has something to do before the daemon can serve holds one, and dropping it says it is done.
//!
//! What comes and goes while the daemon runs (a worker) is not a token: it is asked when the question is asked.

use std::sync::{Arc, Mutex, PoisonError};

/// What a daemon still waits for.
#[derive(Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<Vec<&'static str>>>,
}

/// One thing that has to happen first; it has when this is dropped.
#[must_use = "dropping the token at once says that it has happened"]
pub struct Token {
    name: &'static str,
    waiting: Arc<Mutex<Vec<&'static str>>>,
}

impl Readiness {
    /// Adds something to wait for.
    pub fn wait_for(&self, name: &'static str) -> Token {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Token { name, waiting: self.waiting.clone() }
    }

    /// What has not happened yet; empty when the daemon is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = waiting.iter().position(|name| *name == self.name) {
            waiting.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_token_is_dropped() {
        let readiness = Readiness::default();
        let (registry, first, second) =
            (readiness.wait_for("registry"), readiness.wait_for("peer"), readiness.wait_for("peer"));
        drop(first);
        assert_eq!(readiness.missing(), ["registry", "peer"]);
        drop((second, registry));
        assert!(readiness.missing().is_empty());
    }
}
