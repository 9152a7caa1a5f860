//! Connections that are kept for the next request: bounded in number, and in how long nobody needs them.
//!
//! A connection of HTTP/1.1 is lent to one request at a time; one of HTTP/2 to all who come. A connection was checked
//! when it was made, by the name that it is kept under. Where the oldest is not needed any more it is closed by a task
//! that lives only as long as there is a connection to close.

use crate::request::{Target, Version};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// What a connection is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    https: bool,
    host: String,
    port: u16,
    version: Version,
}

impl Key {
    pub fn of(target: &Target, version: Version) -> Self {
        Self { https: target.https, host: target.host.clone(), port: target.port, version }
    }
}

/// Where requests go in.
pub enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }
}

struct Kept {
    key: Key,
    sender: Sender,
    since: Instant,
}

/// The connections that are kept, the longest unused first.
pub struct Pool {
    most: usize,
    patience: Duration,
    state: Mutex<State>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    is_swept: bool,
}

impl Pool {
    pub fn new(most: usize, patience: Duration) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { most, patience, state: Mutex::default(), this: this.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before; the youngest, which its other end has closed least probably.
    pub fn take(&self, key: &Key) -> Option<Sender> {
        let mut state = self.state();
        state.kept.retain(|kept| !kept.sender.is_closed());
        let at = state.kept.iter().rposition(|kept| kept.key == *key)?;
        let mut kept = state.kept.remove(at)?;
        if let Sender::Two(sender) = &kept.sender {
            let sender = sender.clone();
            kept.since = Instant::now();
            state.kept.push_back(kept);
            return Some(Sender::Two(sender));
        }
        Some(kept.sender)
    }

    /// Lends a connection of HTTP/2 to nobody any more.
    pub fn forget_shared(&self, key: &Key) {
        self.state().kept.retain(|kept| kept.key != *key || matches!(kept.sender, Sender::One(_)));
    }

    /// Keeps a connection for whoever comes next.
    pub fn put(&self, key: Key, sender: Sender) {
        if sender.is_closed() || self.most == 0 {
            return;
        }
        let mut state = self.state();
        if matches!(sender, Sender::Two(_)) && state.kept.iter().any(|kept| kept.key == key) {
            return;
        }
        if state.kept.len() >= self.most {
            state.kept.pop_front();
        }
        state.kept.push_back(Kept { key, sender, since: Instant::now() });
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(self.this.clone(), self.patience));
        }
    }

    /// Closes what is not needed any more; when the next one will not be, if there is one.
    fn close_old(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        state.kept.retain(|kept| !kept.sender.is_closed() && kept.since + self.patience > now);
        let next = state.kept.front().map(|kept| kept.since + self.patience);
        state.is_swept = next.is_some();
        next
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.state().kept.len()
    }
}

async fn sweep(pool: Weak<Pool>, patience: Duration) {
    let mut next = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        match pool.close_old() {
            Some(then) => next = then,
            None => return,
        }
    }
}
