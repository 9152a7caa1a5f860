//! Instances that want to hear of their end: told of it, and given a while, in which what they print still counts.
//!
//! Nobody waits for them but the end of the node. Most instances want none of it and end at once.

use super::journal::Journal;
use super::link::{Link, Said};
use super::shared::{Shared, Verdict};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use worker::protocol::Command;

/// What an instance has for its end, and some more: it is to end by itself.
const PATIENCE: Duration = Duration::from_millis(2500);

/// An instance that nobody uses any more.
pub(super) struct Parting {
    pub shared: Arc<Shared>,
    pub journal: Journal,
    pub link: Weak<Link>,
}

/// The farewells of a node.
#[derive(Debug)]
pub(super) struct Farewells {
    runtime: Handle,
    /// How many there are.
    under_way: watch::Sender<usize>,
}

impl Farewells {
    pub fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { runtime, under_way: watch::Sender::new(0) })
    }

    /// Waits for an instance that was told, and then ends it.
    pub fn see_off(self: &Arc<Self>, parting: Parting) {
        self.under_way.send_modify(|count| *count += 1);
        let farewells = self.clone();
        self.runtime.spawn(async move {
            parting.pass().await;
            farewells.under_way.send_modify(|count| *count -= 1);
        });
    }

    /// Waits until there are none.
    pub async fn over(&self) {
        // The sender is this very struct's: it is there.
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Parting {
    async fn pass(mut self) {
        let ended = std::future::poll_fn(|cx| match self.shared.poll(cx) {
            Some(Verdict::Departed(_)) => Poll::Ready(()),
            Some(Verdict::TimedOut) | None => self.journal.poll(cx).map(drop),
        });
        let _ = tokio::time::timeout(PATIENCE, ended).await;
        let _ = self.journal.drain().await;
        self.journal.end();
        if self.shared.retire()
            && let Some(link) = self.link.upgrade()
        {
            link.tell(Said::Command(Command::Retire { instance: self.shared.id }));
        }
    }
}
