//! Split networks, in a small world of their own: what reaches what, who is seen by whom, whose port is which, and what is
//! left behind.
//!
//! One process with one thread to begin with, hence without the usual harness.

mod one;
mod sidecar;
mod talk;
mod ways;
mod world;

use net::split::Network;
use net::split::client::{AskError, Request};
use net::split::ports::{Port, Protocol};
use std::io;
use std::path::Path;
use talk::{Server, at, both, call, is_taken, is_taken_in_udp};
use world::{AFAR, Daemon, POD, Place, Pod, until};

const PORT: u16 = 8080;
/// At which nobody ever calls, so that no connection is still ending there.
const QUIET: u16 = 8070;
/// At which a half reaches itself, and servers may stand.
const SERVED: [&str; 4] = ["127.0.0.1", "::1", POD[0], POD[1]];
/// And callers may call.
const OWN: [&str; 5] = ["127.0.0.1", "127.0.0.5", "::1", POD[0], POD[1]];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("place") => return world::be_place(),
        Some("daemon") => return world::be_daemon(Path::new(&arguments[2])),
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skip: network namespaces and programs of control groups take root");
    }
    let only = arguments.get(1);
    for (name, test) in TESTS {
        if only.is_none_or(|only| name.contains(only.as_str())) {
            println!("{name} …");
            let folder = tempfile::tempdir().expect("a folder");
            test(folder.path());
        }
    }
}

type Test = (&'static str, fn(&Path));

const TESTS: [Test; 21] = [
    ("both halves reach each other as themselves", reach),
    ("the outside reaches both, and both reach the outside", outside),
    ("a port is one half's", claim),
    ("ports that the kernel chooses are divided", choose),
    ("a killed daemon is missed only by new ports", kill),
    ("a lost half takes its ports along", lose),
    ("a half's process ends before its namespace", stay),
    ("three halves", three),
    ("one half: nothing is changed", one::untouched),
    ("one half is split later", one::later),
    ("three and four, one after the other", one::further),
    ("what makes no sense is refused, and leaves nothing", refuse),
    ("connections outlive their listener, and their halves' ranges", ways::outlive),
    ("a kernel chooses a port that another half has claimed", ways::choose),
    ("a port can be called from the moment of its bind", ways::at_once),
    ("datagrams in pieces, errors, pings", ways::pieces),
    ("nobody outside is led as the Pod itself", ways::strangers),
    ("a device that comes later", ways::later),
    ("devices that come have no IPv6", ways::shy),
    ("a sidecar on the other half", sidecar::test),
    ("a sidecar, and one more half", sidecar::grown),
];

fn reach(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let before = [pod.cpu.picture(), pod.dpu.picture()];
    // One that was there before the network was.
    let early = Server::start(&pod.dpu, "::", PORT + 1).expect("it serves");
    daemon.join(&pod.network);
    both(&pod.cpu, at("127.0.0.1", PORT + 1));
    drop(early);
    for (server, caller) in pod.ways() {
        let serving = Server::start(server, "::", PORT).expect("it serves");
        SERVED.iter().for_each(|address| both(caller, at(address, PORT)));
        // Who serves everywhere answers a datagram from another address than it was sent to: as in one namespace, that is not heard.
        let (told, own) = call(caller, at("127.0.0.5", PORT)).expect("it serves everywhere");
        assert_eq!(told, own);
        stays(server, PORT);
        drop(serving);
        for address in SERVED.into_iter().chain(["127.0.0.5"]) {
            let serving = Server::start(server, address, PORT).expect("it serves");
            both(caller, at(address, PORT));
            drop(serving);
        }
        // As in one namespace: who serves at one of them does not at the other.
        let serving = Server::start(server, "127.0.0.5", PORT).expect("it serves");
        both(caller, at("127.0.0.5", PORT));
        let error = call(caller, at("127.0.0.1", PORT)).expect_err("nobody serves there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(serving);
        for (number, address) in SERVED.into_iter().enumerate() {
            talk::bulk(server, caller, at(address, QUIET + number as u16));
        }
        for address in OWN {
            until("nobody answers any more", || call(caller, at(address, PORT)).is_err());
            let error = call(caller, at(address, PORT)).expect_err("nobody serves");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
        }
    }
    daemon.leave(&pod.network);
    assert_eq!([pod.cpu.picture(), pod.dpu.picture()], before, "everything is as it was");
}

/// What is called within one half does not go over the link.
fn stays(place: &Place, port: u16) {
    let frames = || {
        let table = place.within(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("a table of devices"));
        let link = table.lines().find(|line| line.trim().starts_with("link")).expect("a link").to_owned();
        link.split_whitespace().nth(10).and_then(|sent| sent.parse::<u64>().ok()).expect("frames sent")
    };
    let before = frames();
    for address in SERVED {
        both(place, at(address, port));
    }
    // The calls would have been some fifty; the kernel's own few, of neighbours and groups, come when they come.
    let sent = frames() - before;
    assert!(sent < 20, "{sent} frames have left");
}

fn outside(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let old = Server::start(&pod.dpu, "::", PORT + 2).expect("it serves");
    daemon.join(&pod.network);
    let afar = Server::start(&pod.outside, "::", PORT).expect("it serves");
    for (number, (server, _)) in pod.ways().into_iter().enumerate() {
        let port = PORT + 10 + number as u16;
        let serving = Server::start(server, "::", port).expect("it serves");
        POD.iter().for_each(|address| both(&pod.outside, at(address, port)));
        drop(serving);
        for address in AFAR {
            let (seen, own) = call(server, at(address, PORT)).expect("the outside answers");
            assert_eq!(seen, own, "the Pod has one address");
            assert!(POD.contains(&own.ip().to_string().as_str()), "{own}");
            let answering = Server::start(&pod.outside, address, PORT + 1).expect("it serves");
            talk::send(server, at(address, PORT + 1)).expect("the outside answers");
            drop(answering);
        }
    }
    both(&pod.outside, at(POD[0], PORT + 2));
    for (number, address) in POD.into_iter().chain(AFAR).enumerate() {
        let (server, caller) = if number < 2 { (&pod.cpu, &pod.outside) } else { (&pod.outside, &pod.cpu) };
        talk::bulk(server, caller, at(address, QUIET));
    }
    drop((afar, old));
    for strange in ["169.254.77.5", "169.254.77.6"] {
        pod.outside.say("ip", &["route", "add", strange, "via", POD[0]]);
    }
    let private = Server::start(&pod.cpu, "127.0.0.1", PORT).expect("it serves");
    both(&pod.dpu, at("127.0.0.1", PORT));
    for strange in ["169.254.77.5", "169.254.77.6", POD[0]] {
        let reached = pod.outside.within(|| {
            let to = at(strange, PORT);
            std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(300)).is_ok()
        });
        assert!(!reached, "{strange}: what serves at localhost is not reached from outside");
    }
    drop(private);
}

fn claim(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    for (owner, other) in pod.ways() {
        for address in SERVED {
            let serving = Server::start(owner, address, PORT).expect("it serves");
            for taken in ["127.0.0.1", "0.0.0.0", "::", "::1", POD[0], POD[1]] {
                assert!(is_taken(other, taken, PORT), "{taken}");
                assert!(is_taken_in_udp(other, taken, PORT), "{taken}");
            }
            assert!(!is_taken(other, "127.0.0.1", PORT + 1));
            // Losing has changed nothing.
            both(other, at(address, PORT));
            drop(serving);
            assert!(!is_taken(other, "127.0.0.1", PORT), "free again, at once");
            assert!(!is_taken_in_udp(other, "127.0.0.1", PORT));
        }
        let tcp_only = talk::bind(owner, "127.0.0.1", QUIET, false).expect("bound");
        assert!(is_taken(other, "127.0.0.1", QUIET) && !is_taken_in_udp(other, "127.0.0.1", QUIET));
        assert!(is_taken(owner, "127.0.0.1", QUIET), "the kernel's own check is as it was");
        drop(tcp_only);
        several(owner, other);
    }
    until("no claim is left", || daemon.status()[0].halves.iter().all(|half| half.ports.is_empty()));
}

/// Several sockets of one half share a port, and the last gives it up. Of several that try, one half wins.
fn several(owner: &Place, other: &Place) {
    let bind = |place, shared| talk::bind(place, "127.0.0.1", QUIET, shared);
    let mut group: Vec<_> = (0..4).map(|_| bind(owner, true).expect("they share")).collect();
    while let Some(one) = group.pop() {
        assert!(bind(other, true).is_err(), "the other half does not share");
        drop(one);
    }
    assert!(bind(other, true).is_ok());
    for _ in 0..50 {
        let (here, there) = std::thread::scope(|scope| {
            let here = scope.spawn(|| bind(owner, false));
            let there = scope.spawn(|| bind(other, false));
            (here.join().expect("no panic"), there.join().expect("no panic"))
        });
        assert!(here.is_ok() != there.is_ok(), "one of two wins: {here:?} {there:?}");
    }
}

fn choose(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    for (server, caller) in pod.ways() {
        for _ in 0..20 {
            let serving = Server::start(server, "::", 0).expect("it serves");
            let (told, own) = call(caller, at("127.0.0.1", serving.port())).expect("at once");
            assert_eq!(told, own);
            assert!(is_taken(server, "::", serving.port()));
        }
    }
    assert!(daemon.status()[0].halves.iter().all(|half| half.ports.is_empty()), "none of them is claimed");
    // A port that the other half's kernel could have chosen.
    for (server, caller) in pod.ways() {
        let chosen = Server::start(caller, "::", 0).expect("it serves").port();
        let serving = Server::start(server, "::", chosen).expect("it serves");
        both(caller, at("127.0.0.1", chosen));
        both(server, at("127.0.0.1", chosen));
        assert!(is_taken(caller, "::", chosen));
        drop(serving);
        assert!(!is_taken(caller, "::", chosen));
    }
}

fn kill(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let before = [pod.cpu.picture(), pod.dpu.picture()];
    daemon.join(&pod.network);
    let first = Server::start(&pod.cpu, "::", PORT).expect("it serves");
    both(&pod.dpu, at("127.0.0.1", PORT));
    daemon.kill();
    both(&pod.dpu, at("127.0.0.1", PORT));
    until("the programs go with the daemon", || !is_taken(&pod.dpu, "::", PORT));
    let second = Server::start(&pod.cpu, "::", PORT + 1).expect("it serves");

    let daemon = Daemon::start(folder);
    both(&pod.dpu, at("127.0.0.1", PORT));
    both(&pod.dpu, at("127.0.0.1", PORT + 1));
    assert!(is_taken(&pod.dpu, "::", PORT) && is_taken(&pod.dpu, "::", PORT + 1), "found again");
    drop((first, second));
    until("what was found is given up too", || !is_taken(&pod.dpu, "::", PORT));
    assert!(!is_taken(&pod.dpu, "::", PORT + 1));
    daemon.leave(&pod.network);
    assert_eq!([pod.cpu.picture(), pod.dpu.picture()], before, "everything is as it was");
    assert_eq!(files(folder), ["lock", "socket"]);

    daemon.join(&pod.network);
    daemon.kill();
    drop(pod);
    let daemon = Daemon::start(folder);
    assert_eq!(daemon.status(), [], "of halves that have gone nothing is kept");
    assert_eq!(files(folder), ["lock", "socket"]);
}

fn files(folder: &Path) -> Vec<String> {
    let found = std::fs::read_dir(folder).expect("the folder").filter_map(Result::ok);
    let mut names: Vec<_> = found.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn lose(folder: &Path) {
    let (mut pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    let (theirs, ours) = (Server::start(&pod.cpu, "::", PORT), Server::start(&pod.dpu, "::", PORT + 1));
    both(&pod.dpu, at("127.0.0.1", PORT));
    // The test's own sockets would keep the namespace.
    drop(theirs);
    let again = Place::new();
    std::mem::replace(&mut pod.cpu, again).end();
    until("it is lost", || !daemon.status()[0].halves[0].there);
    let error = call(&pod.dpu, at("127.0.0.1", PORT)).expect_err("nobody serves");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(!is_taken(&pod.dpu, "::", PORT));
    both(&pod.dpu, at("127.0.0.1", PORT + 1));
    both(&pod.outside, at(POD[0], PORT + 1));

    let rejoin = Request::Rejoin { network: pod.network.name.clone(), half: pod.cpu.half("cpu") };
    daemon.ask(&rejoin).expect("it is back");
    both(&pod.cpu, at("127.0.0.1", PORT + 1));
    let serving = Server::start(&pod.cpu, "::", PORT).expect("it serves");
    both(&pod.dpu, at("::1", PORT));
    both(&pod.outside, at(POD[1], PORT));
    assert!(matches!(daemon.ask(&rejoin), Err(AskError::Refused(_))), "it is there");
    let lose = Request::Lose { network: pod.network.name.clone(), pu: "cpu".to_owned() };
    daemon.ask(&lose).expect("lost by request");
    both(&pod.cpu, at("127.0.0.1", PORT));
    assert!(call(&pod.dpu, at("127.0.0.1", PORT)).is_err());
    drop((serving, ours));
}

fn stay(folder: &Path) {
    let (mut pod, daemon) = (Pod::new(), Daemon::start(folder));
    let (known, before) = (Place::new(), pod.cpu.picture());
    pod.network.halves[0].process = known.half("cpu").process;
    daemon.join(&pod.network);
    assert_ne!(pod.cpu.picture(), before);
    known.end();
    until("it is lost", || !daemon.status()[0].halves[0].there);
    assert_eq!(pod.cpu.picture(), before, "as it was");
    let half = pod.cpu.half("cpu");
    daemon.ask(&Request::Rejoin { network: pod.network.name.clone(), half }).expect("it is back");
    let serving = Server::start(&pod.cpu, "::", PORT).expect("it serves");
    both(&pod.dpu, at("127.0.0.1", PORT));
    drop(serving);
    daemon.leave(&pod.network);
    assert_eq!(pod.cpu.picture(), before, "and as it was before it was lost");
}

fn three(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let gpu = Place::new();
    let mut network = pod.network.clone();
    network.halves.insert(1, gpu.half("gpu"));
    daemon.join(&network);
    let places = [&pod.cpu, &gpu, &pod.dpu];
    for (number, server) in places.iter().enumerate() {
        let port = PORT + number as u16;
        let serving = Server::start(server, "::", port).expect("it serves");
        for caller in places {
            ["127.0.0.1", "::1", POD[0], POD[1]].iter().for_each(|address| both(caller, at(address, port)));
            assert!(is_taken(caller, "::", port));
        }
        both(&pod.outside, at(POD[0], port));
        drop(serving);
    }
    let claimed = Server::start(&gpu, "::", PORT).expect("it serves");
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| Port { protocol, number: PORT });
    until("it is listed", || daemon.status()[0].halves[1].ports == ports);
    drop(claimed);
    daemon.leave(&network);
}

fn refuse(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let before = [pod.cpu.picture(), pod.dpu.picture()];
    let refused = |network: &Network| {
        let refused = matches!(daemon.ask(&Request::Join(network.clone())), Err(AskError::Refused(_)));
        assert!(refused, "{network:?}");
        assert_eq!([pod.cpu.picture(), pod.dpu.picture()], before, "nothing was changed");
    };
    let mut nowhere = pod.network.clone();
    nowhere.halves[1].namespace = "/proc/self/nowhere".into();
    refused(&nowhere);
    let mut file = pod.network.clone();
    file.halves[1].namespace = "/proc/self/status".into();
    refused(&file);
    let mut same = pod.network.clone();
    same.halves[1].namespace = same.halves[0].namespace.clone();
    refused(&same);
    let mut gone = pod.network.clone();
    gone.halves[0].process = Some(i32::MAX);
    refused(&gone);
    refused(&Network { name: "../pod".to_owned(), ..pod.network.clone() });
    daemon.join(&pod.network);
    assert!(matches!(daemon.ask(&Request::Join(pod.network.clone())), Err(AskError::Refused(_))), "it is there");
    daemon.leave(&pod.network);
    daemon.leave(&pod.network);
    for line in ["{}\n", "\n", "[1]\n", "{\"join\":{\"name\":\"a\"}}\n", "no end"] {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(folder.join("socket")).expect("it listens");
        stream.write_all(line.as_bytes()).expect("it hears");
        stream.shutdown(std::net::Shutdown::Write).expect("that was all");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers, or hangs up");
        assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
    }
    assert_eq!(daemon.status(), []);
}
