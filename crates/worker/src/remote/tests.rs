//! A gateway and a worker that are played here, with near and far between them.

use super::*;
use crate::kits::Kit;
use crate::protocol::{Command, Event, Order, Ordered};
use cfork::invocation::{self, PART_MAX, Served};
use interconnect::channel::{Channel, SendError};
use interconnect::doorbell;
use interconnect::layout::{RING, RINGS};
use interconnect::link::shm::Shm;
use sandbox::conversation::{self, MESSAGE_MAX};
use sandbox::spec::{Code, End as Ending, EngineClass, Kind, Limits, Network, StartSpec, TemplateSpec, Version};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const BODY_MAX: usize = 8 << 20;

/// Everything between a gateway and a worker, which the test plays.
struct Way {
    gateway: OwnedFd,
    worker: OwnedFd,
    /// Kits that the gateway has sent.
    kits: std::cell::Cell<u64>,
    threads: Vec<JoinHandle<()>>,
    _stop: std::io::PipeWriter,
    _store: TempDir,
}

impl Way {
    fn new() -> Self {
        let (gateway, gateways) = os::seqpacket::pair().unwrap();
        let (worker, workers) = os::seqpacket::pair().unwrap();
        let (one, other) = os::seqpacket::pair().unwrap();
        let near = Near::new(gateways, Box::new(Shm::offer(one).unwrap()));
        let link = Box::new(Shm::accept(other, PATIENCE).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let far = Far::new(workers, link, Store::new(&folder.path().join("code")).unwrap());
        let (stopped, stop) = std::io::pipe().unwrap();
        let also = stopped.try_clone().unwrap();
        let threads = vec![
            std::thread::spawn(move || drop(near.run(stopped.as_fd()))),
            std::thread::spawn(move || drop(far.run(also.as_fd()))),
        ];
        Self { gateway, worker, kits: Default::default(), threads, _stop: stop, _store: folder }
    }

    fn command(&self, command: &Command) {
        conversation::say(&self.gateway, command, &[]).unwrap();
    }

    /// The next event, at the gateway.
    fn event(&self) -> Event {
        conversation::hear(&self.gateway, &mut vec![0; MESSAGE_MAX]).unwrap().0
    }

    /// The next command, at the worker.
    fn commanded(&self) -> (Command, Vec<OwnedFd>) {
        conversation::hear(&self.worker, &mut vec![0; MESSAGE_MAX]).unwrap()
    }

    fn report(&self, event: &Event) {
        conversation::say(&self.worker, event, &[]).unwrap();
    }

    /// Asks for an instance whose code is in this folder: the gateway's end of its channel, and of its log.
    fn spawn(&self, instance: u64, folder: &Path) -> (Channel, std::io::PipeReader) {
        let (channel, guest) = Channel::create(BODY_MAX).unwrap();
        channel.receiver.sleep_by_event();
        let (log, printer) = std::io::pipe().unwrap();
        let code = Code { folder: folder.to_owned(), layers: None, config: "{}".into() };
        let start = StartSpec {
            instance,
            code: Some(code),
            limits: Limits::for_memory(128, 512),
            class: EngineClass::Short,
            apart: None,
        };
        let kit = Kit { channel: guest, log: printer.into() };
        let number = self.kits.get() + 1;
        self.kits.set(number);
        conversation::say(&self.gateway, &Command::Kits { first: number }, &kit.descriptors()).unwrap();
        self.command(&Command::Spawn(Order { template: 1, starts: vec![Ordered { kit: number, spec: start }] }));
        (channel, log)
    }

    /// The instance's end of what was asked for: its channel, its log, its code.
    fn spawned(&self) -> (Channel, std::fs::File, Code) {
        let (start, [region, down, up, log]) = self.started();
        (Channel::attach(region, down, up).unwrap(), log.into(), start.code.unwrap())
    }

    /// A start, and its kit, at the worker.
    fn started(&self) -> (StartSpec, [OwnedFd; 4]) {
        let (Command::Kits { first }, kit) = self.commanded() else { panic!("no kit") };
        let (Command::Spawn(Order { mut starts, .. }), _) = self.commanded() else { panic!("no start") };
        let Ordered { kit: number, spec } = starts.remove(0);
        assert_eq!(number, first);
        (spec, kit.try_into().unwrap())
    }
}

fn receive(channel: &mut Channel) -> (u32, Vec<u8>, Vec<u8>) {
    let begun = Instant::now();
    loop {
        if let Some(message) = channel.receiver.receive().unwrap() {
            return (message.kind(), message.head().to_vec(), message.body());
        }
        assert!(begun.elapsed() < PATIENCE, "no message");
        channel.receiver.wait(Duration::ZERO, Some(Duration::from_millis(100)));
    }
}

fn code() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    std::fs::write(folder.path().join("lib/app.py"), "def handler(event, context): return event").unwrap();
    folder
}

#[test]
fn an_instance_is_served_from_another_machine() {
    let (way, folder) = (Way::new(), code());
    let hello = Event::Hello { languages: vec![(Kind::Python, Version::default())], missing: vec![] };
    way.report(&hello);
    assert_eq!(way.event(), hello);
    let spec = TemplateSpec {
        kind: Kind::Python,
        version: Version::default(),
        preload: vec![],
        function: None,
        limits: Limits::for_memory(128, 512),
        network: Network::None,
    };
    let prepare = Command::Prepare { template: 1, spec };
    way.command(&prepare);
    assert_eq!(way.commanded().0, prepare);
    let (mut caller, mut lines) = way.spawn(7, folder.path());
    let body: Vec<u8> = (0..6 << 20).map(|i| (i >> 5) as u8).collect();
    let head = invocation::Invocation { deadline_unix_ms: 3000, request_id: "r", ..Default::default() }.encode();
    caller.sender.send(invocation::INVOKE, &head, &body).unwrap();
    let (mut instance, mut log, code) = way.spawned();
    assert_eq!(std::fs::read_dir(code.folder.join("lib")).unwrap().count(), 1, "its code is here");
    assert_ne!(code.folder, folder.path());
    way.report(&Event::Spawned { instance: 7 });
    assert_eq!(way.event(), Event::Spawned { instance: 7 });
    let (kind, got, event) = receive(&mut instance);
    assert_eq!((kind, &got), (invocation::INVOKE, &head));
    assert!(event == body);
    std::io::Write::write_all(&mut log, b"printed\n").unwrap();
    let now = os::monotonic_ns();
    let served = Served { begun: now, ended: now + 5 };
    instance.sender.send(invocation::REPLY, &served.encode(), &event).unwrap();
    let (kind, head, answer) = receive(&mut caller);
    let stamps = Served::decode(&head);
    assert_eq!((kind, stamps.ended - stamps.begun), (invocation::REPLY, 5));
    assert!(stamps.begun.abs_diff(now) < 1_000_000_000 && answer == body);
    let mut printed = [0; 8];
    lines.read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"printed\n");
    way.command(&Command::Retire { instance: 7 });
    assert_eq!(way.commanded().0, Command::Retire { instance: 7 });
    drop((instance, log));
    let ended = Event::Ended { instance: 7, end: Ending::Exit(0), memory_peak: 5 };
    way.report(&ended);
    assert_eq!(way.event(), ended);
    assert_eq!(lines.read(&mut printed).unwrap(), 0, "its log is closed");
    // Code that has come does not come again.
    std::fs::remove_dir_all(folder.path()).unwrap();
    let _again = way.spawn(8, folder.path());
    assert_eq!(way.spawned().2.folder, code.folder);
}

#[test]
fn answers_in_parts_wait_for_their_reader() {
    const PARTS: usize = 300;
    let (way, folder) = (Way::new(), code());
    let (mut caller, _log) = way.spawn(1, folder.path());
    let (mut instance, log, _code) = way.spawned();
    let writer = std::thread::spawn(move || {
        for i in 0..PARTS {
            let part = vec![i as u8; PART_MAX];
            while instance.sender.send(invocation::PART, &[], &part) == Err(SendError::Busy) {
                if !instance.receiver.nudged(invocation::ROOM).unwrap() {
                    instance.receiver.wait(Duration::ZERO, Some(PATIENCE));
                }
            }
        }
        drop((instance, log));
    });
    for i in 0..PARTS {
        let (kind, _, body) = receive(&mut caller);
        assert_eq!(kind, invocation::PART);
        assert!(body.len() == PART_MAX && body[0] == i as u8, "part {i}");
        caller.sender.nudge(invocation::ROOM).unwrap();
    }
    writer.join().unwrap();
    let ended = Event::Ended { instance: 1, end: Ending::Exit(0), memory_peak: 0 };
    way.report(&ended);
    assert_eq!(way.event(), ended);
}

#[test]
fn code_that_does_not_come_is_a_start_that_fails() {
    let way = Way::new();
    let _ends = way.spawn(1, Path::new("/nonexistent/lichen-code"));
    let Event::NotSpawned { instance: 1, reason } = way.event() else { panic!("it was started without its code") };
    assert!(reason.contains("did not come"), "{reason}");
}

#[test]
fn an_instance_whose_caller_is_gone_ends_all_the_same() {
    let (way, folder) = (Way::new(), code());
    let ends = way.spawn(1, folder.path());
    let (mut instance, log, _code) = way.spawned();
    let sent = (0..1000).take_while(|_| instance.sender.send(invocation::PART, &[], &[0; PART_MAX]).is_ok()).count();
    assert!(sent > 0);
    way.command(&Command::Retire { instance: 1 });
    assert_eq!(way.commanded().0, Command::Retire { instance: 1 });
    drop((instance, log));
    let ended = Event::Ended { instance: 1, end: Ending::Signal(9), memory_peak: 0 };
    way.report(&ended);
    assert_eq!(way.event(), ended);
    drop(ends);
}

#[test]
fn an_instance_that_breaks_its_channel_is_ended() {
    let (way, folder) = (Way::new(), code());
    let _ends = way.spawn(1, folder.path());
    let (_, [region, down, up, log]) = way.started();
    let region = std::fs::File::from(region);
    // A frame that no ring has room for; and the bell.
    region.write_at(&12_345_677_u32.to_ne_bytes(), (RINGS + RING) as u64).unwrap();
    doorbell::ring(&up);
    assert_eq!(way.commanded().0, Command::Retire { instance: 1 });
    drop((region, down, up, log));
    let ended = Event::Ended { instance: 1, end: Ending::Signal(9), memory_peak: 0 };
    way.report(&ended);
    assert_eq!(way.event(), ended);
}

#[test]
fn all_end_with_any() {
    let Way { gateway, worker, threads, _stop, .. } = Way::new();
    drop(gateway);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(conversation::hear::<Command>(&worker, &mut vec![0; MESSAGE_MAX]).is_err());
    let Way { gateway, worker, threads, _stop, .. } = Way::new();
    drop(worker);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(conversation::hear::<Event>(&gateway, &mut vec![0; MESSAGE_MAX]).is_err());
}
