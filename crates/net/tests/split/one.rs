//! Networks of one half, and what becomes of them when they are split.

use crate::talk::{Server, at, both, call, is_taken};
use crate::ways::{accept, talks};
use crate::world::{AFAR, Daemon, POD, Place, Pod, until};
use crate::{files, talk};
use net::split::client::{Answer, AskError, Request};
use net::split::{Half, Network, Rules};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const PORT: u16 = 8200;
/// From which the second half's kernel chooses, once there is one.
const FAR: u16 = 60000;
const USERS: [u32; 2] = [1000, 1337];

/// The uplink's half alone.
fn alone(pod: &Pod) -> Network {
    Network { halves: vec![pod.dpu.half("dpu")], users: USERS.to_vec(), ..pod.network.clone() }
}

fn split(half: Half) -> Request {
    Request::Split { network: "pod".to_owned(), half, uplink: None, addresses: Vec::new() }
}

fn refused(daemon: &Daemon<'_>, request: &Request, words: &str) {
    match daemon.ask(request) {
        Err(AskError::Refused(said)) => assert!(said.contains(words), "{said}"),
        other => panic!("{request:?}: {other:?}"),
    }
}

pub fn untouched(folder: &Path) {
    let (mut pod, daemon) = (Pod::new(), Daemon::start(folder));
    let (before, network) = (pod.dpu.picture(), alone(&pod));
    let nobody = Network { users: Vec::new(), ..network.clone() };
    refused(&daemon, &Request::Join(nobody), "name those who may share memory");
    assert_eq!(files(folder), ["lock", "socket"]);
    daemon.join(&network);
    refused(&daemon, &Request::Join(Network { name: "another".to_owned(), ..network.clone() }), "in the network pod");
    let rules = Rules::Tables { v4: String::new(), v6: String::new() };
    let captured = Request::Capture { network: "pod".to_owned(), proxy: "dpu".to_owned(), rules };
    refused(&daemon, &captured, "");
    let rules = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n".to_owned();
    let rules = Rules::Tables { v4: rules, v6: String::new() };
    let captured = Request::Capture { network: "pod".to_owned(), proxy: "dpu".to_owned(), rules };
    refused(&daemon, &captured, "has one half");
    daemon.ask(&Request::Release { network: "pod".to_owned() }).expect("nothing was captured");
    let users = |users: &[u32]| Request::Users { network: "pod".to_owned(), users: users.to_vec() };
    daemon.ask(&users(&[])).expect("nobody's for now");
    let daemon = again(daemon, folder);
    daemon.ask(&users(&USERS)).expect("theirs");
    // A device that comes is nobody's to lead from.
    pod.dpu.say("ip", &["link", "add", "later", "type", "veth", "peer", "name", "other"]);
    let serving = Server::start(&pod.dpu, "::", PORT).expect("it serves");
    POD.iter().for_each(|address| both(&pod.outside, at(address, PORT)));
    drop(serving);
    pod.dpu.say("ip", &["link", "delete", "later"]);
    assert_eq!(pod.dpu.picture(), before);
    let daemon = again(daemon, folder);
    assert_eq!((pod.dpu.picture(), daemon.status()[0].users.clone()), (before.clone(), USERS.to_vec()));
    daemon.leave(&network);
    assert_eq!((pod.dpu.picture(), files(folder)), (before, vec!["lock".to_owned(), "socket".to_owned()]));
    daemon.join(&network);
    std::mem::replace(&mut pod.dpu, Place::new()).end();
    until("it goes with its process", || daemon.status().is_empty());
    assert_eq!(files(folder), ["lock", "socket"]);
}

/// The next daemon after one that was killed.
fn again<'a>(daemon: Daemon<'_>, folder: &'a Path) -> Daemon<'a> {
    daemon.kill();
    let daemon = Daemon::start(folder);
    let there: Vec<_> = daemon.status()[0].halves.iter().map(|half| half.there).collect();
    assert!(!there.is_empty() && there.iter().all(|there| *there));
    daemon
}

/// A connection that was there before.
fn connected(place: &Place) -> (TcpStream, TcpStream) {
    let listener = place.within(|| TcpListener::bind(at("127.0.0.1", PORT + 1))).expect("a port");
    let caller = talk::bind(place, "127.0.0.1", FAR + 1, false).expect("a port");
    place.within(|| rustix::net::connect(&caller, &at("127.0.0.1", PORT + 1))).expect("connected");
    (caller.into(), accept(&listener))
}

pub fn later(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let before = [pod.cpu.picture(), pod.dpu.picture()];
    let unknown = Network { uplink: None, addresses: Vec::new(), ..alone(&pod) };
    daemon.join(&unknown);
    let early = Server::start(&pod.dpu, "::", FAR).expect("it serves");
    let (caller, served) = connected(&pod.dpu);
    refused(&daemon, &split(pod.cpu.half("dpu")), "two halves on the PU dpu");
    refused(&daemon, &split(pod.dpu.half("cpu")), "in the network pod already");
    refused(&daemon, &split(Half { namespace: "/nowhere".into(), ..pod.cpu.half("cpu") }), "cannot be entered");
    assert_eq!([pod.cpu.picture(), pod.dpu.picture()], before, "nothing was changed");

    let told = Request::Split {
        network: "pod".to_owned(),
        half: pod.cpu.half("cpu"),
        uplink: Some("dpu".to_owned()),
        addresses: pod.network.addresses.clone(),
    };
    assert_eq!(daemon.ask(&told).expect("it is split"), Answer::Joined { contended: Vec::new() });
    refused(&daemon, &told, "is split");
    reaches(&[&pod.dpu, &pod.cpu], &pod.outside);
    both(&pod.cpu, at("127.0.0.1", FAR));
    assert!(is_taken(&pod.cpu, "::", FAR));
    talks(&caller, &served);
    let daemon = again(daemon, folder);
    reaches(&[&pod.dpu, &pod.cpu], &pod.outside);
    assert_eq!(daemon.status()[0].users, USERS);
    drop((early, caller, served));
    daemon.leave(&pod.network);
    assert_eq!([pod.cpu.picture(), pod.dpu.picture()], before, "everything is as it was");
}

/// Each serves, and all others, and the outside, are answered.
fn reaches(places: &[&Place], outside: &Place) {
    for server in places {
        let serving = Server::start(server, "::", PORT).expect("it serves");
        for caller in places {
            ["127.0.0.1", "::1", POD[0], POD[1]].iter().for_each(|address| both(caller, at(address, PORT)));
        }
        POD.iter().for_each(|address| both(outside, at(address, PORT)));
        drop(serving);
    }
    let afar = Server::start(outside, "::", PORT).expect("it serves");
    for (place, address) in places.iter().flat_map(|place| AFAR.map(|address| (place, address))) {
        call(place, at(address, PORT)).expect("the outside answers");
    }
    drop(afar);
}

pub fn further(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    let (gpu, npu) = (Place::new(), Place::new());
    let before = [&pod.cpu, &pod.dpu, &gpu].map(Place::picture);
    daemon.join(&alone(&pod));
    // What its link would be called is there already.
    for half in [&pod.cpu, &gpu] {
        half.say("ip", &["link", "add", "link0", "type", "veth", "peer", "name", "other"]);
    }
    refused(&daemon, &split(pod.cpu.half("cpu")), "no link from dpu to cpu");
    assert_eq!([&pod.cpu, &pod.dpu].map(Place::picture), before[..2], "as if nobody had asked");
    assert_eq!(daemon.status()[0].halves.len(), 1);

    daemon.ask(&split(pod.cpu.half("cpu"))).expect("it is split");
    let two = [&pod.cpu, &pod.dpu].map(Place::picture);
    refused(&daemon, &split(gpu.half("gpu")), "no link from dpu to gpu");
    assert_eq!([&pod.cpu, &pod.dpu].map(Place::picture), two, "two halves go on as two");
    reaches(&[&pod.dpu, &pod.cpu], &pod.outside);
    let daemon = again(daemon, folder);

    // Whose range grows smaller keeps what it has.
    let early = Server::start(&pod.cpu, "::", FAR).expect("it serves");
    daemon.ask(&split(gpu.half("gpu"))).expect("three");
    daemon.ask(&split(npu.half("npu"))).expect("four");
    refused(&daemon, &split(Place::new().half("tpu")), "1 to 4 halves, not 5");
    let all = [&pod.dpu, &pod.cpu, &gpu, &npu];
    reaches(&all, &pod.outside);
    for place in all {
        both(place, at("127.0.0.1", FAR));
        assert!(is_taken(place, "::", FAR));
    }
    drop(early);
    daemon.leave(&pod.network);
    assert_eq!([&pod.cpu, &pod.dpu, &gpu].map(Place::picture), before, "everything is as it was");
}
