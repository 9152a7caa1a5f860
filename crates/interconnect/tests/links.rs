//! What every link must do, checked on each of them by the same code: [`suite`].
//!
//! What only one kind of link can do wrong (garbage in its memory, a stolen certificate) is checked beside that kind.

mod suite;

use interconnect::link::Link;
use interconnect::link::fabric::{Fabric, FabricError, Provider};
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

/// Over a fabric, with a link in memory beside it for the words. Without libfabric: over TCP, and said so.
struct Woven(Provider);

impl Fixture for Woven {
    fn pair(&self) -> Pair {
        let Pair { a, b, turn } = Memory.pair();
        let over = |words| Fabric::over(words, self.0, Some([127, 0, 0, 1].into()));
        match (over(a), over(b)) {
            (Ok(a), Ok(b)) => Pair { a: Box::new(a), b: Box::new(b), turn },
            (Err(error @ FabricError::Library(_)), _) => {
                println!("skip: {error}");
                Tcp.pair()
            }
            (Err(error), _) | (_, Err(error)) => panic!("{error}"),
        }
    }

    const DESCRIPTORS: bool = false;
}

suite::conformance!(fabric_tcp, Woven(Provider::Tcp));
suite::conformance!(fabric_shm, Woven(Provider::Shm));

/// The variable that gives a copy of this program a role: what it is to do, and where its identity is.
const ROLE: &str = "LICHEN_TEST_LINK_ROLE";

/// What a copy of this program does; in the program itself, nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (kind, home) = role.split_once(' ').unwrap();
    match kind {
        "idle-sim" => suite::idle_cpu_is_nothing(&Sim),
        "idle-tcp" => suite::idle_cpu_is_nothing(&Tcp),
        "idle-shm" => suite::idle_cpu_is_nothing(&Memory),
        "idle-fabric" => suite::idle_cpu_is_nothing(&Woven(Provider::Tcp)),
        _ => last_words(kind, home),
    }
}

/// The other end of a link, in a process that is going to be killed.
fn last_words(kind: &str, home: &str) {
    let dial = || {
        let identity = Identity::load(home.as_ref()).unwrap().unwrap();
        Box::new(dial::connect(&identity, Duration::from_secs(10)).unwrap())
    };
    let mut link: Box<dyn Link> = match kind {
        "shm" => {
            let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            Box::new(Shm::accept(socket, Duration::from_secs(10)).unwrap())
        }
        "tcp" => dial(),
        _ => Box::new(Fabric::over(dial(), Provider::Tcp, Some([127, 0, 0, 1].into())).unwrap()),
    };
    for i in 0..suite::LAST_WORDS {
        link.send(&suite::message(1000 * i, i)).unwrap();
    }
    // Until it is killed: nothing comes.
    loop {
        link.flush().unwrap();
        link.arm();
        suite::poll_one(link.poll_fd());
    }
}

fn copy(role: &str, stdin: Stdio) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]).env(ROLE, role).stdin(stdin).stdout(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn shm_notices_a_peer_that_was_killed() {
    let (one, other) = os::seqpacket::pair().unwrap();
    let link = Shm::offer(one).unwrap();
    suite::a_killed_peer_is_noticed(Box::new(link), copy("shm ", other.into()));
}

/// A peer in a process of its own that has joined and connects, and the head's end of its link.
fn remote(kind: &str) -> (Box<dyn Link>, Child) {
    let (head, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::open(head.path()).unwrap();
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), Authority::open(head.path()).unwrap()).unwrap();
    let token = authority.invite(1, vec![listener.address().to_string()], Duration::from_secs(60)).unwrap();
    dial::join(&token, Duration::from_secs(10)).unwrap().keep(home.path()).unwrap();
    let child = copy(&format!("{kind} {}", home.path().display()), Stdio::null());
    (Box::new(suite::arrival(&mut listener).link), child)
}

#[test]
fn tcp_notices_a_peer_that_was_killed() {
    let (link, child) = remote("tcp");
    suite::a_killed_peer_is_noticed(link, child);
}

#[test]
fn fabric_notices_a_peer_that_was_killed() {
    let (words, mut child) = remote("fabric");
    match Fabric::over(words, Provider::Tcp, Some([127, 0, 0, 1].into())) {
        Ok(link) => suite::a_killed_peer_is_noticed(Box::new(link), child),
        Err(error) => {
            assert!(matches!(error, FabricError::Library(_)), "{error}");
            println!("skip: {error}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn idle_links_use_no_cpu() {
    for kind in ["idle-sim", "idle-shm", "idle-tcp", "idle-fabric"] {
        let status = copy(&format!("{kind} "), Stdio::null()).wait().unwrap();
        assert!(status.success(), "{kind}: see above");
    }
}
