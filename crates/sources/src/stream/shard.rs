//! One shard: read from where it was left, in batches, to its end.

use super::batch::{self, Batch};
use super::origin::{Origin, Read};
use super::position;
use super::window::{Ending, Window};
use crate::work::{BackOff, Trouble, Work};
use aws::CallError;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A shard bears five reads a second, of all its readers.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// What was to be read next is older than what the stream keeps.
const TRIMMED: &str = "TrimmedDataAccessException";

/// Who reads a shard.
pub struct Reader {
    work: Work,
    origin: Origin,
    shard: String,
    position: Value,
    iterator: Option<String>,
    /// The window that is open, where the mapping has windows.
    window: Option<Window>,
}

impl Reader {
    pub fn new(work: Work, origin: Origin, shard: String, position: Value) -> Self {
        let length = work.mapping.tumbling_ms();
        let window = length.and_then(|length| Window::read(&position["window"], length));
        Self { work, origin, shard, position, iterator: None, window }
    }

    /// Takes its place in the shard.
    pub async fn open(&mut self) -> Result<(), CallError> {
        match self.origin.iterator(&self.shard, &self.position).await {
            Ok(iterator) => self.iterator = Some(iterator),
            // Nobody waits for what is gone: the reader begins at what is left.
            Err(error) if error.code() == TRIMMED => self.recover(&error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads until the shard's end, or until it is time to stop.
    pub async fn run(mut self) {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.step().await {
                Ok(true) | Err(Trouble::Stopped) => return,
                Ok(false) => back_off.reset(),
                Err(Trouble::Service(error)) => {
                    self.recover(&error);
                    if self.work.pause(back_off.pause()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Iterators end after some minutes, and records after some days.
    fn recover(&mut self, error: &CallError) {
        self.work.problem(error);
        self.iterator = None;
        if error.code() == TRIMMED {
            tracing::warn!(shard = self.shard, "records of a stream were gone before the function could have them");
            self.position = serde_json::json!({ "from": "TRIM_HORIZON" });
        }
    }

    /// One batch; whether it was the last one.
    async fn step(&mut self) -> Result<bool, Trouble> {
        let (reads, at_end) = self.gather().await?;
        if let Some(length) = self.work.mapping.tumbling_ms() {
            self.step_by_windows(reads, length).await?;
            if at_end {
                self.end_window(Ending::Time).await?;
            }
        } else if let Some(last) = reads.last().map(|read| read.sequence.clone()) {
            let wanted: Vec<Read> = reads.into_iter().filter(|read| self.is_wanted(read)).collect();
            let batch = Batch { work: &self.work, origin: &self.origin, shard: &self.shard, window: None };
            batch::deliver(&batch, wanted).await?;
            self.pass(position::after(&last)).await?;
        }
        if at_end {
            self.pass(position::end()).await?;
        }
        Ok(at_end)
    }

    /// The same where records are taken window by window.
    async fn step_by_windows(&mut self, reads: Vec<Read>, length: u64) -> Result<(), Trouble> {
        if reads.is_empty() {
            return self.end_window(Ending::Time).await;
        }
        let mut reads = reads.into_iter().peekable();
        while let Some(first) = reads.next() {
            if self.window.as_ref().is_some_and(|window| !window.has(first.arrived_ms)) {
                self.end_window(Ending::Time).await?;
            }
            let window = self.window.take().unwrap_or_else(|| Window::of(first.arrived_ms, length));
            let mut together = vec![first];
            while let Some(next) = reads.next_if(|next| window.has(next.arrived_ms)) {
                together.push(next);
            }
            let last = together.last().map(|read| read.sequence.clone()).unwrap_or_default();
            let wanted: Vec<Read> = together.into_iter().filter(|read| self.is_wanted(read)).collect();
            let window = Mutex::new(window);
            let batch = Batch { work: &self.work, origin: &self.origin, shard: &self.shard, window: Some(&window) };
            batch::deliver(&batch, wanted).await?;
            let window = window.into_inner().unwrap_or_else(PoisonError::into_inner);
            let mut position = position::after(&last);
            position["window"] = window.kept();
            let fits = window.fits();
            self.window = Some(window);
            self.pass(position).await?;
            if !fits {
                self.end_window(Ending::Early).await?;
            }
        }
        Ok(())
    }

    /// Ends the window that is open.
    async fn end_window(&mut self, ending: Ending) -> Result<(), Trouble> {
        let Some(window) = self.window.take() else { return Ok(()) };
        let window = Mutex::new(window);
        let batch = Batch { work: &self.work, origin: &self.origin, shard: &self.shard, window: Some(&window) };
        batch::finish(&batch, ending).await?;
        let mut position = self.position.clone();
        position.as_object_mut().map(|position| position.remove("window"));
        self.pass(position).await
    }

    fn is_wanted(&self, read: &Read) -> bool {
        // Moments in DynamoDB's records are whole seconds.
        let since = self.position["since"].as_u64().map_or(0, |since| since / 1000 * 1000);
        read.arrived_ms >= since && self.work.wants(&self.origin.seen(&read.record))
    }

    async fn pass(&mut self, position: Value) -> Result<(), Trouble> {
        self.work.passed(&self.shard, &position).await?;
        self.position = position;
        Ok(())
    }

    /// Records until there are enough of them, or as much as an event can hold, or the window is over, or the shard.
    async fn gather(&mut self) -> Result<(Vec<Read>, bool), Trouble> {
        let (size, window) = (self.work.mapping.batch_size(), self.work.mapping.window());
        let (mut reads, mut bytes, mut deadline): (Vec<Read>, usize, _) = (Vec::new(), 0, None);
        loop {
            let iterator = match self.iterator.take() {
                Some(iterator) => iterator,
                None => {
                    let from =
                        reads.last().map_or_else(|| self.position.clone(), |read| position::after(&read.sequence));
                    self.work.unless_stopped(self.origin.iterator(&self.shard, &from)).await??
                }
            };
            let reading = self.origin.read(&self.shard, &iterator, size - reads.len());
            let (more, next) = self.work.unless_stopped(reading).await??;
            let at_end = next.is_none();
            self.iterator = next;
            bytes += more.iter().map(|read| read.length).sum::<usize>();
            reads.extend(more);
            let now = Instant::now();
            if !reads.is_empty() {
                let deadline = *deadline.get_or_insert(now + window);
                if reads.len() >= size || bytes >= self.work.invoker.event_max() || now >= deadline {
                    return Ok((reads, at_end));
                }
            }
            let over = self.window.as_ref().is_some_and(|window| window.is_over(api::time::now_ms()));
            if at_end || (over && reads.is_empty()) {
                return Ok((reads, at_end));
            }
            self.work.pause(POLL_EVERY).await?;
        }
    }
}
