//! A tick for each event loop while it serves requests, so that their time limits interrupt nothing.
//!
//! Whoever sets a timer that is due before all others of its loop has the loop look again: a write to the loop's own
//! descriptor, an event and a system call for nothing, as the loop is awake. A request sets and takes back several, for its head,
//! its body and its answer. None of them comes first as long as a tick is due before: it goes on while requests come, and a
//! loop without any has no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Shorter than the time limits of requests, and long enough to cost nothing.
const TICK: Duration = Duration::from_millis(250);

/// Of one event loop.
#[derive(Default)]
pub struct Tick {
    requests: AtomicU64,
    going: AtomicBool,
}

/// Goes on until this is dropped, with its loop or before.
struct Going(Arc<Tick>);

impl Tick {
    /// A request comes, in the loop in which this is called.
    pub fn keep(self: &Arc<Self>) {
        self.requests.fetch_add(1, Relaxed);
        if !self.going.swap(true, Relaxed) {
            tokio::spawn(go_on(Going(self.clone())));
        }
    }
}

async fn go_on(going: Going) {
    loop {
        let before = going.0.requests.load(Relaxed);
        tokio::time::sleep(TICK).await;
        if going.0.requests.load(Relaxed) == before {
            return;
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.going.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::task::Poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_requests_come_and_no_longer() {
        let tick = Arc::new(Tick::default());
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        for _ in 0..2 {
            for _ in 0..8 {
                tick.keep();
                assert_eq!(alive(), 1, "one, however many requests");
                tokio::task::yield_now().await;
                tokio::time::advance(TICK / 2).await;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
                tokio::time::advance(TICK).await;
            }
            assert_eq!((alive(), tick.going.load(Relaxed)), (0, false));
        }
    }

    /// How often a loop comes to sleep that asks so many questions, each after it has set a time limit and taken it back. It is
    /// answered once it has come to sleep.
    fn sleeps(questions: u64, tick: bool) -> u64 {
        let (sleeps, before) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counted, seen, asked) = (sleeps.clone(), sleeps.clone(), before.clone());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().on_thread_park(move || _ = counted.fetch_add(1, Relaxed));
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let answers = std::thread::spawn(move || {
            for _ in 0..questions {
                theirs.read_exact(&mut [0]).unwrap();
                while seen.load(Relaxed) == asked.load(Relaxed) {
                    std::thread::yield_now();
                }
                theirs.write_all(b"!").unwrap();
            }
        });
        builder.build().unwrap().block_on(async {
            let mut ours = tokio::net::UnixStream::from_std(ours).unwrap();
            if tick {
                Arc::<Tick>::default().keep();
            }
            for _ in 0..questions {
                let mut limit = Box::pin(tokio::time::sleep(Duration::from_secs(60)));
                std::future::poll_fn(|cx| Poll::Ready(limit.as_mut().poll(cx).is_pending())).await;
                drop(limit);
                before.store(sleeps.load(Relaxed), Relaxed);
                ours.write_all(b"?").await.unwrap();
                ours.read_u8().await.unwrap();
            }
        });
        answers.join().unwrap();
        sleeps.load(Relaxed)
    }

    #[test]
    fn time_limits_keep_no_loop_from_sleeping() {
        let (with, without) = (sleeps(100, true), sleeps(100, false));
        // For each answer, and for each question that was taken; a time limit would be a third time.
        assert!(with <= 2 * 100 + 20, "{with}, and {without} without");
    }

    #[test]
    fn a_loop_that_ends_takes_it_along() {
        let tick = Arc::new(Tick::default());
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { tick.keep() });
            assert!(tick.going.load(Relaxed));
            drop(runtime);
            assert!(!tick.going.load(Relaxed));
        }
    }
}
