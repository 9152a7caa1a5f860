//! A broker and processes: some of them in this process, which differ by their sockets alone, and one that is killed.

mod again;
mod crowds;
mod kills;
mod redirected;
mod users;

use super::*;
use socket::layout::{LOCAL, RECORD};
use socket::member::{ADMITTED, Meeting, Member, REFUSED};
use socket::region::{Pair, Pod, Receiver, Sender};
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
    folder: Option<tempfile::TempDir>,
}

fn serve(bounds: Bounds) -> Served {
    serve_in(tempfile::tempdir().unwrap(), bounds)
}

fn serve_in(folder: tempfile::TempDir, bounds: Bounds) -> Served {
    let path = folder.path().join("broker");
    let mut broker = Broker::bind(&path, bounds).unwrap();
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let thread = std::thread::spawn(move || broker.run(stopped.as_fd()).unwrap());
    Served { path, stop: Some(stop), thread: Some(thread), folder: Some(folder) }
}

impl Served {
    /// It ends, and another one comes.
    fn again(mut self, bounds: Bounds) -> Self {
        let folder = self.folder.take().unwrap();
        drop(self);
        std::fs::remove_file(folder.path().join("broker")).unwrap();
        serve_in(folder, bounds)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

fn quick() -> Bounds {
    let soon = Duration::from_millis(20);
    Bounds { idle: soon, keep: soon, ..Bounds::default() }
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

/// The same, also where the broker keeps senders out for a moment.
fn send_all(sender: &mut Sender, len: usize) {
    let mut sent = 0;
    eventually("all is sent", || {
        sent += send(sender, len - sent);
        sent == len
    });
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
        send_all(&mut talk.ends.0.0, len);
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

/// A library of another build is told so, and which one the broker is of; one that only says more than this one does is let in.
#[test]
fn who_is_of_another_build_is_told_so() {
    let served = serve(quick());
    let answer = |said: &str| {
        let socket = seqpacket::connect(&served.path).unwrap();
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        seqpacket::send(&socket, &[IoSlice::new(format!("lichen socket {said}").as_bytes())], &[]).unwrap();
        let (mut message, mut files) = ([0; 64], Vec::new());
        let len = seqpacket::receive(&socket, &mut message, &mut files).unwrap();
        let after = (message[0] == REFUSED).then(|| seqpacket::receive(&socket, &mut [0; 8], &mut Vec::new()).unwrap());
        (message[..len].to_vec(), files.len(), after)
    };
    let refused = [&[REFUSED], socket::build::own().as_bytes()].concat();
    assert_eq!(answer("999.4 9.9.9"), (refused.clone(), 0, Some(0)));
    assert_eq!(answer("1.999 9.9.9"), (refused, 0, Some(0)));
    let (said, files, _) = answer(&format!("{} and what is yet to come", socket::build::own()));
    assert_eq!((said[0], files), (ADMITTED, 2));
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

fn key(member: &Member) -> socket::member::Key {
    member.key().unwrap().unwrap()
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
        let (first, second) = (offer(&served, &key(&one), &near), offer(&served, &key(&two), &far));
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
    assert!(
        told(&offer(&served, &key(&one), std::io::pipe().unwrap().0)).is_none(),
        "a pipe is no end of a connection"
    );
    // An end that is offered twice is answered once.
    let first = offer(&served, &key(&one), &near);
    let _second = offer(&served, &key(&one), &near);
    assert!(told(&first).is_none());
}

/// Acts in a network namespace of its own, as a Pod has, whose number it is told. None: it takes root.
fn in_a_network<T: Send + 'static>(act: impl FnOnce(u64) -> T + Send + 'static) -> Option<T> {
    std::thread::spawn(|| {
        os::ns::unshare(os::ns::Kinds::NET).ok()?;
        os::netlink::loopback_up().ok()?;
        let namespace = os::netlink::namespace_of(std::net::UdpSocket::bind("127.0.0.1:0").ok()?).ok()?;
        Some(act(namespace))
    })
    .join()
    .unwrap()
}

#[test]
fn who_asks_is_told_of_all_connections() {
    let served = serve(quick());
    assert_eq!(ask(&served.path).unwrap(), api::node::Sockets { broker: true, ..Default::default() });
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let (near, far) = connection();
    let (first, second) = (offer(&served, &key(&one), &near), offer(&served, &key(&two), &far));
    told(&first).zip(told(&second)).unwrap();
    // Of this one, nobody offers the other end.
    let (alone, other) = connection();
    let _waits = offer(&served, &key(&two), &alone);
    let own = Some(std::process::id() as i32);
    eventually("both are known", || ask(&served.path).unwrap().connections.len() == 2);
    let sockets = ask(&served.path).unwrap();
    assert_eq!((sockets.processes, sockets.met), (2, 1));
    let of = |end: &std::net::TcpStream| end.local_addr().unwrap().to_string();
    let met = sockets.connections.iter().find(|connection| connection.ends[1].process.is_some()).unwrap();
    assert_eq!(
        [&met.ends[0], &met.ends[1]].map(|end| (end.address.clone(), end.process)),
        [(of(&near), own), (of(&far), own)]
    );
    assert_eq!((met.tier.as_str(), met.record_bytes), ("tcp", 0), "nobody has sent through memory yet");
    let half = sockets.connections.iter().find(|connection| connection.ends[1].process.is_none()).unwrap();
    assert_eq!((half.ends[0].address.clone(), half.ends[1].address.clone()), (of(&alone), of(&other)));
    drop(one);
    eventually("one that is gone has none", || ask(&served.path).unwrap().connections.len() == 1);
}

#[test]
fn records_that_are_taken_are_told() {
    let served = serve(quick());
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let (near, far) = connection();
    let (first, second) = (offer(&served, &key(&one), &near), offer(&served, &key(&two), &far));
    let ((meeting, file), (_, same)) = (told(&first).unwrap(), told(&second).unwrap());
    let (mine, theirs) = (join(&file, &meeting, &one), join(&same, &told_of(&meeting), &two));
    let mut ends = (open(&mine, meeting), open(&theirs, told_of(&meeting)));
    send(&mut ends.0.0, LOCAL + 4 * RECORD);
    let bytes = ask(&served.path).unwrap().connections[0].record_bytes;
    assert!((4 * RECORD..=6 * RECORD).contains(&(bytes as usize)), "{bytes}");
    receive(&mut ends.1.1);
}

#[test]
fn a_closed_connection_keeps_a_page() {
    let served = serve(quick());
    let (one, two) = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    let (mut shares, mut memory, mut held) = (None, None, Vec::new());
    for _ in 0..20 {
        let ((a, file), (b, _)) = meet(&served, &one, &two);
        let (mine, theirs) = shares.get_or_insert_with(|| (join(&file, &a, &one), join(&file, &b, &two)));
        let mut ends = (open(mine, a), open(theirs, b));
        for meeting in [a, b] {
            say_there(&file, &meeting);
        }
        let sent: usize = (0..24).map(|_| send(&mut ends.0.0, LOCAL / 32)).sum();
        assert_eq!(receive(&mut ends.1.1), sent);
        held.push(ends);
        memory = Some(file);
    }
    let memory = memory.unwrap();
    assert!(resident(&memory) > 15 * LOCAL);
    let last = held.pop();
    drop(held);
    eventually("memory is given back", || resident(&memory) < 8 * LOCAL);
    // What is open keeps its own.
    assert!(resident(&memory) > LOCAL / 2);
    drop(last);
}

/// Says that an end is there, as the library does.
fn say_there(file: &OwnedFd, meeting: &Meeting) {
    let notes =
        std::mem::offset_of!(socket::layout::Way, sender_rest) + std::mem::offset_of!(socket::layout::Rest, notes);
    let at = socket::layout::way(meeting.connection.into(), meeting.side.into()) + notes;
    rustix::io::pwrite(file, &meeting.number.to_ne_bytes(), at as u64).unwrap();
}

/// The same meeting, as the other end is told of it.
fn told_of(meeting: &Meeting) -> Meeting {
    let [own, peer] = meeting.stores;
    Meeting { side: 1 - meeting.side, stores: [peer, own], ..*meeting }
}

fn join(file: &OwnedFd, meeting: &Meeting, member: &Member) -> Pod {
    Pod::join(file, meeting.stores[0].into(), member.quota()).unwrap()
}

fn open(share: &Pod, meeting: Meeting) -> (Sender, Receiver) {
    share.open(meeting.connection.into(), meeting.side.into(), meeting.stores[1].into()).unwrap()
}

fn pods() -> Bounds {
    Bounds { sharing: Sharing::Pod, ..quick() }
}

/// Two members have a connection, and are told where it lies.
fn meet(served: &Served, one: &Member, two: &Member) -> ((Meeting, OwnedFd), (Meeting, OwnedFd)) {
    let (near, far) = connection();
    let (first, second) = (offer(served, &key(one), &near), offer(served, &key(two), &far));
    let told = (told(&first).unwrap(), told(&second).unwrap());
    assert_eq!(number(&told.0.1), number(&told.1.1));
    told
}

#[test]
fn processes_of_a_pod_have_one_memory() {
    let served = serve(pods());
    let members: Vec<Member> = (0..3).map(|_| Member::join(&served.path).unwrap()).collect();
    let mut memories = Vec::new();
    for (connections, (one, two)) in [(0, 1), (1, 2), (2, 0), (0, 0)].into_iter().enumerate() {
        let (one, two) = (&members[one], &members[two]);
        let ((a, file), (b, same)) = meet(&served, one, two);
        assert_eq!((a.connection, usize::from(b.connection)), (b.connection, connections));
        assert_eq!((a.side, a.stores[0], a.stores[1]), (1 - b.side, b.stores[1], b.stores[0]));
        // Who talks to himself has one store all the same.
        let (mine, theirs) = (join(&file, &a, one), (a.stores[0] != b.stores[0]).then(|| join(&same, &b, two)));
        let mut ends = (open(&mine, a), open(theirs.as_ref().unwrap_or(&mine), b));
        for _ in 0..2 {
            let len = LOCAL + 10 * RECORD;
            assert_eq!(send(&mut ends.0.0, len), len);
            assert_eq!(receive(&mut ends.1.1), len);
            assert_eq!(send(&mut ends.1.0, len), len);
            assert_eq!(receive(&mut ends.0.1), len);
        }
        memories.push(file);
    }
    assert!(memories.iter().all(|memory| number(memory) == number(&memories[0])));
    eventually("memory is given back", || resident(&memories[0]) < 16 * LOCAL);
}

#[test]
fn a_pod_of_more_processes_has_more_memories() {
    let served = serve(pods());
    let members: Vec<Member> = (0..18).map(|_| Member::join(&served.path).unwrap()).collect();
    let mut memories: Vec<u64> =
        members[1..].iter().map(|member| number(&meet(&served, &members[0], member).0.1)).collect();
    memories.dedup();
    assert_eq!(memories.len(), 2, "fifteen beside the first, then another");
    let (one, other) = (meet(&served, &members[1], &members[2]), meet(&served, &members[16], &members[17]));
    assert_eq!([number(&one.0.1), number(&other.0.1)], [memories[0], memories[1]]);
}

#[test]
fn another_pod_is_given_no_memory_of_this_one() {
    let served = std::sync::Arc::new(serve(pods()));
    let pair = |served: &Served| {
        let members = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
        (meet(served, &members.0, &members.1).0.1, members)
    };
    let (own, _members) = pair(&served);
    let there = served.clone();
    let Some((other, _others)) = in_a_network(move |_| pair(&there)) else {
        return println!("skip: a network namespace takes root");
    };
    assert_ne!(number(&own), number(&other));
    // And of this one's memory, nobody can make the broker believe that a store is his.
    let stranger = Member::join(&served.path).unwrap();
    assert!((0..2).all(|store| stranger.tell(&own, store).is_err()));
}

#[test]
fn a_hostile_process_of_a_pod_harms_what_it_shares_and_nothing_else() {
    let served = serve(Bounds { each: 64, ..pods() });
    let members: Vec<Member> = (0..3).map(|_| Member::join(&served.path).unwrap()).collect();
    let ((a, file), (b, _)) = meet(&served, &members[0], &members[1]);
    let ((c, _), _) = meet(&served, &members[0], &members[2]);
    let (one, two) = (join(&file, &a, &members[0]), join(&file, &b, &members[1]));
    let mut ends = (open(&one, a), open(&two, b));
    // The third writes whatever it likes, wherever it likes, while the others talk and the broker looks.
    let hostile = os::mapping::Mapping::shared(&file, socket::layout::whole(16)).unwrap();
    let (mut random, mut received) = (7_u64, 0);
    for turn in 0..500 {
        for _ in 0..50 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = 32 + (random >> 20) as usize % (64 << 10);
            rustix::io::pwrite(&file, &random.to_ne_bytes(), (at as u64) & !7).unwrap();
        }
        let _ = ends.0.0.write(&[IoSlice::new(&[9; 3000])]);
        let mut buffer = vec![0; 64 * RECORD];
        // Broken, wrong, or right: it is told, and ends.
        received += ends.1.1.read(&mut [IoSliceMut::new(&mut buffer)], false).unwrap_or(0);
        if turn % 100 == 0 {
            ask(&served.path).unwrap();
        }
    }
    let _ = received;
    // More than it may have is taken from it.
    let at = socket::layout::records(c.stores[1].into()) + 1000 * RECORD;
    hostile.populate(at, 1000 * RECORD).unwrap();
    eventually("memory is taken", || resident(&file) < 600 * RECORD);
    // The broker serves others as before, in another memory if need be.
    let others = (Member::join(&served.path).unwrap(), Member::join(&served.path).unwrap());
    meet(&served, &others.0, &others.1);
}

#[test]
fn ends_in_the_halves_of_one_network_meet() {
    let folder = tempfile::tempdir().unwrap();
    let networks = folder.path().join("networks");
    std::fs::create_dir(&networks).unwrap();
    let mut known = networks::Networks::remembered(&networks);
    let (one, two) = (1001, 1002);
    assert_ne!(known.of(one), known.of(two));
    let half = |pu: &str| serde_json::json!({ "pu": pu, "namespace": "/proc/self/ns/net" });
    let was = serde_json::json!([]);
    let halves = serde_json::json!([{ "namespace": one, "was": was }, { "namespace": two, "was": was }]);
    let network = serde_json::json!({ "name": "web", "halves": [half("cpu"), half("dpu")] });
    let text = serde_json::json!({ "network": network, "halves": halves, "capture": null }).to_string();
    std::fs::write(networks.join("web.json"), text).unwrap();
    assert_eq!(known.of(one), known.of(two));
    assert_ne!(known.of(one), known.of(7));
    std::fs::remove_file(networks.join("web.json")).unwrap();
    assert_ne!(known.of(one), known.of(two));
}
