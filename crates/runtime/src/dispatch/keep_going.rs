//! A future that is carried to its end whether or not somebody waits for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// Runs in the task that awaits it; when that one lets go of it, in a task of its own.
pub(super) struct KeepGoing<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    runtime: Handle,
}

impl<F: Future<Output: Send> + Send + 'static> KeepGoing<F> {
    pub fn new(runtime: Handle, future: F) -> Self {
        Self { future: Some(Box::pin(future)), runtime }
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
    async fn whoever_waits_gets_the_result() {
        assert_eq!(KeepGoing::new(Handle::current(), async { 7 }).await, 7);
    }
}
