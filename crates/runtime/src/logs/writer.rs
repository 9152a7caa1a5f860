//! The thread that writes what was appended: batch by batch, each group's lines with one system call.

use super::group::Groups;
use super::queue::{Batch, Entry, Put, Queue, Removal, Wake};
use super::record::{self, Line, LogGroup, Record};
use super::segments::{self, Segments};
use super::{Followers, LogConfig};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How long lines may wait for others to be written with.
const GATHER: Duration = Duration::from_millis(50);
/// How often old files are looked for.
const SWEEP: Duration = Duration::from_secs(3600);
/// Groups whose files are kept open.
const OPEN_MAX: usize = 64;

/// The writer's own state.
pub(super) struct Writer {
    groups: Arc<Groups>,
    group_max: u64,
    retention: Duration,
    queue: Arc<Queue>,
    followers: Arc<Followers>,
    open: HashMap<LogGroup, Segments>,
    swept: Instant,
    /// Groups whose last write failed: complaints are not repeated.
    failing: HashSet<LogGroup>,
}

impl Writer {
    pub fn new(groups: Arc<Groups>, config: &LogConfig, queue: Arc<Queue>, followers: Arc<Followers>) -> Self {
        Self {
            groups,
            group_max: config.group_max_mib << 20,
            retention: Duration::from_secs(config.retention_days.saturating_mul(86_400)),
            queue,
            followers,
            open: HashMap::new(),
            swept: Instant::now(),
            failing: HashSet::new(),
        }
    }

    pub fn run(mut self) {
        self.sweep();
        loop {
            match self.queue.next(SWEEP) {
                Wake::Write(batch) => {
                    self.write(batch);
                    self.queue.gather(GATHER);
                }
                Wake::Nothing => {}
                Wake::Closed => return,
            }
            if self.swept.elapsed() >= SWEEP {
                self.sweep();
            }
        }
    }

    fn write(&mut self, batch: Batch) {
        let mut lines: HashMap<Arc<LogGroup>, Vec<u8>> = HashMap::new();
        let mut publisher = Publisher::new(&self.followers);
        for entry in &batch.entries {
            let file = file_of(&mut lines, &entry.group);
            for line in split(entry) {
                line.write(file);
                publisher.publish(&entry.group, &line);
            }
        }
        for (put, _) in &batch.puts {
            let file = file_of(&mut lines, &put.group);
            for (at_ms, text) in &put.events {
                let text = record::escape(text);
                let line = line_of(put, *at_ms, &text);
                line.write(file);
                publisher.publish(&put.group, &line);
            }
        }
        for (group, lines) in lines {
            let written = self.append(&group, &lines);
            self.note(&group, lines.len(), written);
        }
        for (put, written) in batch.puts {
            // Whoever waited may have gone meanwhile.
            let _ = written.send(!self.failing.contains(&*put.group));
        }
        for removal in batch.removals {
            self.remove(&removal);
        }
        for flushed in batch.flushed {
            // Whoever waited may have gone meanwhile.
            let _ = flushed.send(());
        }
    }

    fn append(&mut self, group: &LogGroup, lines: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(group) {
            if self.open.len() >= OPEN_MAX {
                self.open.clear();
            }
            self.groups.note(group, api::time::now_ms())?;
            let segments = Segments::open(self.groups.folder(group), self.group_max)?;
            self.open.insert(group.clone(), segments);
        }
        let appended = self.open.get_mut(group).map_or(Ok(()), |segments| segments.append(lines));
        if appended.is_err() {
            self.open.remove(group);
        }
        appended
    }

    fn note(&mut self, group: &LogGroup, len: usize, written: io::Result<()>) {
        match written {
            Ok(()) => drop(self.failing.remove(group)),
            Err(error) => {
                self.queue.lose(len as u64);
                if self.failing.insert(group.clone()) {
                    tracing::error!(%error, group = group.name, "logs cannot be written, and are lost until they can");
                }
            }
        }
    }

    fn remove(&mut self, removal: &Removal) {
        let (Removal::Group(group) | Removal::Stream(group, _)) = removal;
        self.open.remove(group);
        let folder = self.groups.folder(group);
        let removed = match removal {
            Removal::Group(_) => std::fs::remove_dir_all(folder),
            Removal::Stream(_, stream) => segments::remove_stream(&folder, stream),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, group = group.name, "a log could not be removed");
            }
            _ => {}
        }
    }

    fn sweep(&mut self) {
        self.swept = Instant::now();
        // Files that are about to be removed must not stay open.
        self.open.clear();
        // What still fails then is complained of once more.
        self.failing.clear();
        if let Err(error) = self.groups.expire(self.retention) {
            tracing::warn!(%error, "old logs could not be removed");
        }
    }
}

fn file_of<'a>(files: &'a mut HashMap<Arc<LogGroup>, Vec<u8>>, group: &Arc<LogGroup>) -> &'a mut Vec<u8> {
    files.entry(group.clone()).or_default()
}

fn line_of<'a>(put: &'a Put, at_ms: u64, escaped: &'a str) -> Line<'a> {
    Line { at_ms, stream: &put.stream, request_id: "", put_ms: Some(put.put_ms), text: escaped.as_bytes() }
}

fn split(entry: &Entry) -> impl Iterator<Item = Line<'_>> {
    let text = entry.text.strip_suffix(b"\n").unwrap_or(&entry.text);
    text.split(|byte| *byte == b'\n').map(|text| Line {
        at_ms: entry.at_ms,
        stream: &entry.stream,
        request_id: &entry.request_id,
        put_ms: None,
        text,
    })
}

/// Hands lines to those who follow.
struct Publisher {
    followed: HashMap<LogGroup, broadcast::Sender<Record>>,
}

impl Publisher {
    /// Forgets those whom nobody follows any more.
    fn new(followers: &Followers) -> Self {
        let mut followers = followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|_, sender| sender.receiver_count() > 0);
        Self { followed: followers.clone() }
    }

    fn publish(&mut self, group: &LogGroup, line: &Line<'_>) {
        if self.followed.is_empty() {
            return;
        }
        if let Some(sender) = self.followed.get(group) {
            // The last reader may have gone meanwhile.
            let _ = sender.send(line.record());
        }
    }
}
