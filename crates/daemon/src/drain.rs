//! Drain by tokens: those who have something to finish hold a watch; the daemon ends when all watches are dropped.
//!
//! How long the daemon is willing to wait is its own affair.

use tokio::sync::{mpsc, watch};

/// Begins the drain, and waits for its end.
pub struct Trigger {
    begun: watch::Sender<bool>,
    /// Never sends: closed when the last watch is dropped.
    held: mpsc::Receiver<()>,
}

/// Learns of the drain; holding it keeps the daemon alive.
#[derive(Clone)]
pub struct Watch {
    signal: Signal,
    _hold: mpsc::Sender<()>,
}

/// Learns of the drain; nobody waits for it.
#[derive(Clone)]
pub struct Signal {
    begun: watch::Receiver<bool>,
}

/// A drain that has not begun.
pub fn new() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(false);
    let (hold, held) = mpsc::channel(1);
    (Trigger { begun: sender, held }, Watch { signal: Signal { begun: receiver }, _hold: hold })
}

impl Trigger {
    /// Tells everybody.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Waits until every watch is dropped.
    pub async fn finished(mut self) {
        while self.held.recv().await.is_some() {}
    }
}

impl Watch {
    /// The same news, without the power to keep the daemon alive.
    pub fn signal(&self) -> Signal {
        self.signal.clone()
    }

    /// Waits until the drain begins.
    pub async fn begun(&mut self) {
        self.signal.begun().await;
    }
}

impl Signal {
    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until the drain begins. A trigger that is gone counts as one that was pulled.
    pub async fn begun(&mut self) {
        let _ = self.begun.wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_daemon_waits_for_those_who_watch() {
        let (trigger, mut watch) = new();
        let (signal, other) = (watch.signal(), watch.clone());
        assert!(!signal.has_begun());
        let work = tokio::spawn(async move {
            watch.begun().await;
            "finished"
        });
        trigger.begin();
        assert_eq!(work.await.unwrap(), "finished");
        assert!(signal.has_begun());
        drop(other);
        trigger.finished().await;
    }
}
