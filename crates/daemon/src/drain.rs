//! Drain by tokens: those who have something to finish hold a watch; the daemon ends when all watches are dropped.
//!
//! How long the daemon is willing to wait is its own affair.

use tokio::sync::watch;

/// Begins the drain, and waits for its end.
pub struct Trigger {
    begun: watch::Sender<bool>,
}

/// Learns of the drain; holding it keeps the daemon alive.
#[derive(Clone)]
pub struct Watch {
    begun: watch::Receiver<bool>,
}

/// A drain that has not begun.
pub fn new() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(false);
    (Trigger { begun: sender }, Watch { begun: receiver })
}

impl Trigger {
    /// Tells every watch.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Waits until every watch is dropped.
    pub async fn finished(&self) {
        self.begun.closed().await;
    }
}

impl Watch {
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
        assert!(!watch.has_begun());
        let other = watch.clone();
        let work = tokio::spawn(async move {
            watch.begun().await;
            "finished"
        });
        trigger.begin();
        assert_eq!(work.await.unwrap(), "finished");
        assert!(other.has_begun());
        drop(other);
        trigger.finished().await;
    }
}
