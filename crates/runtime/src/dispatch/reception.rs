//! Answers that come in parts: what their reader holds, and what becomes of each part.
//!
//! ```text
//! instance ══ channel ══► Reception ══ a few parts ══► Parts ══► the client
//! ```
//!
//! Whoever wants an answer whole gets its parts collected, up to the limit for whole answers. Whoever reads them gets each
//! as it comes; nothing is taken from the instance while a few parts wait for their reader, and the function so waits
//! too. A reader that goes away does not end the function, as on Lambda: what is left of its answer is thrown away.

use super::call::{InvokeError, Outcome};
use super::keep_going::KeepGoing;
use bytes::Bytes;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

/// Parts that wait for their reader.
const WAITING: usize = 4;

/// How a function has answered one who takes answers in parts.
#[derive(Debug)]
pub enum Streamed {
    /// In one piece, or not at all.
    Whole(Outcome),
    /// In parts, of which the first may be there.
    Parts(Parts),
}

/// An answer in parts, for its reader. Dropping it does not stop the invocation.
#[derive(Debug)]
pub struct Parts {
    /// What the function calls it: bytes of its own, not checked.
    pub content_type: String,
    parts: mpsc::Receiver<Bytes>,
    /// The invocation, as it goes on.
    end: JoinHandle<Result<Outcome, InvokeError>>,
}

impl Parts {
    /// The next part; nothing after the last one.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.parts.poll_recv(cx)
    }

    /// The next part; nothing after the last one.
    pub async fn part(&mut self) -> Option<Bytes> {
        self.parts.recv().await
    }

    /// What the invocation came to, once there are no more parts: its `body` is empty, or an error object. To be asked for
    /// until it is ready, and not again.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, InvokeError>> {
        let end = ready!(Pin::new(&mut self.end).poll(cx));
        Poll::Ready(match end.map_err(JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime shuts down.
            Err(Err(_)) => Err(InvokeError::Draining),
        })
    }
}

/// What an invocation gets to know of its answer's reader.
pub(super) struct Opening {
    opened: oneshot::Receiver<String>,
    parts: mpsc::Receiver<Bytes>,
}

impl Opening {
    /// How the function answers, whose invocation is `run`. It is carried on by whoever reads the parts, if there are any.
    pub async fn streamed<F>(self, mut run: KeepGoing<F>) -> Result<Streamed, InvokeError>
    where
        F: Future<Output = Result<Outcome, InvokeError>> + Send + 'static,
    {
        let Self { mut opened, parts } = self;
        let (content_type, end) = tokio::select! {
            biased;
            end = &mut run => match opened.try_recv() {
                // Opened and ended in one go.
                Ok(content_type) => (content_type, tokio::spawn(std::future::ready(end))),
                Err(_) => return end.map(Streamed::Whole),
            },
            Ok(content_type) = &mut opened => (content_type, tokio::spawn(run)),
        };
        Ok(Streamed::Parts(Parts { content_type, parts, end }))
    }
}

/// What becomes of an answer's parts.
pub(super) struct Reception {
    wish: Wish,
    /// Bytes that came, and that may come.
    came: usize,
    limit: usize,
    is_open: bool,
}

enum Wish {
    Whole(Vec<u8>),
    Parts {
        opened: Option<oneshot::Sender<String>>,
        to: mpsc::Sender<Bytes>,
    },
    /// Nobody wants it any more.
    Nothing,
}

impl Reception {
    /// Parts are collected.
    pub fn whole(limit: usize) -> Self {
        Self { wish: Wish::Whole(Vec::new()), came: 0, limit, is_open: false }
    }

    /// Parts are handed on.
    pub fn in_parts(limit: usize) -> (Self, Opening) {
        let (opener, opened) = oneshot::channel();
        let (to, parts) = mpsc::channel(WAITING);
        let wish = Wish::Parts { opened: Some(opener), to };
        (Self { wish, came: 0, limit, is_open: false }, Opening { opened, parts })
    }

    /// The answer comes in parts.
    pub fn open(&mut self, content_type: String) {
        self.is_open = true;
        if let Wish::Parts { opened, .. } = &mut self.wish
            && let Some(opened) = opened.take()
        {
            // A reader that is gone already is found out by its first part.
            let _ = opened.send(content_type);
        }
    }

    /// Whether there was a part, so that the invocation cannot be begun anew.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A part has come: waits until its reader has room for it.
    pub async fn take(&mut self, part: Bytes) {
        // One who never ceases to answer is not to have a thread to itself.
        tokio::task::coop::consume_budget().await;
        if part.is_empty() {
            return;
        }
        self.came = self.came.saturating_add(part.len());
        if self.came > self.limit {
            self.wish = Wish::Nothing;
        }
        match &mut self.wish {
            Wish::Whole(body) => body.extend_from_slice(&part),
            Wish::Parts { to, .. } => {
                if to.send(part).await.is_err() {
                    self.wish = Wish::Nothing;
                }
            }
            Wish::Nothing => {}
        }
    }

    /// Bytes that have come.
    pub fn came(&self) -> usize {
        self.came
    }

    /// The limit, where more came than it allows.
    pub fn excess(&self) -> Option<usize> {
        (self.came > self.limit).then_some(self.limit)
    }

    /// All that was collected.
    pub fn collected(&mut self) -> Bytes {
        match &mut self.wish {
            Wish::Whole(body) => std::mem::take(body).into(),
            _ => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_wanted_whole_is_collected_up_to_the_limit() {
        let mut reception = Reception::whole(5);
        reception.open("text/plain".into());
        for part in ["ab", "", "cde"] {
            reception.take(part.into()).await;
        }
        assert_eq!((reception.excess(), reception.collected()), (None, "abcde".into()));
        reception.take("f".into()).await;
        assert_eq!((reception.excess(), reception.collected()), (Some(5), Bytes::new()));
    }

    #[tokio::test]
    async fn a_function_waits_for_its_reader_and_not_for_one_that_is_gone() {
        let (mut reception, mut opening) = Reception::in_parts(1000);
        reception.open("text/plain".into());
        assert_eq!((&mut opening.opened).await.unwrap(), "text/plain");
        for _ in 0..WAITING {
            reception.take("part".into()).await;
        }
        let mut taking = Box::pin(reception.take("late".into()));
        let noop = &mut Context::from_waker(std::task::Waker::noop());
        assert!(taking.as_mut().poll(noop).is_pending());
        assert_eq!(opening.parts.recv().await.unwrap(), "part");
        taking.await;
        drop(opening);
        reception.take("unheard".into()).await;
        assert!(matches!(reception.wish, Wish::Nothing) && reception.excess().is_none());
    }
}
