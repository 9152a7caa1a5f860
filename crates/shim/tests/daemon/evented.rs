//! Readers and writers in tokio's event loop.

use crate::bed::Bed;
use std::time::Duration;
use xpucall::error::{End, ReadError, WriteError};
use xpucall::evented::{EventedReader, EventedWriter};
use xpucall::id::Rights;
use xpucall::{Event, Fifo, Limits};

fn run(what: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), what).await.expect("in time") });
}

#[test]
fn messages_and_room_are_waited_for() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let (owner, other) = (bed.attach(0), bed.attach(pu));
        let fifo = Fifo::create(&owner, Limits { message_max: 4096, ring: 4096 }).unwrap();
        fifo.grant(other.pid(), Rights::WRITE).unwrap();
        let id = fifo.id();
        run(async {
            let mut reader = EventedReader::new(fifo.reader().unwrap()).unwrap();
            let writes = async {
                // The reader waits already: it hears of the lane first.
                tokio::task::yield_now().await;
                let mut writer = EventedWriter::new(other.connect_writer(id).unwrap()).unwrap();
                for n in 0..2000u32 {
                    writer.write(&[n as u8; 1000]).await.unwrap();
                }
            };
            let reads = async {
                for n in 0..2000u32 {
                    match reader.event().await.unwrap() {
                        Event::Message(message) => assert_eq!(message.bytes, [n as u8; 1000]),
                        ended => panic!("{ended:?}"),
                    }
                }
                assert_eq!(reader.event().await.unwrap(), Event::Ended { from: other.pid(), why: End::Closed });
            };
            tokio::join!(writes, reads);
        });
    }
}

#[test]
fn a_revoke_wakes_both_ends() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let (owner, other) = (bed.attach(0), bed.attach(pu));
        let fifo = Fifo::create(&owner, Limits { message_max: 4096, ring: 4096 }).unwrap();
        fifo.grant(other.pid(), Rights::WRITE).unwrap();
        run(async {
            let mut reader = EventedReader::new(fifo.reader().unwrap()).unwrap();
            let mut writer = EventedWriter::new(other.connect_writer(fifo.id()).unwrap()).unwrap();
            writer.write(b"x").await.unwrap();
            assert!(matches!(reader.event().await.unwrap(), Event::Message(_)));
            while writer.get().try_write(&[0; 1000]).is_ok() {}
            let ends = async {
                tokio::task::yield_now().await;
                fifo.revoke(other.pid(), Rights::WRITE).unwrap();
            };
            let (written, ()) = tokio::join!(writer.write(&[0; 1000]), ends);
            assert_eq!(written, Err(WriteError::Ended(End::Revoked)));
            assert_eq!(reader.event().await.unwrap(), Event::Ended { from: other.pid(), why: End::Revoked });
        });
    }
}

#[test]
fn the_end_of_a_shim_wakes_its_readers() {
    let mut bed = Bed::new(1);
    let process = bed.attach(0);
    let fifo = Fifo::create(&process, Limits::default()).unwrap();
    run(async {
        let mut reader = EventedReader::new(fifo.reader().unwrap()).unwrap();
        let ends = async {
            tokio::task::yield_now().await;
            bed.pus[0].end();
        };
        let (heard, ()) = tokio::join!(reader.event(), ends);
        assert!(matches!(heard, Err(ReadError::Broken(_))), "{heard:?}");
    });
}

/// An edge tells of both, and of both only once.
#[test]
fn the_end_of_a_shim_is_not_overheard_beside_a_message() {
    let mut bed = Bed::new(1);
    let (owner, other) = (bed.attach(0), bed.attach(0));
    let fifo = Fifo::create(&owner, Limits::default()).unwrap();
    fifo.grant(other.pid(), Rights::WRITE).unwrap();
    run(async {
        let mut reader = EventedReader::new(fifo.reader().unwrap()).unwrap();
        let mut writer = EventedWriter::new(other.connect_writer(fifo.id()).unwrap()).unwrap();
        writer.write(b"first").await.unwrap();
        assert!(matches!(reader.event().await, Ok(Event::Message(_))));
        let both = async {
            tokio::task::yield_now().await;
            writer.write(b"last").await.unwrap();
            bed.pus[0].end();
        };
        let (heard, ()) = tokio::join!(reader.event(), both);
        assert!(matches!(heard, Ok(Event::Message(_))), "{heard:?}");
        loop {
            match reader.event().await {
                Ok(Event::Ended { .. }) => {}
                heard => break assert!(matches!(heard, Err(ReadError::Broken(_))), "{heard:?}"),
            }
        }
    });
}
