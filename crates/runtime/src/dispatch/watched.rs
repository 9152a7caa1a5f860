//! A descriptor that is waited for by the event loop in which its owner is.
//!
//! An instance serves requests of one loop now and of another later. A loop that waited on another's behalf would have to
//! wake it: two threads for what takes one. Moving costs two system calls, and is done when there is something to wait for.

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::{Handle, Id};

/// It, for reading.
#[derive(Debug)]
pub(super) struct Watched<T: AsRawFd>(State<T>);

#[derive(Debug)]
enum State<T: AsRawFd> {
    Loose(T),
    By(AsyncFd<T>, Id),
    /// Between the two, within one function.
    Moving,
}

impl<T: AsRawFd> Watched<T> {
    /// Not waited for yet.
    pub fn new(descriptor: T) -> Self {
        Self(State::Loose(descriptor))
    }

    pub fn get_ref(&self) -> &T {
        match &self.0 {
            State::Loose(descriptor) => descriptor,
            State::By(watched, _) => watched.get_ref(),
            State::Moving => unreachable!("it stays within `move_here`"),
        }
    }

    pub fn get_mut(&mut self) -> &mut T {
        match &mut self.0 {
            State::Loose(descriptor) => descriptor,
            State::By(watched, _) => watched.get_mut(),
            State::Moving => unreachable!("it stays within `move_here`"),
        }
    }

    /// The event loop that waits for it.
    pub fn home(&self) -> Option<Id> {
        match &self.0 {
            State::By(_, id) => Some(*id),
            State::Loose(_) | State::Moving => None,
        }
    }

    /// Has the loop wait for it in which this is called. What it was ready for before counts as new.
    pub fn move_here(&mut self) -> io::Result<()> {
        let here = Handle::current().id();
        if self.home() == Some(here) {
            return Ok(());
        }
        let descriptor = match std::mem::replace(&mut self.0, State::Moving) {
            State::By(watched, _) => watched.into_inner(),
            State::Loose(descriptor) => descriptor,
            State::Moving => unreachable!("it stays within this function"),
        };
        match AsyncFd::try_with_interest(descriptor, Interest::READABLE) {
            Ok(watched) => self.0 = State::By(watched, here),
            Err(error) => {
                let (descriptor, cause) = error.into_parts();
                self.0 = State::Loose(descriptor);
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Whether it may be read; if not, wakes when it may.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncFdReadyGuard<'_, T>>> {
        self.move_here()?;
        let State::By(watched, _) = &self.0 else { unreachable!("it has just been moved") };
        Poll::Ready(ready!(watched.poll_read_ready(cx)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn whoever_polls_it_is_woken() {
        let (reads, mut writes) = io::pipe().unwrap();
        let mut watched = Watched::new(reads);
        assert_eq!(watched.home(), None);
        let loops = [runtime(), runtime()];
        for one in [&loops[0], &loops[1], &loops[1], &loops[0]] {
            one.block_on(async {
                // Not ready: then written to, while this loop waits.
                let polled = std::future::poll_fn(|cx| Poll::Ready(watched.poll_read_ready(cx).is_pending()));
                assert!(polled.await);
                writes.write_all(b"x").unwrap();
                std::future::poll_fn(|cx| watched.poll_read_ready(cx).map(|ready| ready.unwrap().clear_ready())).await;
                assert_eq!(watched.get_mut().read(&mut [0; 8]).unwrap(), 1);
                assert_eq!(watched.home(), Some(Handle::current().id()));
            });
        }
    }
}
