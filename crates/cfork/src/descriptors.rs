//! What a template holds open at its fork point, and what its children do about it.
//!
//! A descriptor inherited by fork is the same open file on both sides: what one reads, writes or waits for, the other
//! has. Files open for reading only differ in nothing but the position, so each child opens them anew; devices like
//! `/dev/urandom` have no state; all else (sockets, pipes, epolls, timers, files open for writing) is named, and a
//! template that made such a thing is not forkable.

use rustix::fs::{FileType, OFlags, SeekFrom, fcntl_getfl, fstat, readlink, seek};
use rustix::io::{FdFlags, dup3, fcntl_getfd};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What is open beyond the standard streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Open for reading only: a child opens them anew.
    pub files: Vec<RawFd>,
    /// What parent and child must not share.
    pub foreign: Vec<Foreign>,
}

/// An open file that is not to be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub number: RawFd,
    /// As a sentence's end: `descriptor 7 (socket:[1234])`.
    pub what: String,
    /// By which a pipe or a socket is told from another at the same number. Epolls and events share theirs.
    inode: (u64, u64),
}

/// Looks at every open descriptor of this process but the standard streams and `known`.
pub fn take_stock(known: &[RawFd]) -> io::Result<Stock> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    let mut stock = Stock::default();
    for number in numbers.into_iter().filter(|number| *number > 2 && !known.contains(number)) {
        // The one by which the folder was read is closed by now.
        if let Some(open) = borrow(number) {
            sort(&mut stock, number, open);
        }
    }
    Ok(stock)
}

fn borrow(number: RawFd) -> Option<BorrowedFd<'static>> {
    if number < 0 {
        return None;
    }
    // SAFETY: the number is not -1. Whether it is open is asked at once; what is done with it fails harmlessly if not.
    let open = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(open).is_ok().then_some(open)
}

fn sort(stock: &mut Stock, number: RawFd, open: BorrowedFd<'_>) {
    let Ok(stat) = fstat(open) else { return };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let reads_only = fcntl_getfl(open).is_ok_and(|flags| flags.intersection(OFlags::RWMODE) == OFlags::RDONLY);
    match kind {
        FileType::RegularFile | FileType::Directory if reads_only => stock.files.push(number),
        FileType::CharacterDevice => {}
        _ => {
            let what = format!("descriptor {number} ({})", name(number));
            stock.foreign.push(Foreign { number, what, inode: (stat.st_dev, stat.st_ino) });
        }
    }
}

fn name(number: RawFd) -> String {
    let link = readlink(format!("/proc/self/fd/{number}"), Vec::new());
    link.map_or_else(|_| "unknown".into(), |link| link.to_string_lossy().into_owned())
}

/// Gives this process an open file of its own for each of these descriptors, at the same number and position.
pub fn reopen(files: &[RawFd]) -> io::Result<()> {
    for &number in files {
        let Some(shared) = borrow(number) else { continue };
        let flags = fcntl_getfl(shared)?;
        let own = rustix::fs::open(format!("/proc/self/fd/{number}"), flags | OFlags::CLOEXEC, 0.into())?;
        if let Ok(position) = seek(shared, SeekFrom::Current(0)) {
            seek(&own, SeekFrom::Start(position))?;
        }
        let closes = fcntl_getfd(shared)?.contains(FdFlags::CLOEXEC);
        replace(number, &own, closes)?;
    }
    Ok(())
}

/// Puts `/dev/null` in the place of what is foreign: numbers that somebody still believes in stay taken. What a library's
/// fork handler has put there meanwhile is the child's own, and stays.
pub fn blind(stock: &Stock) -> io::Result<()> {
    if stock.foreign.is_empty() {
        return Ok(());
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, 0.into())?;
    let same = |foreign: &&Foreign| {
        // SAFETY: whether the number is open is asked right here.
        let stat = fstat(unsafe { BorrowedFd::borrow_raw(foreign.number) });
        stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == foreign.inode)
    };
    stock.foreign.iter().filter(same).try_for_each(|foreign| replace(foreign.number, &null, true))
}

fn replace(number: RawFd, with: &OwnedFd, closes: bool) -> io::Result<()> {
    // SAFETY: whoever owns this number goes on owning it: it is replaced, never closed.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    let flags = if closes { rustix::io::DupFlags::CLOEXEC } else { rustix::io::DupFlags::empty() };
    Ok(dup3(with, &mut target, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn files_open_for_reading_are_told_from_the_rest() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(b"text").unwrap();
        let read = std::fs::File::open(written.path()).unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let (socket, _other) = os::seqpacket::pair().unwrap();
        let stock = take_stock(&[]).unwrap();
        let foreign = |fd: RawFd| stock.foreign.iter().any(|foreign| foreign.number == fd);
        assert!(stock.files.contains(&read.as_raw_fd()));
        assert!(foreign(written.as_file().as_raw_fd()));
        assert!(!foreign(zero.as_raw_fd()) && !stock.files.contains(&zero.as_raw_fd()));
        let named = stock.foreign.iter().find(|foreign| foreign.number == socket.as_raw_fd()).unwrap();
        assert!(named.what.contains("socket:"), "{}", named.what);
    }

    #[test]
    fn a_reopened_file_has_a_position_of_its_own() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(b"first second").unwrap();
        let mut ours = std::fs::File::open(written.path()).unwrap();
        ours.read_exact(&mut [0; 6]).unwrap();
        let mut theirs = std::fs::File::from(rustix::io::dup(&ours).unwrap());
        reopen(&[ours.as_raw_fd()]).unwrap();
        theirs.seek(std::io::SeekFrom::Start(0)).unwrap();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "second");
    }

    #[test]
    fn a_blinded_descriptor_reaches_nobody() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (replaced, _other) = os::seqpacket::pair().unwrap();
        let mut stock = Stock::default();
        [&ours, &replaced].into_iter().for_each(|open| sort(&mut stock, open.as_raw_fd(), open.as_fd()));
        replace(replaced.as_raw_fd(), &os::memfd::sealed("cfork-test", 4096).unwrap(), true).unwrap();
        blind(&stock).unwrap();
        assert_eq!(os::seqpacket::receive(&theirs, &mut [0; 8], &mut Vec::new()).unwrap(), 0);
        assert_eq!(rustix::io::read(ours.as_fd(), &mut [0; 8]).unwrap(), 0);
        assert!(name(replaced.as_raw_fd()).contains("cfork-test"), "what has taken its place stays");
    }
}
