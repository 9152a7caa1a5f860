//! A memory that this process has connections in, and the descriptor by which the next broker is told of it.

use super::{HIGH, protect, unprotect};
use crate::{real, slot};
use socket::member::{Connection, Member};
use socket::records::Quota;
use socket::region::Share;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// Descriptors that are kept so, and the most: programs may have no more than a thousand or so.
static KEPT: AtomicUsize = AtomicUsize::new(0);
const MOST: usize = 256;

/// A process's part in a memory.
pub struct Held {
    share: Share,
    store: u8,
    identity: (u64, u64),
    /// None: a new broker is not told.
    file: Option<RawFd>,
}

impl Held {
    pub fn join(file: &OwnedFd, store: u8, quota: &Arc<Quota>) -> Option<Self> {
        let share = Share::join(file, store.into(), quota).ok()?;
        let kept = keep(file);
        Some(Self { share, store, identity: identity(file)?, file: kept })
    }

    /// Whether this is the part that has this store of this file.
    pub fn is(&self, file: &OwnedFd, store: u8) -> bool {
        self.store == store && identity(file) == Some(self.identity)
    }
}

fn identity(file: &OwnedFd) -> Option<(u64, u64)> {
    let stat = rustix::fs::fstat(file).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Under a number that is out of the program's way, or not at all.
fn keep(file: &OwnedFd) -> Option<RawFd> {
    if KEPT.fetch_add(1, Relaxed) < MOST
        && let Ok(kept) = rustix::io::fcntl_dupfd_cloexec(file, HIGH)
    {
        protect(kept.as_raw_fd());
        return Some(kept.into_raw_fd());
    }
    KEPT.fetch_sub(1, Relaxed);
    None
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(file) = self.file {
            KEPT.fetch_sub(1, Relaxed);
            unprotect(file);
            // SAFETY: this library's, and nobody uses it any more.
            unsafe { real::close(file) };
        }
    }
}

impl Deref for Held {
    type Target = Share;

    fn deref(&self) -> &Share {
        &self.share
    }
}

/// Tells a broker of what a place has: all connections of this process that lie in one of these memories.
pub fn tell(member: &Member, shares: &[Weak<Held>]) -> io::Result<()> {
    let shares: Vec<Arc<Held>> = shares.iter().filter_map(Weak::upgrade).filter(|held| held.file.is_some()).collect();
    if shares.is_empty() {
        return Ok(());
    }
    let entries = slot::known(0, u32::MAX).filter_map(|fd| Some((fd, slot::attached(fd)?)));
    let mut told: Vec<(*const Held, Connection, RawFd, slot::Entry)> = entries
        .filter_map(|(fd, entry)| entry.told().map(|(held, connection)| (held, connection, fd, entry)))
        .collect();
    // Several descriptors of one socket are one connection.
    told.sort_by_key(|(_, connection, ..)| (connection.meeting, connection.side));
    told.dedup_by_key(|(_, connection, ..)| (connection.meeting, connection.side));
    for held in shares {
        let of_this = told.iter().filter(|(other, ..)| std::ptr::eq(*other, Arc::as_ptr(&held)));
        // SAFETY: the program's descriptors, in use as far as is known here: should one be another file by now, the broker sees what it is.
        let shown = of_this.map(|(_, connection, fd, _)| (*connection, unsafe { BorrowedFd::borrow_raw(*fd) }));
        let shown: Vec<(Connection, BorrowedFd<'_>)> = shown.collect();
        if let (Some(file), false) = (held.file, shown.is_empty()) {
            // SAFETY: open for as long as the part is held.
            let file = unsafe { BorrowedFd::borrow_raw(file) };
            member.tell_of((file, held.store), &shown)?;
        }
    }
    Ok(())
}
