//! A future that is carried to its end whether or not somebody waits for it.
//!
//! Where it can be cancelled, its end comes soon after nobody waits any more: before it has begun it is dropped, and then it is
//! told.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// By which a future hears that nobody waits for it any more.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    begun: AtomicBool,
    told: Notify,
}

impl Cancel {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on it has an end to come to, even if nobody waits.
    pub fn begin(&self) {
        self.begun.store(true, Relaxed);
    }

    /// Completes when nobody waits any more.
    pub async fn told(&self) {
        self.told.notified().await;
    }
}

/// Runs in the task that awaits it; when that one lets go of it, in a task of its own.
pub(super) struct KeepGoing<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    runtime: Handle,
    cancel: Option<Arc<Cancel>>,
}

impl<F: Future<Output: Send> + Send + 'static> KeepGoing<F> {
    pub fn new(runtime: Handle, future: F) -> Self {
        Self { future: Some(Box::pin(future)), runtime, cancel: None }
    }

    /// One that hears when nobody waits any more.
    pub fn cancelling(runtime: Handle, future: F, cancel: Arc<Cancel>) -> Self {
        Self { future: Some(Box::pin(future)), runtime, cancel: Some(cancel) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for KeepGoing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for KeepGoing<F> {
    fn drop(&mut self) {
        // One that has panicked would panic again.
        if let Some(future) = self.future.take()
            && !std::thread::panicking()
        {
            match &self.cancel {
                Some(cancel) if !cancel.begun.load(Relaxed) => return,
                Some(cancel) => cancel.told.notify_one(),
                None => {}
            }
            self.runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn it_ends_although_nobody_waits() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut future = Box::pin(KeepGoing::new(Handle::current(), async {
            gone.await.unwrap();
            done.send(7).unwrap();
        }));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(future);
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok(7));
    }

    #[tokio::test]
    async fn one_that_can_be_cancelled_is() {
        for begun in [false, true] {
            let (done, ended) = oneshot::channel();
            let cancel = Cancel::new();
            let its = cancel.clone();
            let mut future = Box::pin(KeepGoing::cancelling(
                Handle::current(),
                async move {
                    if begun {
                        its.begin();
                    }
                    its.told().await;
                    let _ = done.send(7);
                },
                cancel,
            ));
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(future);
            assert_eq!(ended.await.is_ok(), begun);
        }
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_result() {
        assert_eq!(KeepGoing::new(Handle::current(), async { 7 }).await, 7);
    }
}
