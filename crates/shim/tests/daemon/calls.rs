//! The nine XPUcalls, over every transport, on one PU and between two.

use crate::bed::{Bed, event, soon};
use xpucall::error::{CheckError, ConnectError, CreateError, End, GrantError, ReadError, RevokeError, WriteError};
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire::Transport;
use xpucall::{Event, Fifo, Limits, Message, Process};

const TRANSPORTS: [Transport; 4] = [Transport::Base, Transport::Mpsc, Transport::Polling, Transport::Adaptive];

#[test]
fn every_transport_carries_calls() {
    let bed = Bed::new(1);
    for transport in TRANSPORTS {
        let process = Process::attach(&bed.pus[0].socket, transport).unwrap();
        assert_eq!(process.get_xpupid().unwrap(), process.pid(), "{transport:?}");
        let fifo = Fifo::create(&process, Limits::default()).unwrap();
        process.check(fifo.id(), Rights::ALL).unwrap();
        let mut reader = fifo.reader().unwrap();
        let mut writer = fifo.writer().unwrap();
        writer.write(b"hello").unwrap();
        let message = reader.read().unwrap();
        assert_eq!(message, Message { from: process.pid(), bytes: b"hello".to_vec() }, "{transport:?}");
        drop(writer);
        assert_eq!(event(&mut reader), Event::Ended { from: process.pid(), why: End::Closed });
    }
}

/// What two processes do with a FIFO, wherever they are.
fn grant_use_revoke(owner: &Process, other: &Process) {
    let fifo = Fifo::create(owner, Limits::default()).unwrap();
    assert!(matches!(other.check(fifo.id(), Rights::WRITE), Err(CheckError::NotPermitted)));
    assert!(matches!(other.connect_writer(fifo.id()), Err(ConnectError::NotPermitted)));
    let by_other = other.grant(other.pid(), fifo.id(), Rights::WRITE);
    assert!(matches!(by_other, Err(GrantError::NotPermitted)), "nobody grants to himself");
    fifo.grant(other.pid(), Rights::WRITE).unwrap();
    other.check(fifo.id(), Rights::WRITE).unwrap();
    assert!(matches!(other.connect_reader(fifo.id()), Err(ConnectError::NotPermitted)));

    let mut writer = other.connect_writer(fifo.id()).unwrap();
    writer.write(b"before there is a reader").unwrap();
    let mut reader = fifo.reader().unwrap();
    assert!(matches!(owner.connect_reader(fifo.id()), Err(ConnectError::Busy)));
    assert_eq!(reader.read_into(&mut Vec::new(), Some(soon())).unwrap(), other.pid());
    let long = vec![7; 5 << 20];
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| writer.write_by(&long, soon()));
        assert_eq!(event(&mut reader), Event::Message(Message { from: other.pid(), bytes: long.clone() }));
        sender.join().unwrap()
    });
    sent.unwrap();

    writer.write(b"unread").unwrap();
    fifo.revoke(other.pid(), Rights::WRITE).unwrap();
    assert_eq!(event(&mut reader), Event::Ended { from: other.pid(), why: End::Revoked }, "the unread message is gone");
    assert_eq!(writer.write(b"late"), Err(WriteError::Ended(End::Revoked)));
    assert!(matches!(other.connect_writer(fifo.id()), Err(ConnectError::NotPermitted)));
    assert!(matches!(other.revoke(owner.pid(), fifo.id(), Rights::READ), Err(RevokeError::NotPermitted)));
}

#[test]
fn on_one_pu() {
    let bed = Bed::new(1);
    grant_use_revoke(&bed.attach(0), &bed.attach(0));
}

#[test]
fn between_two_pus_either_way() {
    let bed = Bed::new(2);
    grant_use_revoke(&bed.attach(0), &bed.attach(1));
    grant_use_revoke(&bed.attach(1), &bed.attach(0));
}

#[test]
fn between_two_members() {
    let bed = Bed::new(3);
    grant_use_revoke(&bed.attach(1), &bed.attach(2));
}

#[test]
fn ids_of_fifos_are_of_one_fifo() {
    let bed = Bed::new(2);
    let (one, other) = (bed.attach(0), bed.attach(1));
    let id = FifoId(0xbeee);
    let fifo = Fifo::create_as(&one, id, Limits::default()).unwrap();
    assert!(matches!(other.create(Some(id), Limits::default()), Err(CreateError::Exists)));
    drop(fifo);
    // Released lazily: at some moment it is free again everywhere.
    let end = soon();
    while other.create(Some(id), Limits::default()).is_err() {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    assert!(matches!(one.create(None, Limits { message_max: 1 << 40, ring: 0 }), Err(CreateError::Limits)));
    assert!(matches!(one.create(None, Limits { message_max: 0, ring: 5000 }), Err(CreateError::Limits)));
}

#[test]
fn the_end_of_a_process_is_told() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let (owner, other) = (bed.attach(0), bed.attach(pu));
        let fifo = Fifo::create(&owner, Limits::default()).unwrap();
        fifo.grant(other.pid(), Rights::WRITE | Rights::READ).unwrap();
        let pid = other.pid();
        let mut reader = fifo.reader().unwrap();
        let mut writer = other.connect_writer(fifo.id()).unwrap();
        writer.write(b"last").unwrap();
        // Without closing what it has: as it is when a process is killed.
        let _never_closed = std::mem::ManuallyDrop::new(writer);
        let fd = std::os::fd::AsFd::as_fd(&other).try_clone_to_owned().unwrap();
        rustix::net::shutdown(&fd, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(event(&mut reader), Event::Message(Message { from: pid, bytes: b"last".to_vec() }));
        assert_eq!(event(&mut reader), Event::Ended { from: pid, why: End::Died });
    }
}

#[test]
fn the_end_of_a_reader_is_an_error_of_its_writers() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let (owner, other) = (bed.attach(0), bed.attach(pu));
        let fifo = Fifo::create(&owner, Limits::default()).unwrap();
        fifo.grant(other.pid(), Rights::WRITE).unwrap();
        let reader = fifo.reader().unwrap();
        let mut writer = other.connect_writer(fifo.id()).unwrap();
        writer.write(b"x").unwrap();
        drop(reader);
        let end = soon();
        let error = loop {
            match writer.write_by(b"x", end) {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!(error, WriteError::Ended(End::Closed));
    }
}

#[test]
fn a_released_fifo_ends_for_everybody() {
    let bed = Bed::new(2);
    let (owner, reads, writes) = (bed.attach(0), bed.attach(1), bed.attach(0));
    let fifo = Fifo::create(&owner, Limits::default()).unwrap();
    fifo.grant(reads.pid(), Rights::READ).unwrap();
    fifo.grant(writes.pid(), Rights::WRITE).unwrap();
    let mut reader = reads.connect_reader(fifo.id()).unwrap();
    let mut writer = writes.connect_writer(fifo.id()).unwrap();
    writer.write(b"x").unwrap();
    drop(fifo);
    assert_eq!(event(&mut reader), Event::Message(Message { from: writes.pid(), bytes: b"x".to_vec() }));
    assert!(matches!(event(&mut reader), Event::Ended { why: End::Closed, .. }));
    assert_eq!(reader.event_by(soon()), Err(ReadError::Ended(End::Closed)));
    assert_eq!(writer.write_by(b"y", soon()), Err(WriteError::Ended(End::Closed)));
}

#[test]
fn many_writers_are_read_in_turn() {
    let bed = Bed::new(2);
    let owner = bed.attach(0);
    let fifo = Fifo::create(&owner, Limits::default()).unwrap();
    let mut reader = fifo.reader().unwrap();
    let writers: Vec<_> = (0..8).map(|i| bed.attach(i % 2)).collect();
    for process in &writers {
        fifo.grant(process.pid(), Rights::WRITE).unwrap();
    }
    std::thread::scope(|scope| {
        for process in &writers {
            scope.spawn(|| {
                let mut writer = process.connect_writer(fifo.id()).unwrap();
                (0..1000u32).for_each(|n| writer.write(&n.to_le_bytes()).unwrap());
            });
        }
        let mut next = std::collections::HashMap::<XpuPid, u32>::new();
        let mut ended = 0;
        while ended < writers.len() {
            match event(&mut reader) {
                Event::Message(Message { from, bytes }) => {
                    let n = next.entry(from).or_default();
                    assert_eq!(bytes, n.to_le_bytes());
                    *n += 1;
                }
                Event::Ended { why, .. } => {
                    assert_eq!(why, End::Closed);
                    ended += 1;
                }
            }
        }
        assert!(next.len() == writers.len() && next.values().all(|n| *n == 1000));
    });
}

#[test]
fn names_that_nobody_has() {
    let bed = Bed::new(2);
    let process = bed.attach(0);
    let fifo = Fifo::create(&process, Limits::default()).unwrap();
    for pid in [0, 1, u64::MAX, process.pid().0 + 1, XpuPid::new(PuId(9), 1, 1).0] {
        let refused = fifo.grant(XpuPid(pid), Rights::READ);
        assert!(matches!(refused, Err(GrantError::NoSuchProcess)), "{pid:x}: {refused:?}");
    }
    for id in [0, 1, u64::MAX] {
        assert!(matches!(process.connect_reader(FifoId(id)), Err(ConnectError::NoSuchFifo)), "{id:x}");
        assert!(process.release(FifoId(id)).is_err());
    }
}
