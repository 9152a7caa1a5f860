//! A broker and processes: some of them in this process, which differ by their sockets alone, and one that is killed.

use super::*;
use socket::layout::{LOCAL, RECORD};
use socket::member::{Meeting, Member};
use socket::region::{Pair, Receiver, Sender};
use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

/// A broker in a thread of its own, until this is dropped.
struct Served {
    path: PathBuf,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

fn serve(bounds: Bounds) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker");
    let mut broker = Broker::bind(&path, bounds).unwrap();
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || broker.run(stopped.as_fd()).unwrap());
    Served { path, stop: Some(stop), thread: Some(thread), _folder: folder }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

fn quick() -> Bounds {
    Bounds { idle: Duration::from_millis(20), ..Bounds::default() }
}

/// Two processes and their pair.
struct Talk {
    one: Member,
    two: Member,
    _pairs: (Pair, Pair),
    ends: ((Sender, Receiver), (Sender, Receiver)),
    memory: OwnedFd,
}

fn talk(served: &Served) -> Talk {
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let (a, memory) = Pair::create(one.quota()).unwrap();
    let b = Pair::join(&memory, two.quota()).unwrap();
    one.tell(&memory, 0).unwrap();
    two.tell(&memory, 1).unwrap();
    let ends = (a.open(0).unwrap(), b.open(0).unwrap());
    Talk { one, two, _pairs: (a, b), ends, memory }
}

/// Bytes of memory that a file has.
fn resident(file: &OwnedFd) -> usize {
    rustix::fs::fstat(file).unwrap().st_blocks as usize * 512
}

/// Waits, looking, until it is so: what does not come in a minute does not come.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{what} does not come to pass");
        std::thread::yield_now();
    }
}

fn send(sender: &mut Sender, len: usize) -> usize {
    sender.write(&[IoSlice::new(&vec![9; len])]).unwrap()
}

fn receive(receiver: &mut Receiver) -> usize {
    let mut buffer = vec![0; 64 * RECORD];
    let got = receiver.read(&mut [IoSliceMut::new(&mut buffer)], false).unwrap();
    assert!(buffer[..got].iter().all(|&byte| byte == 9));
    got
}

#[test]
fn what_nobody_uses_is_given_back_and_used_again() {
    let served = serve(quick());
    let mut talk = talk(&served);
    for _ in 0..3 {
        let len = LOCAL + 40 * RECORD;
        assert_eq!(send(&mut talk.ends.0.0, len), len);
        assert!(resident(&talk.memory) > len);
        assert_eq!(receive(&mut talk.ends.1.1), len);
        // The sender has looked at nothing since: what it has taken is taken still.
        eventually("memory is given back", || resident(&talk.memory) < LOCAL + 4 * RECORD);
    }
}

#[test]
fn what_is_unread_stays() {
    let served = serve(quick());
    let mut talk = talk(&served);
    let len = LOCAL + 40 * RECORD;
    send(&mut talk.ends.0.0, len);
    // Another pair's comes and goes meanwhile.
    let mut other = self::talk(&served);
    send(&mut other.ends.0.0, len);
    receive(&mut other.ends.1.1);
    eventually("memory is given back", || resident(&other.memory) < LOCAL + 4 * RECORD);
    assert_eq!(receive(&mut talk.ends.1.1), len);
}

#[test]
fn all_have_a_share_and_no_more() {
    let served = serve(Bounds { records: 24, each: 8, ..quick() });
    let mut talk = talk(&served);
    assert_eq!(send(&mut talk.ends.0.0, 30 * RECORD), LOCAL + 8 * RECORD);
    let third = Member::join(&served.path).unwrap();
    let fourth = Member::join(&served.path).unwrap();
    receive(&mut talk.ends.1.1);
    assert!(talk.ends.0.0.is_received().unwrap());
    let len = LOCAL + 6 * RECORD;
    eventually("the share is smaller", || {
        let sent = send(&mut talk.ends.0.0, 30 * RECORD);
        receive(&mut talk.ends.1.1);
        talk.ends.0.0.is_received().unwrap() && sent <= len
    });
    drop((third, fourth, talk.one, talk.two));
}

#[test]
fn who_takes_more_than_it_may_loses_it() {
    let served = serve(Bounds { each: 8, ..quick() });
    let mut talk = talk(&served);
    let len = LOCAL + 4 * RECORD;
    send(&mut talk.ends.0.0, len);
    let hostile = os::mapping::Mapping::shared(&talk.memory, socket::layout::whole(2)).unwrap();
    let at = socket::layout::records(0) + 1000 * RECORD;
    hostile.populate(at, 1000 * RECORD).unwrap();
    eventually("memory is taken", || resident(&talk.memory) < 100 * RECORD);
}

#[test]
fn only_a_pair_of_ones_own_is_watched() {
    let served = serve(quick());
    let talk = talk(&served);
    let stranger = Member::join(&served.path).unwrap();
    let other = os::memfd::sealed("test", 4096).unwrap();
    assert!(stranger.tell(&other, 0).is_err());
    assert!(stranger.tell(&talk.memory, 0).is_err());
    assert!(stranger.tell(&talk.memory, 1).is_err());
    // Who says what it should not is gone; the others are not.
    let stranger = seqpacket::connect(&served.path).unwrap();
    seqpacket::send(&stranger, &[IoSlice::new(b"what?")], &[]).unwrap();
    eventually("a stranger is hung up on", || {
        matches!(seqpacket::receive(&stranger, &mut [0; 8], &mut Vec::new()), Ok(0))
    });
    Member::join(&served.path).unwrap();
}

/// What the killed process does, where this test runs again for its sake: it sends on its standard input's pair, and waits.
#[test]
fn a_process_that_sends() {
    let Some(path) = std::env::var_os("BROKER_OF_A_PROCESS_THAT_SENDS") else { return };
    let memory = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let member = Member::join(Path::new(&path)).unwrap();
    member.tell(&memory, 1).unwrap();
    let pair = Pair::join(&memory, member.quota()).unwrap();
    let (mut sender, _receiver) = pair.open(0).unwrap();
    assert_eq!(send(&mut sender, LOCAL + 40 * RECORD), LOCAL + 40 * RECORD);
    println!("sent");
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_killed_process_sent_is_received_and_nothing_stays() {
    let served = serve(quick());
    let member = Member::join(&served.path).unwrap();
    let (pair, memory) = Pair::create(member.quota()).unwrap();
    member.tell(&memory, 0).unwrap();
    let (mut sender, mut receiver) = pair.open(0).unwrap();
    let name = "broker::tests::a_process_that_sends";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("BROKER_OF_A_PROCESS_THAT_SENDS", &served.path)
        .stdin(Stdio::from(memory.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    assert!(std::io::BufRead::lines(output).any(|line| line.unwrap().contains("sent")));
    send(&mut sender, LOCAL + 40 * RECORD);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(receive(&mut receiver), LOCAL + 40 * RECORD);
    eventually("the memory of both is given back", || resident(&memory) < 2 * LOCAL + 4 * RECORD);
}

/// Two ends of a connection over TCP.
fn connection() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn offer(served: &Served, key: &socket::member::Key, end: impl AsFd) -> OwnedFd {
    let socket = seqpacket::connect(&served.path).unwrap();
    let said: [&[u8]; 3] = [&[socket::member::OFFER], key, &[0; 8]];
    seqpacket::send(&socket, &said.map(IoSlice::new), &[end.as_fd()]).unwrap();
    socket
}

/// What the broker says to an offer; none if it hangs up.
fn told(offer: &OwnedFd) -> Option<(Meeting, OwnedFd)> {
    poll(&mut [PollFd::new(offer, PollFlags::IN)], None).unwrap();
    let (mut message, mut files) = ([0; 64], Vec::new());
    let len = seqpacket::receive(offer, &mut message, &mut files).ok()?;
    Some((Meeting::of(&message[..len])?, files.pop()?))
}

fn number(file: &OwnedFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

#[test]
fn two_ends_meet_in_the_memory_of_their_processes() {
    let served = serve(quick());
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let mut memories = Vec::new();
    for connections in 0..3 {
        let (near, far) = connection();
        let (first, second) = (offer(&served, one.key(), &near), offer(&served, two.key(), &far));
        let ((a, file), (b, same)) = (told(&first).unwrap(), told(&second).unwrap());
        assert_eq!((a.number, a.connection, number(&file)), (b.number, b.connection, number(&same)));
        assert_eq!((a.side, b.side, usize::from(a.connection)), (0, 1, connections));
        memories.push(number(&file));
    }
    assert!(memories.iter().all(|memory| *memory == memories[0]), "{memories:?}");
}

#[test]
fn who_has_no_place_or_no_connection_is_turned_away() {
    let served = serve(quick());
    let one = Member::join(&served.path).unwrap();
    let (near, _far) = connection();
    assert!(told(&offer(&served, &[7; 16], &near)).is_none(), "a key that nobody has");
    assert!(told(&offer(&served, one.key(), std::io::pipe().unwrap().0)).is_none(), "a pipe is no end of a connection");
    // An end that is offered twice is answered once.
    let first = offer(&served, one.key(), &near);
    let _second = offer(&served, one.key(), &near);
    assert!(told(&first).is_none());
}
