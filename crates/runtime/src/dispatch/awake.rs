//! Answers that ring nobody: an event loop that is awake looks by itself at the channels from which it waits for something.
//!
//! ```text
//!  waits for an answer ──▶ the channel's sleeping word: awake ─┬─ the loop is about to sleep: ring!, all of them; one look at each
//!                                                              ├─ it has slept: awake, all of them; one look at each
//!  has it, or gives up ──▶ ring! ◀─────────────────────────────┴─ it has had a lot to do: one look at each
//! ```
//!
//! A bell is a system call for who rings and another event for who is rung for, and an engine that answers several requests
//! rings for each. The word is the receiver's own, as [`interconnect::doorbell`] has it: whoever answers reads it after its
//! answer is there, and the loop looks after it has written. So either the bell rings or the look finds the answer.
//!
//! A loop that always has something else to do does not come to sleep: it looks now and then ([`glance`]).

use interconnect::channel::Glance;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// One look for so many times that a busy loop has the occasion.
const SELDOM: u32 = 16;

/// What one event loop waits for.
#[derive(Default)]
pub struct Lookout(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
}

struct Place {
    glance: Glance,
    waker: Waker,
}

thread_local! {
    static HERE: RefCell<Option<Arc<Lookout>>> = const { RefCell::new(None) };
    static OCCASIONS: Cell<u32> = const { Cell::new(0) };
}

/// A channel that is looked at until this is dropped.
pub(super) struct Attention {
    lookout: Arc<Lookout>,
    place: usize,
}

impl Lookout {
    /// Becomes the lookout of the calling thread, which is an event loop: [`park`](Self::park) is to be called before it
    /// sleeps and [`unpark`](Self::unpark) after.
    pub fn stand_here(self: &Arc<Self>) {
        HERE.set(Some(self.clone()));
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop is about to sleep: all are to ring from now on. Wakes those who need not wait any more.
    pub fn park(&self) {
        let watched = self.watched();
        if watched.free.len() == watched.places.len() {
            return;
        }
        Glance::ask_to_ring(watched.all().map(|place| &place.glance));
        watched.look();
    }

    /// The loop has slept: none need ring.
    pub fn unpark(&self) {
        let watched = self.watched();
        watched.all().for_each(|place| place.glance.stay_awake());
        watched.look();
    }

    fn attend(self: &Arc<Self>, glance: Glance, waker: Waker) -> Attention {
        glance.stay_awake();
        let mut watched = self.watched();
        let place = watched.free.pop().unwrap_or_else(|| {
            watched.places.push(None);
            watched.places.len() - 1
        });
        watched.places[place] = Some(Place { glance, waker });
        Attention { lookout: self.clone(), place }
    }
}

impl Watched {
    fn all(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().flatten()
    }

    fn look(&self) {
        let there = self.all().filter(|place| place.glance.is_there());
        there.for_each(|place| place.waker.wake_by_ref());
    }
}

impl Attention {
    /// Has the calling loop look at what this is a glance at; none where the calling thread is no event loop.
    pub fn begin(glance: impl FnOnce() -> Glance, cx: &Context<'_>) -> Option<Self> {
        HERE.with_borrow(|here| here.as_ref().map(|here| here.attend(glance(), cx.waker().clone())))
    }

    /// Somebody else may wait now.
    pub fn wakes(&self, cx: &Context<'_>) {
        if let Some(Some(place)) = self.lookout.watched().places.get_mut(self.place) {
            place.waker.clone_from(cx.waker());
        }
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        let place = {
            let mut watched = self.lookout.watched();
            let place = watched.places[self.place].take();
            watched.free.push(self.place);
            if watched.free.len() == watched.places.len() {
                // However many there were: the next ones are few as a rule, and all places are looked at.
                watched.places.clear();
                watched.free.clear();
            }
            place
        };
        // Dropped here: a waker may be the last to know its task.
        if let Some(place) = place {
            Glance::ask_to_ring([&place.glance].into_iter());
        }
    }
}

/// To be called by an event loop whenever it does something for a connection: it may have no time to sleep.
pub fn glance() {
    let occasions = OCCASIONS.get().wrapping_add(1);
    OCCASIONS.set(occasions);
    if occasions.is_multiple_of(SELDOM) {
        HERE.with_borrow(|here| here.iter().for_each(|here| here.watched().look()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interconnect::channel::Channel;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    fn pair() -> (Channel, Channel) {
        let (host, theirs) = Channel::create(4096).unwrap();
        host.receiver.sleep_by_event();
        (host, Channel::attach(&theirs.region, theirs.down, theirs.up).unwrap())
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_loop_that_is_awake_is_not_rung_for_and_finds_the_answer_before_it_sleeps() {
        let (host, mut guest) = pair();
        let (woken, lookout) = (Arc::new(Woken::default()), Arc::new(Lookout::default()));
        lookout.park();
        assert!(Attention::begin(|| host.receiver.glance(), &Context::from_waker(Waker::noop())).is_none(), "no loop");
        lookout.stand_here();
        let waker = woken.clone().into();
        let attention = Attention::begin(|| host.receiver.glance(), &Context::from_waker(&waker)).unwrap();
        let rings = || interconnect::doorbell::hush(host.receiver.bell());
        guest.sender.send(1, b"", b"").unwrap();
        assert_eq!((rings(), woken.0.load(Ordering::SeqCst)), (0, 0));
        lookout.park();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        guest.sender.send(1, b"", b"").unwrap();
        assert_eq!(rings(), 1, "it sleeps");
        lookout.unpark();
        guest.sender.send(1, b"", b"").unwrap();
        assert_eq!((rings(), woken.0.load(Ordering::SeqCst)), (0, 2));
        (0..SELDOM).for_each(|_| glance());
        assert_eq!(woken.0.load(Ordering::SeqCst), 3);
        drop(attention);
        guest.sender.send(1, b"", b"").unwrap();
        lookout.park();
        assert_eq!((rings(), woken.0.load(Ordering::SeqCst)), (1, 3), "nobody looks");
    }

    /// A loop that waits for many channels, whose other ends answer at any moment: none of its waits is in vain.
    #[test]
    fn no_answer_is_lost_between_waking_and_sleeping() {
        const CHANNELS: u32 = 8;
        const ANSWERS: u32 = 4000;
        let lookout = Arc::new(Lookout::default());
        let [parks, unparks] = [lookout.clone(), lookout.clone()];
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().on_thread_park(move || parks.park()).on_thread_unpark(move || unparks.unpark());
        let runtime = builder.build().unwrap();
        lookout.stand_here();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            (0..CHANNELS).map(|_| pair()).for_each(|(host, guest)| {
                ours.push(host);
                theirs.push(guest);
            });
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for guest in &mut theirs {
                        if guest.receiver.receive().unwrap().is_some() {
                            guest.sender.send(2, b"", b"").unwrap();
                        }
                    }
                    std::thread::yield_now();
                }
            });
            let ask = |mut host: Channel| async move {
                let bell = host.receiver.bell().try_clone_to_owned().unwrap();
                let bell = AsyncFd::with_interest(bell, Interest::READABLE).unwrap();
                for _ in 0..ANSWERS {
                    host.sender.send(1, b"", b"").unwrap();
                    let mut attention = None;
                    std::future::poll_fn(|cx| {
                        loop {
                            if host.receiver.receive().unwrap().is_some() {
                                return std::task::Poll::Ready(());
                            }
                            match bell.poll_read_ready(cx) {
                                std::task::Poll::Ready(guard) => guard.unwrap().clear_ready(),
                                std::task::Poll::Pending => break,
                            }
                        }
                        match &attention {
                            None => attention = Attention::begin(|| host.receiver.glance(), cx),
                            Some(attention) => attention.wakes(cx),
                        }
                        std::task::Poll::Pending
                    })
                    .await;
                }
            };
            let done = runtime.block_on(async {
                let local = tokio::task::LocalSet::new();
                ours.into_iter().for_each(|host| drop(local.spawn_local(ask(host))));
                tokio::time::timeout(Duration::from_secs(60), local).await
            });
            over.store(true, Ordering::Relaxed);
            assert!(done.is_ok(), "an answer was not seen");
        });
    }
}
