//! What waits to be written. Appending costs a lock and no system call: the writer is woken only from its sleep, not
//! while it gathers a batch.

use super::record::LogGroup;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// From so many waiting bytes on, the writer does not wait for more.
const URGENT: usize = 1 << 20;
/// From so many waiting bytes on, there is no room for what functions print.
const FULL: usize = 8 << 20;

/// Lines of one invocation, that were read together.
#[derive(Debug)]
pub struct Entry {
    pub group: Arc<LogGroup>,
    pub stream: Arc<str>,
    pub request_id: Arc<str>,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// One or more lines. The last line break may be missing.
    pub text: Vec<u8>,
}

/// Events that a client put into a stream.
#[derive(Debug)]
pub struct Put {
    pub group: Arc<LogGroup>,
    pub stream: Arc<str>,
    /// When they came: milliseconds since 1970.
    pub put_ms: u64,
    /// When each happened, and its text.
    pub events: Vec<(u64, String)>,
}

/// What is to be deleted.
#[derive(Debug)]
pub(super) enum Removal {
    Group(LogGroup),
    Stream(LogGroup, String),
}

/// All that the writer is to do, in order: entries and puts, then removals, then answers to those who wait.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub entries: Vec<Entry>,
    /// With those who wait for them: whether they were written.
    pub puts: Vec<(Put, oneshot::Sender<bool>)>,
    pub removals: Vec<Removal>,
    pub flushed: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.puts.is_empty() && self.removals.is_empty() && self.flushed.is_empty()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    bytes: usize,
    /// Those who wait for room.
    wakers: Vec<Waker>,
    asleep: bool,
    closed: bool,
}

impl Waiting {
    fn is_urgent(&self) -> bool {
        self.bytes >= URGENT || self.closed || !self.batch.flushed.is_empty() || !self.batch.puts.is_empty()
    }
}

/// The queue between those who append and the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    lost: AtomicU64,
}

/// What the writer is woken for.
#[derive(Debug)]
pub(super) enum Wake {
    Write(Batch),
    /// Nothing came for as long as it wanted to sleep.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        let was_urgent = waiting.is_urgent();
        change(&mut waiting);
        let ring = waiting.asleep || (waiting.is_urgent() && !was_urgent);
        drop(waiting);
        if ring {
            self.bell.notify_one();
        }
    }

    pub fn push(&self, entry: Entry) {
        self.change(|waiting| {
            waiting.bytes += entry.text.len();
            waiting.batch.entries.push(entry);
        });
    }

    pub fn put(&self, put: Put, written: oneshot::Sender<bool>) {
        self.change(|waiting| {
            waiting.bytes += put.events.iter().map(|(_, text)| text.len()).sum::<usize>();
            waiting.batch.puts.push((put, written));
        });
    }

    pub fn remove(&self, removal: Removal) {
        self.change(|waiting| waiting.batch.removals.push(removal));
    }

    pub fn flush(&self, done: oneshot::Sender<()>) {
        self.change(|waiting| waiting.batch.flushed.push(done));
    }

    pub fn close(&self) {
        self.change(|waiting| waiting.closed = true);
    }

    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.bytes < FULL {
            return Poll::Ready(());
        }
        waiting.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// The writer's sleep: until there is something to do, for `longest` at most.
    pub fn next(&self, longest: Duration) -> Wake {
        let mut waiting = self.lock();
        waiting.asleep = true;
        let nothing = |waiting: &mut Waiting| waiting.batch.is_empty() && !waiting.closed;
        let slept = self.bell.wait_timeout_while(waiting, longest, nothing);
        waiting = slept.unwrap_or_else(PoisonError::into_inner).0;
        waiting.asleep = false;
        if waiting.batch.is_empty() {
            return if waiting.closed { Wake::Closed } else { Wake::Nothing };
        }
        waiting.bytes = 0;
        let (batch, wakers) = (std::mem::take(&mut waiting.batch), std::mem::take(&mut waiting.wakers));
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
        Wake::Write(batch)
    }

    /// The writer's pause between two batches: until more becomes urgent, for `longest` at most.
    pub fn gather(&self, longest: Duration) {
        let waiting = self.lock();
        let _ = self.bell.wait_timeout_while(waiting, longest, |waiting| !waiting.is_urgent());
    }

    pub fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Relaxed);
    }

    pub fn lost_bytes(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}
