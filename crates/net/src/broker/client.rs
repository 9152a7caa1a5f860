//! Asking brokers what they know.

use api::node::Sockets;
use os::{memfd, seqpacket};
use rustix::event::{PollFd, PollFlags, poll};
use socket::member::{LIST, LISTED, MESSAGE_MAX};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a broker's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest list that is read: some bytes for each of all connections that could be.
const BYTES_MAX: u64 = 64 << 20;

/// All that the broker knows that listens at `path`. `NotFound`, `ConnectionRefused`: there is none.
pub fn ask(path: &Path) -> io::Result<Sockets> {
    hear(&seqpacket::connect(path)?)
}

fn hear(broker: &OwnedFd) -> io::Result<Sockets> {
    seqpacket::send(broker, &[IoSlice::new(LIST)], &[])?;
    let until = Instant::now() + PATIENCE;
    let (mut message, mut files) = ([0; MESSAGE_MAX], Vec::new());
    let len = loop {
        match seqpacket::receive(broker, &mut message, &mut files) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(broker, until)?,
            result => break result?,
        }
    };
    let (b"l", Some(file)) = (&message[..len], files.pop()) else { return Err(io::ErrorKind::InvalidData.into()) };
    const { assert!(LISTED == b'l') };
    let len = memfd::sealed_len(&file)?;
    let mut text = Vec::new();
    File::from(file).take(len.min(BYTES_MAX)).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// What all brokers of these places know that are there, each of which is asked once. An error: one of them does not answer.
pub fn ask_all(places: &[PathBuf]) -> io::Result<Sockets> {
    let (mut all, mut asked) = (Sockets::default(), BTreeSet::new());
    for place in places {
        let broker = match seqpacket::connect(place) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                continue;
            }
            broker => broker?,
        };
        // A user has a door in each half of a network.
        if !asked.insert(seqpacket::peer(&broker)?.pid) {
            continue;
        }
        let some = hear(&broker)?;
        all.broker = true;
        all.processes += some.processes;
        all.met += some.met;
        all.connections.extend(some.connections);
    }
    Ok(all)
}

fn wait(broker: &impl std::os::fd::AsFd, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let limit = rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::new(broker, PollFlags::IN)], Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
