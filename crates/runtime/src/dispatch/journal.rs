//! What one instance prints, on its way into the log.
//!
//! An instance's standard output and error are one pipe. It is read while an invocation runs and emptied when the answer
//! is there, so the log of an invocation is whole; between invocations the pipe holds what it can, and whoever prints
//! more waits. Memory is bounded: what is read is appended to the log store at once, and nothing is read while that has
//! no room.

use super::lines;
use super::watched::Watched;
use crate::function::Function;
use crate::logs::{Entry, LogGroup, LogStore};
use std::io::PipeReader;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Read at a time.
const CHUNK: usize = 64 * 1024;
/// Chunks read before others get their turn.
const CHUNKS_PER_TURN: usize = 16;
/// Bytes of the log that go with an answer.
const TAIL: usize = 4096;
/// What the pipe of an instance that prints much is widened to.
const PIPE_MAX: usize = 1 << 20;

/// The invocation has printed more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// The log of one instance.
#[derive(Debug)]
pub(super) struct Journal {
    /// Nothing once its writers are gone.
    pipe: Option<Watched<PipeReader>>,
    store: Arc<LogStore>,
    group: Arc<LogGroup>,
    stream: Arc<str>,
    request_id: String,
    /// The function whose START comes before whatever is printed next.
    ahead: Option<Arc<Function>>,
    /// Read, and not yet appended: the beginning of a line.
    partial: Vec<u8>,
    /// By this invocation.
    printed: u64,
    limit: u64,
    tail: Option<Vec<u8>>,
    wide: bool,
}

/// What a read of the pipe found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Text(usize),
    Nothing,
    End,
}

/// Reads a chunk, if there is one, to the end of `text`.
fn read(pipe: &PipeReader, text: &mut Vec<u8>) -> Found {
    text.reserve(CHUNK);
    match rustix::io::read(pipe, rustix::buffer::spare_capacity(text)) {
        Ok(0) => Found::End,
        Ok(len) => Found::Text(len),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Found::Nothing,
        Err(_) => Found::End,
    }
}

impl Journal {
    /// The log of an instance that prints to `pipe`; each invocation may print `limit` bytes.
    pub fn new(pipe: PipeReader, store: Arc<LogStore>, group: Arc<LogGroup>, stream: Arc<str>, limit: u64) -> Self {
        Self {
            pipe: Some(Watched::new(pipe)),
            store,
            group,
            stream,
            request_id: String::new(),
            ahead: None,
            partial: Vec::new(),
            printed: 0,
            limit,
            tail: None,
            wide: false,
        }
    }

    /// What is left to be printed belongs to another from now on.
    pub fn hand_over(&mut self) -> Self {
        Self {
            pipe: self.pipe.take(),
            store: self.store.clone(),
            group: self.group.clone(),
            stream: self.stream.clone(),
            request_id: self.request_id.clone(),
            ahead: None,
            partial: std::mem::take(&mut self.partial),
            printed: 0,
            limit: self.limit,
            tail: None,
            wide: self.wide,
        }
    }

    /// Whether somebody can still print.
    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// From now on lines belong to this invocation, and the last of them are kept if wanted; not those of its instance's
    /// beginning, `init`, which AWS does not show either.
    pub fn begin_with(&mut self, request_id: &str, want_tail: bool, init: Vec<u8>) {
        self.begin(request_id, false);
        self.note(init);
        self.tail = want_tail.then(Vec::new);
    }

    /// From now on lines belong to this invocation, and the last of them are kept if wanted.
    pub fn begin(&mut self, request_id: &str, want_tail: bool) {
        self.request_id.clear();
        self.request_id.push_str(request_id);
        self.printed = 0;
        self.ahead = None;
        self.tail = want_tail.then(Vec::new);
    }

    /// Appends lines of the platform's own.
    pub fn note(&mut self, lines: Vec<u8>) {
        self.flush();
        self.append(lines);
    }

    /// Appends this function's START as soon as anything else is appended, and not at all where nothing is.
    pub fn start_ahead(&mut self, function: &Arc<Function>) {
        self.flush();
        self.ahead = Some(function.clone());
    }

    /// Reads what there is, and wakes when there is more. Ready when it was too much.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TooMuch> {
        for _ in 0..CHUNKS_PER_TURN {
            let Some(pipe) = &mut self.pipe else { return Poll::Pending };
            // An error: the runtime shuts down.
            let Poll::Ready(Ok(mut ready)) = pipe.poll_read_ready(cx) else { return Poll::Pending };
            if self.store.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            let found = read(ready.get_inner(), &mut self.partial);
            if found == Found::Nothing {
                ready.clear_ready();
            }
            if self.take(found).is_err() {
                return Poll::Ready(TooMuch);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what is in the pipe now. What a writer adds meanwhile may stay behind.
    pub async fn drain(&mut self) -> Result<(), TooMuch> {
        std::future::poll_fn(|cx| self.store.poll_room(cx)).await;
        let before = self.printed;
        while let Some(pipe) = &self.pipe
            && self.printed - before <= PIPE_MAX as u64
        {
            match read(pipe.get_ref(), &mut self.partial) {
                Found::Nothing => break,
                found => self.take(found)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, found: Found) -> Result<(), TooMuch> {
        match found {
            Found::Nothing => {}
            Found::End => self.pipe = None,
            Found::Text(len) => {
                self.printed += len as u64;
                self.append_whole_lines();
                if len == CHUNK && !self.wide {
                    self.widen();
                }
            }
        }
        if self.printed > self.limit { Err(TooMuch) } else { Ok(()) }
    }

    /// The invocation is over: the end of its log, where it was wanted.
    pub fn end(&mut self) -> Option<Vec<u8>> {
        self.flush();
        let mut tail = self.tail.take()?;
        tail.drain(..tail.len().saturating_sub(TAIL));
        Some(tail)
    }

    fn append_whole_lines(&mut self) {
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let cut = if whole == 0 && self.partial.len() >= CHUNK { self.partial.len() } else { whole };
        let rest = self.partial.split_off(cut);
        let lines = std::mem::replace(&mut self.partial, rest);
        self.append(lines);
    }

    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.partial);
        self.append(lines);
    }

    fn append(&mut self, text: Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if let Some(function) = self.ahead.take() {
            self.append(lines::start(&function, &self.request_id));
        }
        if let Some(tail) = &mut self.tail {
            tail.extend_from_slice(&text[text.len().saturating_sub(TAIL)..]);
            tail.drain(..tail.len().saturating_sub(2 * TAIL));
        }
        let (group, stream, request_id) = (self.group.clone(), self.stream.clone(), self.request_id.as_str().into());
        self.store.append(Entry { group, stream, request_id, at_ms: api::time::now_ms(), text });
    }

    /// Whoever prints much waits less for its reader. An unprivileged user may have no leave to.
    fn widen(&mut self) {
        self.wide = true;
        if let Some(pipe) = &self.pipe {
            let _ = rustix::pipe::fcntl_setpipe_size(pipe.get_ref(), PIPE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogConfig, Query};
    use std::io::{self, Write};
    use std::task::Waker;

    const LIMIT: u64 = 3 << 20;

    struct Fixture {
        journal: Journal,
        printer: io::PipeWriter,
        store: Arc<LogStore>,
        group: Arc<LogGroup>,
        _folder: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = LogStore::open(folder.path(), LogConfig::default()).unwrap();
        let group = Arc::new(LogGroup { account: "0".into(), region: "r".into(), name: "g".into() });
        let (pipe, printer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let journal = Journal::new(pipe, store.clone(), group.clone(), "s".into(), LIMIT);
        Fixture { journal, printer, store, group, _folder: folder }
    }

    async fn texts(fixture: &Fixture) -> Vec<(String, String)> {
        let records = fixture.store.read(&fixture.group, Query::default()).await.unwrap();
        records.into_iter().map(|record| (record.request_id.to_string(), record.text.into())).collect()
    }

    #[tokio::test]
    async fn an_invocations_lines_are_whole_and_its_own() {
        let mut fixture = fixture();
        fixture.journal.begin("a", true);
        fixture.journal.note(b"START\n".to_vec());
        fixture.printer.write_all(b"one\ntw").unwrap();
        fixture.journal.drain().await.unwrap();
        fixture.printer.write_all(b"o\nno line break").unwrap();
        fixture.journal.drain().await.unwrap();
        fixture.journal.note(b"END\n".to_vec());
        assert_eq!(fixture.journal.end().unwrap(), b"START\none\ntwo\nno line breakEND\n");
        fixture.journal.begin("b", false);
        fixture.printer.write_all(b"three\n").unwrap();
        fixture.journal.drain().await.unwrap();
        assert_eq!(fixture.journal.end(), None);
        let expected =
            [("a", "START"), ("a", "one"), ("a", "two"), ("a", "no line break"), ("a", "END"), ("b", "three")];
        assert_eq!(texts(&fixture).await, expected.map(|(id, text)| (id.to_owned(), text.to_owned())));
    }

    #[tokio::test]
    async fn the_tail_is_the_last_4_kb() {
        let mut fixture = fixture();
        fixture.journal.begin("a", true);
        for i in 0..2000 {
            fixture.journal.note(format!("line {i}\n").into_bytes());
        }
        let tail = fixture.journal.end().unwrap();
        assert_eq!(tail.len(), TAIL);
        assert!(tail.ends_with(b"line 1998\nline 1999\n"));
    }

    #[tokio::test]
    async fn what_is_too_much_is_told_while_it_is_printed() {
        let mut fixture = fixture();
        fixture.journal.begin("a", false);
        let printer = fixture.printer.try_clone().unwrap();
        let printing = std::thread::spawn(move || {
            let mut printer = printer;
            // Fails when nobody reads any more.
            while printer.write_all(&[b'x'; 100_000]).is_ok() {}
        });
        let journal = &mut fixture.journal;
        assert_eq!(std::future::poll_fn(|cx| journal.poll(cx)).await, TooMuch);
        assert!(journal.printed <= LIMIT + CHUNK as u64);
        journal.pipe = None;
        printing.join().unwrap();
    }

    #[tokio::test]
    async fn what_is_drained_is_bounded_although_it_is_printed_for_ever() {
        let mut fixture = fixture();
        fixture.journal.limit = u64::MAX;
        let printer = fixture.printer.try_clone().unwrap();
        let printing = std::thread::spawn(move || {
            let mut printer = printer;
            while printer.write_all(&[b'\n'; 4096]).is_ok() {}
        });
        fixture.journal.drain().await.unwrap();
        fixture.journal.pipe = None;
        printing.join().unwrap();
    }

    #[tokio::test]
    async fn a_pipe_without_writers_is_let_go() {
        let mut fixture = fixture();
        drop(fixture.printer);
        fixture.journal.drain().await.unwrap();
        assert!(fixture.journal.pipe.is_none());
        assert!(fixture.journal.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}
