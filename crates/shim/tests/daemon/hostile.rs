//! What processes can do to their shim and to each other when they do not keep to the rules: nothing.

use crate::bed::{Bed, event, soon};
use os::mapping::Mapping;
use os::seqpacket;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use xpucall::abi::{self, Request, call};
use xpucall::error::{AttachError, Broken, CheckError, ConnectError, CreateError, End, Resource, WriteError};
use xpucall::id::{FifoId, Rights};
use xpucall::wire::{Call, Event as Said, Hello, Transport};
use xpucall::{Event, Fifo, Limits, Process};

/// A process that attaches by hand, and has its descriptors to do with as it likes.
struct Rogue {
    socket: OwnedFd,
    calls: Mapping,
    descriptors: Vec<OwnedFd>,
    slots: u32,
}

impl Rogue {
    fn attach(bed: &Bed, transport: Transport) -> Self {
        let socket = seqpacket::connect(&bed.pus[0].socket).unwrap();
        say(&socket, &postcard::to_stdvec(&Hello { magic: abi::MAGIC, version: abi::VERSION, transport }).unwrap());
        let mut descriptors = Vec::new();
        let said = hear(&socket, &mut descriptors);
        let Said::Welcome { slots, .. } = said else { panic!("{said:?}") };
        let calls = Mapping::shared(&descriptors[0], abi::call_bytes(slots)).unwrap();
        Self { socket, calls, descriptors, slots }
    }

    fn set(&self, offset: usize, value: u32) {
        interconnect::lane::Word::new(&std::sync::Arc::new(self.map()), offset)
            .store(value, std::sync::atomic::Ordering::SeqCst);
    }

    fn map(&self) -> Mapping {
        Mapping::shared(&self.descriptors[0], self.calls.len()).unwrap()
    }

    /// Calls over the socket.
    fn call(&self, number: u32, request: Request) -> ([u64; 4], u32, Vec<OwnedFd>) {
        let call = Call { number, call: request.call, arguments: request.arguments, program: None };
        say(&self.socket, &postcard::to_stdvec(&call).unwrap());
        let mut descriptors = Vec::new();
        match hear(&self.socket, &mut descriptors) {
            Said::Answer { status, values, .. } => (values, status, descriptors),
            said => panic!("{said:?}"),
        }
    }
}

fn say(socket: &OwnedFd, bytes: &[u8]) {
    seqpacket::send(socket, &[IoSlice::new(bytes)], &[]).unwrap();
}

fn wait(socket: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)), Ok(1), "nothing came");
}

fn hear(socket: &OwnedFd, descriptors: &mut Vec<OwnedFd>) -> Said {
    wait(socket);
    let mut buffer = [0; 256];
    let len = seqpacket::receive(socket, &mut buffer, descriptors).unwrap();
    postcard::from_bytes(&buffer[..len]).unwrap()
}

/// The shim has hung up.
fn hung_up(socket: &OwnedFd) -> bool {
    loop {
        wait(socket);
        match seqpacket::receive(socket, &mut [0; 256], &mut Vec::new()) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// The shim serves whoever keeps to the rules.
fn serves(bed: &Bed) {
    let process = bed.attach(0);
    let fifo = Fifo::create(&process, Limits::default()).unwrap();
    let (mut reader, mut writer) = (fifo.reader().unwrap(), fifo.writer().unwrap());
    writer.write(b"as ever").unwrap();
    assert!(matches!(event(&mut reader), Event::Message(message) if message.bytes == b"as ever"));
}

/// Numbers that look random, and are the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn packets_that_are_no_messages_end_their_sender_only() {
    let bed = Bed::new(1);
    for garbage in [&b"x"[..], &[0xff; 60], &[0; 64], &[7; 4096]] {
        let socket = seqpacket::connect(&bed.pus[0].socket).unwrap();
        say(&socket, garbage);
        assert!(hung_up(&socket), "a stranger that says {garbage:?}");
    }
    let mut noise = Noise(7);
    for len in [1, 5, 100, 4096, 30_000] {
        let rogue = Rogue::attach(&bed, Transport::Adaptive);
        let garbage: Vec<u8> = (0..len).map(|_| noise.next() as u8 | 0x80).collect();
        say(&rogue.socket, &garbage);
        assert!(hung_up(&rogue.socket), "{len} bytes");
    }
    let rogue = Rogue::attach(&bed, Transport::Adaptive);
    let long = vec![0; xpucall::wire::MESSAGE_MAX + 1];
    say(&rogue.socket, &long);
    assert!(hung_up(&rogue.socket));
    serves(&bed);
}

#[test]
fn strangers_that_say_nothing_make_room() {
    let bed = Bed::new(1);
    let silent: Vec<_> = (0..200).map(|_| seqpacket::connect(&bed.pus[0].socket).unwrap()).collect();
    serves(&bed);
    assert!(hung_up(&silent[0]), "the oldest goes first");
}

#[test]
fn calls_that_do_not_exist_are_refused() {
    let bed = Bed::new(1);
    let rogue = Rogue::attach(&bed, Transport::Base);
    let mut noise = Noise(3);
    for number in 0..2000 {
        let arguments = [noise.next(), noise.next() % 100, noise.next(), noise.next() % 9];
        let which = noise.next() as u32 % 16;
        // Spawning without a program, closing what is not open, rights that do not exist, FIFOs that nobody made.
        let (_, status, descriptors) = rogue.call(number, Request::of(which, arguments));
        assert!(descriptors.is_empty());
        let made = which == call::CREATE && status == abi::status::DONE;
        assert!(made || status != abi::status::DONE || matches!(which, call::IDENTIFY), "call {which} {arguments:x?}");
    }
    serves(&bed);
}

#[test]
fn garbage_in_the_call_region_harms_nobody() {
    let bed = Bed::new(1);
    let rogue = Rogue::attach(&bed, Transport::Adaptive);
    let end = Instant::now() + Duration::from_millis(700);
    let mut noise = Noise(11);
    let mut rounds = 0u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            let offset = (noise.next() % 256) as usize & !3;
            rogue.set(offset, noise.next() as u32);
        }
        for slot in 0..16 {
            rogue.set(abi::SLOTS + 4 * slot, noise.next() as u32);
        }
        interconnect::doorbell::ring(&rogue.descriptors[2]);
        rounds += 1;
        if rounds.is_multiple_of(20) {
            serves(&bed);
        }
    }
    serves(&bed);
}

#[test]
fn what_the_shim_publishes_cannot_be_changed() {
    let bed = Bed::new(1);
    let rogue = Rogue::attach(&bed, Transport::Adaptive);
    let notices = &rogue.descriptors[1];
    assert!(Mapping::shared(notices, abi::notice_bytes(rogue.slots)).is_err(), "mapped to be written");
    assert!(rustix::io::pwrite(notices, &[1], 64).is_err());
    for file in &rogue.descriptors[..2] {
        assert!(rustix::fs::ftruncate(file, 0).is_err());
        assert!(rustix::fs::fcntl_add_seals(file, rustix::fs::SealFlags::WRITE).is_err());
    }
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert!(rustix::fs::fallocate(notices, punch, 0, 4096).is_err());
    // Its own calls it may wipe: that is a call numbered 0.
    rustix::fs::fallocate(&rogue.descriptors[0], punch, 0, 4096).unwrap();
    interconnect::doorbell::ring(&rogue.descriptors[2]);
    serves(&bed);
}

#[test]
fn a_doorbell_that_blocks_blocks_nobody() {
    let bed = Bed::new(1);
    let rogue = Rogue::attach(&bed, Transport::Adaptive);
    let bell = &rogue.descriptors[2];
    rustix::fs::fcntl_setfl(bell, rustix::fs::OFlags::empty()).unwrap();
    rustix::io::write(bell, &(u64::MAX - 2).to_ne_bytes()).unwrap();
    serves(&bed);
    // One that is rung without end costs the shim a look each time.
    rustix::fs::fcntl_setfl(bell, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut eight = [0; 8];
    rustix::io::read(bell, &mut eight).unwrap();
    (0..50_000).for_each(|_| interconnect::doorbell::ring(bell));
    serves(&bed);
}

#[test]
fn a_writer_that_keeps_its_hand_up_is_detached() {
    let bed = Bed::new(1);
    let owner = bed.attach(0);
    let fifo = Fifo::create(&owner, Limits::default()).unwrap();
    let rogue = Rogue::attach(&bed, Transport::Base);
    let (values, ..) = rogue.call(1, Request::of(call::IDENTIFY, [0; 4]));
    let pid = xpucall::id::XpuPid(values[0]);
    fifo.grant(pid, Rights::WRITE).unwrap();
    let mut reader = fifo.reader().unwrap();
    let (values, status, descriptors) = rogue.call(2, Request::of(call::WRITER, [fifo.id().0, 0, 0, 0]));
    assert_eq!((status, descriptors.len()), (abi::status::DONE, 2));
    rogue.set(abi::SLOTS + 4 * values[0] as usize, 1);
    let begun = Instant::now();
    fifo.revoke(pid, Rights::WRITE).unwrap();
    let taken = begun.elapsed();
    assert!(taken >= Duration::from_millis(10) && taken < Duration::from_secs(2), "{taken:?}");
    assert!(hung_up(&rogue.socket));
    let ended = Mapping::read_only(&rogue.descriptors[1], 4096).unwrap();
    let ended = interconnect::lane::Word::new(&std::sync::Arc::new(ended), abi::ENDED);
    assert_eq!(ended.load(std::sync::atomic::Ordering::SeqCst), abi::ended::STUCK);
    assert!(matches!(event(&mut reader), Event::Ended { why: End::Revoked, .. }));
    serves(&bed);
}

#[test]
fn a_reader_that_takes_no_news_loses_nothing_of_others() {
    let bed = Bed::new(1);
    let owner = bed.attach(0);
    let fifo = Fifo::create(&owner, Limits { message_max: 64, ring: 4096 }).unwrap();
    let mut reader = fifo.reader().unwrap();
    // Many more than a socket holds.
    let mut writers: Vec<_> = (0..2000).map(|_| fifo.writer().unwrap()).collect();
    serves(&bed);
    for writer in &mut writers {
        writer.write(b"here").unwrap();
    }
    for _ in 0..writers.len() {
        assert!(matches!(event(&mut reader), Event::Message(_)));
    }
    assert_eq!(reader.writers(), writers.len());
}

/// Ends the threads of a test that has failed as well.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn a_thousand_grants_and_revokes_race_with_use() {
    let bed = Bed::new(2);
    let (owner, other) = (bed.attach(0), bed.attach(1));
    let fifo = Fifo::create(&owner, Limits::default()).unwrap();
    let mut reader = fifo.reader().unwrap();
    // The number of the revoke that has returned: what says an earlier one must not be read any more.
    let returned = std::sync::atomic::AtomicU64::new(0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let read = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(order) {
                let Ok(mut writer) = other.connect_writer(fifo.id()) else { continue };
                let error = loop {
                    // Written after that revoke has returned, by a right that was granted since.
                    let stamp = returned.load(order).to_le_bytes();
                    if let Err(error) = writer.write_by(&stamp, soon()) {
                        break error;
                    }
                };
                assert_eq!(error, WriteError::Ended(End::Revoked));
            }
        });
        scope.spawn(|| {
            while !over.load(order) {
                let before = returned.load(order);
                let Ok(event) = reader.event_by(Instant::now() + Duration::from_millis(100)) else { continue };
                if let Event::Message(message) = event {
                    let stamp = u64::from_le_bytes(message.bytes.try_into().expect("whole messages only"));
                    assert!(stamp >= before, "written before revoke {before} had returned, and read after it");
                    read.fetch_add(1, order);
                }
            }
        });
        let _stop = Stop(&over);
        for n in 1..=1000 {
            fifo.grant(other.pid(), Rights::WRITE).unwrap();
            let (before, end) = (read.load(order), soon());
            while n % 10 == 0 && read.load(order) == before {
                assert!(Instant::now() < end, "nothing is read although it may be written");
                std::thread::yield_now();
            }
            fifo.revoke(other.pid(), Rights::WRITE).unwrap();
            returned.store(n, order);
        }
    });
    assert!(matches!(other.connect_writer(fifo.id()), Err(ConnectError::NotPermitted)));
    serves(&bed);
}

#[test]
fn nothing_written_before_a_revoke_is_read_after_it() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let (owner, other) = (bed.attach(0), bed.attach(pu));
        let fifo = Fifo::create(&owner, Limits::default()).unwrap();
        let mut reader = fifo.reader().unwrap();
        for round in 0..100 {
            fifo.grant(other.pid(), Rights::WRITE).unwrap();
            let mut writer = other.connect_writer(fifo.id()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| while writer.write(&[round; 100]).is_ok() {});
                // One at least: of a writer whose lane never came there is no end to tell.
                for _ in 0..=round % 7 {
                    event(&mut reader);
                }
                fifo.revoke(other.pid(), Rights::WRITE).unwrap();
            });
            // What is found from here on was put there before the revoke returned, and is not delivered.
            assert_eq!(event(&mut reader), Event::Ended { from: other.pid(), why: End::Revoked });
        }
    }
}

#[test]
fn quotas_are_kept() {
    let bed = Bed::with(1, |config| {
        let platform = &mut config.quotas.platform;
        (platform.fifos, platform.ends, platform.writers, platform.capabilities) = (3, 5, 2, 2);
        (platform.memory, platform.children, platform.message_max) = (72 << 20, 0, 8 << 20);
    });
    let process = bed.attach(0);
    let mut fifos: Vec<_> = (0..3).map(|_| Fifo::create(&process, Limits::default()).unwrap()).collect();
    assert!(matches!(process.create(None, Limits::default()), Err(CreateError::Quota(Resource::Fifos))));
    drop(fifos.pop());
    fifos.push(Fifo::create(&process, Limits::default()).unwrap());
    assert!(matches!(
        process.create(Some(FifoId(1)), Limits { message_max: 9 << 20, ring: 0 }),
        Err(CreateError::Limits | CreateError::Quota(_))
    ));

    let (one, two) = (fifos[0].writer().unwrap(), fifos[0].writer().unwrap());
    assert!(matches!(fifos[0].writer(), Err(ConnectError::Quota(Resource::Lanes))));
    let ends = [fifos[1].writer().unwrap(), fifos[1].writer().unwrap()];
    let reader = fifos[2].reader().unwrap();
    assert!(matches!(fifos[2].writer(), Err(ConnectError::Quota(Resource::Slots))));
    drop((one, reader));
    let again = fifos[2].writer().unwrap();
    drop((two, ends, again));

    let others: Vec<_> = (0..3).map(|_| bed.attach(0)).collect();
    let granted: Vec<_> = others.iter().map(|other| fifos[0].grant(other.pid(), Rights::WRITE)).collect();
    assert!(granted[0].is_ok() && granted[1].is_ok());
    assert!(matches!(granted[2], Err(xpucall::error::GrantError::Quota(Resource::Capabilities))), "{granted:?}");

    let large = Fifo::create(&others[0], Limits { message_max: 8 << 20, ring: 0 }).unwrap();
    let larger = Fifo::create(&others[0], Limits { message_max: 8 << 20, ring: 0 }).unwrap();
    let kept = [large.writer().unwrap(), large.writer().unwrap(), larger.writer().unwrap(), larger.writer().unwrap()];
    let third = Fifo::create(&others[0], Limits { message_max: 8 << 20, ring: 0 }).unwrap();
    assert!(matches!(third.writer(), Err(ConnectError::Quota(Resource::Memory))));
    drop(kept);
    // Given back when the lanes are over, of which nobody waits to hear.
    let end = soon();
    while third.writer().is_err() {
        assert!(Instant::now() < end);
    }
}

#[test]
fn guests_may_not_poll_nor_start_programs() {
    // A user that is nobody's: needs the right to become one.
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can be somebody else");
    }
    let bed = Bed::new(1);
    let socket = bed.pus[0].socket.clone();
    let path = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bed.folder.path(), path).unwrap();
    std::thread::spawn(move || {
        os::process::become_effective(65_534).unwrap();
        let polls = Process::attach(&socket, Transport::Polling);
        assert!(matches!(polls, Err(AttachError::NotPermitted)), "{polls:?}");
        let guest = Process::attach(&socket, Transport::Adaptive).unwrap();
        let program = xpucall::wire::Program {
            path: "/bin/true".into(),
            arguments: vec!["true".into()],
            environment: Vec::new(),
            capabilities: Vec::new(),
        };
        let spawned = guest.spawn(xpucall::id::PuId(0), program);
        assert!(matches!(spawned, Err(xpucall::error::SpawnError::NotPermitted)), "{spawned:?}");
        let all: Vec<_> =
            std::iter::from_fn(|| Process::attach(&socket, Transport::Adaptive).ok()).take(1000).collect();
        assert_eq!(all.len(), 255, "as many as there may be together");
        drop(all);
        guest.get_xpupid().unwrap();
    })
    .join()
    .unwrap();
    serves(&bed);
}

#[test]
fn a_forked_child_is_not_its_parent() {
    let bed = Bed::new(1);
    let process = bed.attach(0);
    let fifo = Fifo::create(&process, Limits::default()).unwrap();
    let mut writer = fifo.writer().unwrap();
    let status = in_child(|| {
        let refused = matches!(process.get_xpupid(), Err(CheckError::Broken(Broken::Forked)))
            && writer.try_write(b"x") == Err(WriteError::Broken(Broken::Forked));
        i32::from(!refused)
    });
    assert_eq!(status, 0);
    process.get_xpupid().unwrap();
    writer.write(b"of the parent").unwrap();
    assert_eq!(fifo.reader().unwrap().read().unwrap().bytes, b"of the parent");
    let _ = process.as_fd();
}

/// Runs this in a forked child: its exit status.
fn in_child(what: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses what it is given, makes no call that waits for another thread, and ends without destructors.
    match unsafe { os::process::fork_into(None) }.unwrap() {
        os::process::Fork::Child => os::process::exit_now(what()),
        os::process::Fork::Parent(pid) => match os::process::wait(pid).unwrap() {
            os::process::End::Exit(status) => status,
            os::process::End::Signal(signal) => -signal,
        },
    }
}
