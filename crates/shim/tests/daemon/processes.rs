//! Real processes: programs that are started elsewhere, killed and stopped; PUs that die, and come back.
//!
//! This file's own binary is also the program that is started: with `LICHEN_TEST_PART` set it plays that part, and tests nothing.

use crate::bed::{Bed, event, soon};
use std::time::{Duration, Instant};
use xpucall::error::{Broken, CheckError, ConnectError, End, SpawnError, WriteError};
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire::{Program, Transport};
use xpucall::{Event, Fifo, Limits, Process, Reader};

const PART: &str = "LICHEN_TEST_PART";

/// What a started program does.
#[test]
fn a_part() {
    let Some(part) = std::env::var_os(PART) else { return };
    let part = part.into_string().unwrap();
    let (what, rest) = part.split_once(' ').unwrap();
    if what == "shim" {
        return be_shim(rest);
    }
    let process = Process::inherited(Transport::Adaptive).unwrap().expect("it was started by a shim");
    let mut ids = rest.split(' ').map(|id| FifoId(id.parse().unwrap()));
    let first = ids.next().unwrap();
    match what {
        "echo" => echo(&process, first, ids.next().unwrap()),
        "flood" => flood(&process, first),
        "open" => crate::many::open(&process, first, ids.next().unwrap()),
        other => panic!("no part is called {other}"),
    }
}

/// Sends back what it reads, until nobody writes any more; first, which rights it has.
fn echo(process: &Process, reads: FifoId, writes: FifoId) {
    let Ok(mut writer) = process.connect_writer(writes) else { return };
    let rights = [(reads, Rights::READ), (reads, Rights::WRITE), (writes, Rights::WRITE), (writes, Rights::READ)];
    let rights: Vec<u8> = rights.into_iter().map(|(fifo, rights)| process.check(fifo, rights).is_ok().into()).collect();
    let _ = writer.write(&rights);
    // Released again by a test that is over.
    let Ok(mut reader) = process.connect_reader(reads) else { return };
    while let Ok(Event::Message(message)) = reader.event() {
        let _ = writer.write(&message.bytes);
    }
}

/// Writes long messages until it is stopped.
fn flood(process: &Process, fifo: FifoId) {
    // One that may not is a program that ends at once.
    let Ok(mut writer) = process.connect_writer(fifo) else { return };
    while writer.write(&vec![1; 5 << 20]).is_ok() {}
}

pub fn program(part: &str, capabilities: Vec<(FifoId, Rights)>) -> Program {
    let path = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let arguments = ["part", "processes::a_part", "--exact", "--nocapture"].map(str::to_owned).to_vec();
    Program { path, arguments, environment: vec![(PART.into(), part.into())], capabilities }
}

fn fifo(process: &Process) -> Fifo {
    Fifo::create(process, Limits::default()).unwrap()
}

fn message(reader: &mut Reader) -> (XpuPid, Vec<u8>) {
    match event(reader) {
        Event::Message(message) => (message.from, message.bytes),
        event => panic!("{event:?}"),
    }
}

#[test]
fn programs_start_on_any_pu_with_what_they_are_given() {
    let bed = Bed::new(3);
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 2)] {
        let process = bed.attach(from);
        let (down, up) = (fifo(&process), fifo(&process));
        let mut writer = down.writer().unwrap();
        let mut reader = up.reader().unwrap();
        let part = format!("echo {} {}", down.id().0, up.id().0);
        let capabilities = vec![(down.id(), Rights::READ), (up.id(), Rights::WRITE)];
        let pid = process.spawn(PuId(to), program(&part, capabilities)).unwrap();
        assert_eq!(pid.pu(), PuId(to));
        assert_eq!(message(&mut reader), (pid, vec![1, 0, 1, 0]), "just the rights that were named");
        writer.write(b"to the other PU and back").unwrap();
        assert_eq!(message(&mut reader), (pid, b"to the other PU and back".to_vec()));
        drop(writer);
        assert!(matches!(event(&mut reader), Event::Ended { from, .. } if from == pid), "it ends with its writer");
    }
}

#[test]
fn what_cannot_be_started_is_an_error() {
    let bed = Bed::new(2);
    let process = bed.attach(0);
    let other = bed.attach(1);
    let (own, others) = (fifo(&process), fifo(&other));
    let missing = Program { path: "/nowhere".into(), ..program("flood 1", Vec::new()) };
    for pu in [0, 1] {
        let refused = process.spawn(PuId(pu), missing.clone());
        assert!(
            matches!(&refused, Err(SpawnError::NotStarted(error)) if error.raw_os_error() == Some(2)),
            "{refused:?}"
        );
    }
    assert!(matches!(process.spawn(PuId(7), program("flood 1", Vec::new())), Err(SpawnError::NoSuchPu(_))));
    let stolen = process.spawn(PuId(0), program("flood 1", vec![(others.id(), Rights::READ)]));
    assert!(matches!(stolen, Err(SpawnError::NotPermitted)), "{stolen:?}");
    let unknown = process.spawn(PuId(1), program("flood 1", vec![(FifoId(1), Rights::READ)]));
    assert!(matches!(unknown, Err(SpawnError::NoSuchFifo)), "{unknown:?}");
    let long = Program { arguments: vec!["x".repeat(40_000)], ..program("flood 1", Vec::new()) };
    assert!(matches!(process.spawn(PuId(0), long), Err(SpawnError::TooLong)));
    drop(own);
}

#[test]
fn children_are_counted_while_they_run() {
    let bed = Bed::with(2, |config| config.quotas.platform.children = 2);
    let process = bed.attach(0);
    for pu in [0, 1] {
        let hears = fifo(&process);
        let says = fifo(&process);
        let part = format!("echo {} {}", hears.id().0, says.id().0);
        let capabilities = vec![(hears.id(), Rights::READ), (says.id(), Rights::WRITE)];
        let mut reader = says.reader().unwrap();
        let first = process.spawn(PuId(pu), program(&part, capabilities)).unwrap();
        message(&mut reader);
        process.spawn(PuId(pu), program("flood 1", Vec::new())).unwrap();
        // The second may have ended by itself, for it has no right; the first has not.
        let mut more = Vec::new();
        for _ in 0..2 {
            let wait = fifo(&process);
            let part = format!("echo {} {}", wait.id().0, says.id().0);
            let capabilities = vec![(wait.id(), Rights::READ), (says.id(), Rights::WRITE)];
            more.push((process.spawn(PuId(pu), program(&part, capabilities)), wait));
        }
        assert!(more.iter().any(|(spawned, _)| matches!(spawned, Err(SpawnError::Quota(_)))), "{more:?}");
        let number = find_child(&part);
        rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
        while !matches!(event(&mut reader), Event::Ended { from, .. } if from == first) {}
        // Its place is free again.
        let end = soon();
        while process.spawn(PuId(pu), program("flood 1", Vec::new())).is_err() {
            assert!(Instant::now() < end);
        }
    }
}

#[test]
fn a_killed_process_is_told_of_on_every_fifo_that_it_touched() {
    let bed = Bed::new(2);
    for pu in [0, 1] {
        let process = bed.attach(0);
        let (down, up) = (fifo(&process), fifo(&process));
        let mut writer = down.writer().unwrap();
        let mut reader = up.reader().unwrap();
        let part = format!("echo {} {}", down.id().0, up.id().0);
        let capabilities = vec![(down.id(), Rights::READ), (up.id(), Rights::WRITE)];
        let pid = process.spawn(PuId(pu), program(&part, capabilities)).unwrap();
        message(&mut reader);
        writer.write(b"is it there?").unwrap();
        message(&mut reader);
        let number = find_child(&part);
        rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
        let killed = Instant::now();
        assert_eq!(event(&mut reader), Event::Ended { from: pid, why: End::Died });
        let heard = killed.elapsed();
        let end = soon();
        while writer.write_by(b"x", end).is_ok() {
            assert!(Instant::now() < end);
        }
        assert_eq!(writer.write_by(b"x", end), Err(WriteError::Ended(End::Died)));
        println!("PU {pu}: heard of a death after {heard:?}");
    }
}

/// The process that plays this part.
fn find_child(part: &str) -> rustix::process::Pid {
    let wanted = format!("{PART}={part}");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let number = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|number| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    });
    rustix::process::Pid::from_raw(number.expect("the program runs")).unwrap()
}

#[test]
fn a_writer_that_is_stopped_in_the_middle_does_not_stop_a_revoke() {
    let bed = Bed::new(1);
    let process = bed.attach(0);
    let flooded = fifo(&process);
    let mut reader = flooded.reader().unwrap();
    let part = format!("flood {}", flooded.id().0);
    let pid = process.spawn(PuId(0), program(&part, vec![(flooded.id(), Rights::WRITE)])).unwrap();
    message(&mut reader);
    let number = find_child(&part);
    rustix::process::kill_process(number, rustix::process::Signal::STOP).unwrap();
    let begun = Instant::now();
    flooded.revoke(pid, Rights::WRITE).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(matches!(event(&mut reader), Event::Ended { why: End::Revoked, .. }));
    rustix::process::kill_process(number, rustix::process::Signal::CONT).unwrap();
    assert!(matches!(
        reader.event_by(Instant::now() + Duration::from_millis(100)),
        Err(xpucall::error::ReadError::TimedOut)
    ));
}

/// Is the shim of PU 1, whose supervisor is at descriptor 3.
fn be_shim(socket: &str) {
    let control = os::child::take(os::child::FIRST_DESCRIPTOR).unwrap();
    let mut shim = shim::Shim::open(shim::Config::new(PuId(1), socket.into())).unwrap();
    shim.obey(control).unwrap();
    shim.run();
}

#[test]
fn a_shim_that_is_killed_takes_nobody_with_it() {
    let bed = Bed::new(1);
    let socket = bed.folder.path().join("killed");
    for _ in 0..2 {
        let (supervisor, control) = shim::control::Supervisor::pair().unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["processes::a_part", "--exact", "--nocapture"]).stdout(std::process::Stdio::null());
        command.env(PART, format!("shim {}", socket.display()));
        os::child::hand_over(&mut command, vec![control]);
        let mut child = command.spawn().unwrap();
        drop(command);
        bed.pus[0].supervisor().link(&supervisor, PuId(0), PuId(1)).unwrap();
        while !matches!(supervisor.hear().unwrap(), Some(shim::control::Report::Serving { .. })) {}

        let (here, there) = (bed.attach(0), Process::attach(&socket, Transport::Adaptive).unwrap());
        let (mine, theirs) = (fifo(&here), fifo(&there));
        mine.grant(there.pid(), Rights::WRITE).unwrap();
        let mut reader = mine.reader().unwrap();
        there.connect_writer(mine.id()).map(std::mem::ManuallyDrop::new).unwrap().write(b"x").unwrap();
        message(&mut reader);
        let (mut asleep, _writer) = (theirs.reader().unwrap(), theirs.writer().unwrap());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(move || (asleep.event_by(soon()), Instant::now()));
            child.kill().unwrap();
            let killed = Instant::now();
            child.wait().unwrap();
            bed.pus[0].supervisor().dead(PuId(1)).unwrap();
            assert_eq!(event(&mut reader), Event::Ended { from: there.pid(), why: End::Lost });
            let (heard, when) = sleeper.join().unwrap();
            assert_eq!(heard, Err(xpucall::error::ReadError::Broken(Broken::ShimGone)));
            assert!(when - killed < Duration::from_secs(3), "{:?}", when - killed);
        });
        assert!(matches!(there.get_xpupid(), Err(CheckError::Broken(Broken::ShimGone))));
        here.get_xpupid().unwrap();
    }
}

#[test]
fn a_pu_that_dies_is_lost_to_the_others_and_comes_back() {
    let mut bed = Bed::new(3);
    let (here, there, third) = (bed.attach(0), bed.attach(1), bed.attach(2));
    let (mine, theirs) = (fifo(&here), fifo(&there));
    mine.grant(there.pid(), Rights::WRITE).unwrap();
    theirs.grant(here.pid(), Rights::WRITE).unwrap();
    theirs.grant(third.pid(), Rights::WRITE).unwrap();
    let mut reader = mine.reader().unwrap();
    let mut writer = there.connect_writer(mine.id()).unwrap();
    writer.write(b"x").unwrap();
    message(&mut reader);
    let (mut to_dead, id) = (here.connect_writer(theirs.id()).unwrap(), theirs.id());

    bed.pus[1].end();
    bed.pus[0].supervisor().dead(PuId(1)).unwrap();
    assert_eq!(event(&mut reader), Event::Ended { from: there.pid(), why: End::Lost });
    let end = soon();
    while to_dead.write_by(b"x", end).is_ok() {
        assert!(Instant::now() < end);
    }
    assert_eq!(to_dead.write_by(b"x", end), Err(WriteError::Ended(End::Lost)));
    assert!(matches!(third.connect_writer(id), Err(ConnectError::NoSuchFifo | ConnectError::Lost)));
    assert!(matches!(there.get_xpupid(), Err(CheckError::Broken(Broken::ShimGone))));

    bed.restart(1);
    let again = bed.attach(1);
    assert!(again.pid().incarnation() > there.pid().incarnation());
    mine.grant(again.pid(), Rights::WRITE).unwrap();
    again.connect_writer(mine.id()).unwrap().write(b"back").unwrap();
    assert_eq!(message(&mut reader), (again.pid(), b"back".to_vec()));
    // What was the dead one's is nobody's.
    Fifo::create_as(&again, id, Limits::default()).unwrap();
}

#[test]
fn members_outlive_the_head() {
    let mut bed = Bed::new(2);
    let member = bed.attach(1);
    let local = fifo(&member);
    let mut reader = local.reader().unwrap();
    bed.pus[0].end();
    // Without a head nothing can be agreed on: the member ends what it served, and joins the next term.
    assert!(reader.event_by(soon()).is_err());
    assert!(matches!(member.get_xpupid(), Err(CheckError::Broken(Broken::Fenced))));
    bed.restart(0);
    bed.relink(1);
    let again = bed.attach(1);
    assert!(again.pid().incarnation() > member.pid().incarnation());
    let head = bed.attach(0);
    let fifo = fifo(&head);
    fifo.grant(again.pid(), Rights::WRITE).unwrap();
    let mut reader = fifo.reader().unwrap();
    again.connect_writer(fifo.id()).unwrap().write(b"x").unwrap();
    assert_eq!(message(&mut reader).1, b"x");
}
