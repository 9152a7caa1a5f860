//! What every link must do, checked on each of them by the same code: [`suite`].
//!
//! What only one kind of link can do wrong (garbage in its memory, a stolen certificate) is checked beside that kind.

mod suite;

use interconnect::link::Link;
use interconnect::link::shm::Shm;
use interconnect::link::sim::Network;
use interconnect::link::tcp::authority::Authority;
use interconnect::link::tcp::dial;
use interconnect::link::tcp::identity::Identity;
use interconnect::link::tcp::listen::Listener;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use suite::{Fixture, Pair};

/// Two ends whose messages take some virtual milliseconds.
struct Sim;

impl Fixture for Sim {
    fn pair(&self) -> Pair {
        let network = Network::new(7, Duration::from_millis(1)..Duration::from_millis(9));
        let (_, a, b) = network.link().unwrap();
        let turn = move || {
            if let Some(next) = network.next() {
                network.advance(next);
            }
        };
        Pair { a: Box::new(a), b: Box::new(b), turn: Box::new(turn) }
    }

    const DESCRIPTORS: bool = true;
}

suite::conformance!(sim, Sim);

/// Joins, connects, and waits for the head's end.
struct Tcp;

impl Fixture for Tcp {
    fn pair(&self) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), Authority::open(folder.path()).unwrap()).unwrap();
        let token = authority.invite(1, vec![listener.address().to_string()], Duration::from_secs(60)).unwrap();
        let patience = Duration::from_secs(10);
        let identity = dial::join(&token, patience).unwrap();
        let a = dial::connect(&identity, patience).unwrap();
        let b = suite::arrival(&mut listener).link;
        Pair { a: Box::new(a), b: Box::new(b), turn: Box::new(|| ()) }
    }

    const DESCRIPTORS: bool = false;
}

suite::conformance!(tcp, Tcp);

/// Two ends over a socket pair.
struct Memory;

impl Fixture for Memory {
    fn pair(&self) -> Pair {
        let (one, other) = os::seqpacket::pair().unwrap();
        let a = Shm::offer(one).unwrap();
        let b = Shm::accept(other, Duration::from_secs(1)).unwrap();
        Pair { a: Box::new(a), b: Box::new(b), turn: Box::new(|| ()) }
    }

    const DESCRIPTORS: bool = true;
}

suite::conformance!(shm, Memory);

/// The variable that makes [`peer`] the other end of a link.
const PEER: &str = "LICHEN_TEST_LINK_PEER";

/// The other end, in a process that is killed: a role that the tests of killing give to a copy of this program.
#[test]
fn peer() {
    let Ok(home) = std::env::var(PEER) else {
        return;
    };
    let mut link: Box<dyn Link> = if home.is_empty() {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        Box::new(Shm::accept(socket, Duration::from_secs(10)).unwrap())
    } else {
        let identity = Identity::load(home.as_ref()).unwrap().unwrap();
        Box::new(dial::connect(&identity, Duration::from_secs(10)).unwrap())
    };
    for i in 0..suite::LAST_WORDS {
        link.send(&suite::message(1000 * i, i)).unwrap();
    }
    assert_eq!(link.flush(), Ok(true));
    // Until it is killed: nothing comes.
    loop {
        link.arm();
        suite::poll_one(link.poll_fd());
    }
}

fn spawn_peer(home: &str, stdin: Stdio) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "peer", "--nocapture"]).env(PEER, home).stdin(stdin).stdout(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn shm_notices_a_peer_that_was_killed() {
    let (one, other) = os::seqpacket::pair().unwrap();
    let link = Shm::offer(one).unwrap();
    suite::a_killed_peer_is_noticed(Box::new(link), spawn_peer("", other.into()));
}

#[test]
fn tcp_notices_a_peer_that_was_killed() {
    let (head, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::open(head.path()).unwrap();
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), Authority::open(head.path()).unwrap()).unwrap();
    let token = authority.invite(1, vec![listener.address().to_string()], Duration::from_secs(60)).unwrap();
    dial::join(&token, Duration::from_secs(10)).unwrap().keep(home.path()).unwrap();
    let child = spawn_peer(home.path().to_str().unwrap(), Stdio::null());
    let link = suite::arrival(&mut listener).link;
    suite::a_killed_peer_is_noticed(Box::new(link), child);
}
