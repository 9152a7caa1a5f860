//! Futures that go on beside each other in one task: who is woken is polled, by the thread that the task is on.
//!
//! A task for each would be cheaper to write. But what a shard does here is little, and most of it would be spent on
//! handing it from thread to thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often it is looked who was woken, before others have their turn.
const ROUNDS: usize = 2;
/// How many may be done one after the other before others have their turn.
const ROW: u32 = 64;

type Going<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// Futures that are dropped with it.
pub(super) struct Abreast<T, R> {
    places: Vec<Place<T, R>>,
    free: Vec<usize>,
    woken: Arc<Woken>,
    /// Those that are polled next.
    next: Vec<usize>,
    /// How many were done since others had their turn.
    row: u32,
}

struct Place<T, R> {
    /// What goes on there, and what it is.
    going: Option<(T, Going<R>)>,
    waker: Waker,
}

#[derive(Default)]
struct Woken(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    places: Vec<usize>,
    task: Option<Waker>,
}

impl Woken {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one place, whatever goes on there by then.
struct Bell {
    place: usize,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut inner = self.woken.inner();
            inner.places.push(self.place);
            inner.task.take()
        };
        task.into_iter().for_each(Waker::wake);
    }
}

impl<T, R> Abreast<T, R> {
    pub fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), woken: Arc::default(), next: Vec::new(), row: 0 }
    }

    /// Starts one, at the next poll.
    pub fn start(&mut self, what: T, future: Going<R>) {
        let place = self.free.pop().unwrap_or_else(|| {
            let place = self.places.len();
            let bell = Arc::new(Bell { place, woken: self.woken.clone() });
            self.places.push(Place { going: None, waker: bell.into() });
            place
        });
        self.places[place].going = Some((what, future));
        self.next.push(place);
    }

    /// The next that is done; pending for ever where none goes on.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(T, R)> {
        // Those who wake themselves want others to have their turn first: they are not polled again and again.
        for _ in 0..if self.row < ROW { ROUNDS } else { 0 } {
            while let Some(place) = self.next.pop() {
                let Place { going, waker } = &mut self.places[place];
                // Woken more often than it had something to do.
                let Some((_, future)) = going else { continue };
                if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                    let done = going.take();
                    self.free.push(place);
                    self.row += 1;
                    if let Some((what, _)) = done {
                        return Poll::Ready((what, result));
                    }
                }
            }
            let mut inner = self.woken.inner();
            if inner.places.is_empty() {
                inner.task = Some(cx.waker().clone());
                self.row = 0;
                return Poll::Pending;
            }
            std::mem::swap(&mut inner.places, &mut self.next);
        }
        self.row = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_is_woken_is_polled_and_all_come_to_their_end() {
        let mut all = Abreast::new();
        let (tell, told): (Vec<_>, Vec<_>) = (0..100).map(|_| oneshot::channel::<u64>()).unzip();
        for (at, told) in told.into_iter().enumerate() {
            all.start(at, Box::pin(async move { told.await.unwrap() }));
        }
        let tells = tokio::spawn(async move {
            for (at, tell) in tell.into_iter().enumerate().rev() {
                tell.send(at as u64 * 2).unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut seen = [false; 100];
        for _ in 0..100 {
            let (at, result) = std::future::poll_fn(|cx| all.poll_next(cx)).await;
            assert_eq!(result, at as u64 * 2);
            assert!(!std::mem::replace(&mut seen[at], true));
        }
        tells.await.unwrap();
        assert!(all.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
        // Places are used again.
        all.start(7, Box::pin(std::future::ready(1)));
        assert_eq!(std::future::poll_fn(|cx| all.poll_next(cx)).await, (7, 1));
        assert_eq!(all.places.len(), 100);
    }

    #[tokio::test]
    async fn one_that_wakes_itself_keeps_nobody_from_running() {
        let mut all = Abreast::new();
        let for_ever = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<u64>::Pending
        });
        all.start(1, Box::pin(for_ever));
        assert!(all.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
        all.start(
            2,
            Box::pin(async {
                tokio::task::yield_now().await;
                5
            }),
        );
        assert_eq!(std::future::poll_fn(|cx| all.poll_next(cx)).await, (2, 5));
    }

    #[tokio::test]
    async fn what_goes_on_ends_with_it() {
        let (tell, told) = oneshot::channel::<()>();
        let mut all = Abreast::new();
        all.start((), Box::pin(async move { told.await.is_ok() }));
        assert!(all.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(all);
        assert!(tell.is_closed());
    }
}
