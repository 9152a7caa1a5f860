//! Closing what users of a network have shown to its broker, which does not wait for it.
//!
//! What it takes to close the last descriptor of something is up to whoever has had the others: a socket waits for what it has not sent yet
//! (`SO_LINGER`), for years if it was told to. So what comes from a user is closed by a thread of that user's, also the connection by which
//! it has come: with that goes what was sent by it and never received. One whose things wait to be closed is not heard until few do.

use rustix::fs::CWD;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::mpsc::{self, Sender};

/// So many may wait to be closed.
pub const MANY: usize = 256;

/// Of one user.
#[derive(Clone)]
pub struct Closer {
    files: Sender<OwnedFd>,
    waiting: Arc<AtomicUsize>,
}

impl Closer {
    /// `relieved` is written to when it is not behind any more.
    #[expect(clippy::disallowed_methods, reason = "there are never more in it than this process has descriptors")]
    pub fn start(relieved: PipeWriter) -> io::Result<Self> {
        let (files, closed) = mpsc::channel::<OwnedFd>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let close = move || {
            for file in closed {
                drop(file);
                if left.fetch_sub(1, AcqRel) == MANY {
                    // A pipe that is full says the same.
                    let _ = rustix::io::write(&relieved, &[1]);
                }
            }
        };
        std::thread::Builder::new().name("lichen-closer".to_owned()).spawn(close)?;
        Ok(Self { files, waiting })
    }

    /// Whether so much waits that its user is not to be heard.
    pub fn is_behind(&self) -> bool {
        self.waiting.load(Acquire) >= MANY
    }

    fn close(&self, file: OwnedFd) {
        self.waiting.fetch_add(1, AcqRel);
        // Its thread ends after the last of these.
        let _ = self.files.send(file);
    }
}

/// A descriptor that somebody has shown, or by which somebody has connected.
pub struct Shown {
    /// Until it is closed.
    file: Option<OwnedFd>,
    closer: Option<Closer>,
}

impl Shown {
    /// Without a closer, it is closed where it is dropped.
    pub fn by(closer: Option<&Closer>, file: OwnedFd) -> Self {
        Self { file: Some(file), closer: closer.cloned() }
    }

    /// What has come by this one.
    pub fn beside(&self, file: OwnedFd) -> Self {
        Self::by(self.closer.as_ref(), file)
    }

    /// Whether whoever it is of is not to be heard.
    pub fn is_behind(&self) -> bool {
        self.closer.as_ref().is_some_and(Closer::is_behind)
    }

    /// Of what is known to be closed at once: memory.
    pub fn into_memory(mut self) -> Option<OwnedFd> {
        self.file.take()
    }
}

impl AsFd for Shown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_ref().map_or(CWD, AsFd::as_fd)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let (Some(file), Some(closer)) = (self.file.take(), &self.closer) {
            closer.close(file);
        }
    }
}
