//! FIFOs between PUs that share no memory: their shims carry the messages, and promise the same.

use crate::bed::{event, soon};
use interconnect::link::shm::Shm;
use interconnect::link::{End as LinkEnd, Interest, Link, SendError, Tier};
use os::seqpacket;
use shim::control::{Report, Supervisor};
use shim::{Config, Shim};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xpucall::error::{End, WriteError};
use xpucall::id::{PuId, Rights};
use xpucall::wire::Transport;
use xpucall::{Event, Fifo, Limits, Message, Process, Writer};

/// A link that could carry descriptors, and behaves like one that cannot.
struct Apart(Shm);

impl Link for Apart {
    fn tier(&self) -> Tier {
        Tier::Tcp
    }
    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if descriptors.is_empty() { self.0.send(message) } else { Err(SendError::NotShared) }
    }
    fn receive(&mut self, message: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<bool, LinkEnd> {
        self.0.receive(message, descriptors)
    }
    fn flush(&mut self) -> Result<bool, LinkEnd> {
        self.0.flush()
    }
    fn arm(&mut self) -> bool {
        self.0.arm()
    }
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.poll_fd()
    }
    fn wants(&self) -> Interest {
        self.0.wants()
    }
}

/// Two PUs without common memory.
struct Two {
    folder: tempfile::TempDir,
    supervisors: Vec<Supervisor>,
    threads: Vec<JoinHandle<()>>,
}

impl Two {
    fn new() -> Self {
        let mut two = Self { folder: tempfile::tempdir().unwrap(), supervisors: Vec::new(), threads: Vec::new() };
        let (one, other) = seqpacket::pair().unwrap();
        for (pu, socket) in [(0, one), (1, other)] {
            let mut config = Config::new(PuId(pu), two.folder.path().join(pu.to_string()));
            config.memory = (pu == 0).then(|| two.folder.path().join("term"));
            let (supervisor, control) = Supervisor::pair().unwrap();
            two.supervisors.push(supervisor);
            two.threads.push(std::thread::spawn(move || {
                let mut shim = Shim::open(config).unwrap();
                shim.obey(control).unwrap();
                let link = if pu == 0 { Shm::offer(socket) } else { Shm::accept(socket, Duration::from_secs(10)) };
                shim.link(PuId(1 - pu), Box::new(Apart(link.unwrap())));
                shim.run();
            }));
        }
        for supervisor in &two.supervisors {
            assert!(matches!(supervisor.hear().unwrap(), Some(Report::Serving { .. })));
        }
        two
    }

    fn attach(&self, pu: u8) -> Process {
        Process::attach(&self.folder.path().join(pu.to_string()), Transport::Adaptive).unwrap()
    }

    /// A FIFO of PU `home`, its owner, and a writer of the other PU.
    fn fifo(&self, home: u8) -> (Process, Fifo, Process, Writer) {
        let (owner, other) = (self.attach(home), self.attach(1 - home));
        let fifo = Fifo::create(&owner, Limits::default()).unwrap();
        fifo.grant(other.pid(), Rights::WRITE).unwrap();
        let writer = other.connect_writer(fifo.id()).unwrap();
        (owner, fifo, other, writer)
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.supervisors.clear();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

#[test]
fn messages_of_any_length_arrive_whole_and_in_order() {
    let two = Two::new();
    for home in [0, 1] {
        let (_owner, fifo, other, mut writer) = two.fifo(home);
        let mut reader = fifo.reader().unwrap();
        // Frames and windows are shorter than some of these.
        let lengths = [0, 1, 64, 32 * 1024 - 4, 32 * 1024, 300_000, 6 << 20, 7];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for len in lengths {
                    writer.write_by(&vec![len as u8; len], soon()).unwrap();
                }
                drop(writer);
            });
            for len in lengths {
                let message = Message { from: other.pid(), bytes: vec![len as u8; len] };
                assert!(event(&mut reader) == Event::Message(message), "{len} bytes");
            }
            assert_eq!(event(&mut reader), Event::Ended { from: other.pid(), why: End::Closed }, "after the last one");
        });
    }
}

#[test]
fn a_reader_that_does_not_read_makes_its_writer_wait() {
    let two = Two::new();
    let (_owner, fifo, _other, mut writer) = two.fifo(0);
    let mut reader = fifo.reader().unwrap();
    let message = vec![3; 100_000];
    let mut written = 0;
    while writer.write_by(&message, Instant::now() + Duration::from_millis(300)).is_ok() {
        written += 1;
        assert!(written < 1000, "nobody keeps all of that");
    }
    for _ in 0..written {
        assert!(matches!(event(&mut reader), Event::Message(read) if read.bytes == message));
    }
    writer.write_by(&message, soon()).unwrap();
    assert!(matches!(event(&mut reader), Event::Message(read) if read.bytes == message));
}

#[test]
fn a_revoke_ends_what_is_on_its_way() {
    let two = Two::new();
    for home in [0, 1] {
        let (_owner, fifo, other, mut writer) = two.fifo(home);
        let mut reader = fifo.reader().unwrap();
        writer.write(b"first").unwrap();
        assert!(matches!(event(&mut reader), Event::Message(_)));
        while writer.write_by(&[1; 50_000], Instant::now() + Duration::from_millis(50)).is_ok() {}
        fifo.revoke(other.pid(), Rights::WRITE).unwrap();
        assert_eq!(event(&mut reader), Event::Ended { from: other.pid(), why: End::Revoked });
        assert_eq!(writer.write_by(b"late", soon()), Err(WriteError::Ended(End::Revoked)));
    }
}

#[test]
fn the_end_of_a_reader_is_an_error_of_its_writer() {
    let two = Two::new();
    let (_owner, fifo, _other, mut writer) = two.fifo(0);
    let reader = fifo.reader().unwrap();
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
