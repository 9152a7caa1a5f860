//! A way out: what a function reaches with it.
//!
//! What exactly is refused is tested beside `net`; here, that functions get it, and only those that ask for it.

use crate::probe::{Bench, Probe};
use crate::{Case, case};
use cfork::invocation;
use net::netlink::Socket;
use net::netlink::route::{End, Prefix};
use os::ns::{self, Kinds};
use sandbox::PrepareError;
use sandbox::spec::Network;
use serde_json::json;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

pub const CASES: &[Case] = &[case!(a_function_leaves_only_with_egress)];

const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 8080;

/// Lets this process, which has one thread, play a host whose network is not the machine's. Without root there is nothing
/// to play.
pub fn become_host() {
    if rustix::process::geteuid().is_root() {
        ns::unshare(Kinds::NET).expect("a network namespace");
        os::netlink::loopback_up().expect("a loopback");
    }
}

/// A network namespace, held by a thread, in which something listens.
struct Internet {
    end: SyncSender<()>,
    thread: JoinHandle<()>,
    link: u32,
}

impl Internet {
    fn new() -> Self {
        let (end, ended) = sync_channel(0);
        let (tell, told) = sync_channel(0);
        let thread = std::thread::spawn(move || Self::be(&tell, &ended));
        let namespace: File = told.recv().expect("a namespace");
        let host = Socket::route().expect("netlink");
        let device = |name, last| End { name, index: 0, hardware: [2, 0, 0, 0, 1, last], resolve: true };
        host.add_pair(device("wan0", 1), device("eth0", 2), namespace.as_fd()).expect("a pair of devices");
        let link = host.index_of("wan0").expect("wan0");
        host.add_address(link, HOST, 24).expect("the host's address");
        host.add_route(Prefix::ALL, link, Some(INTERNET)).expect("the host's route");
        // Now that its device is there, the other side sets it up, and listens.
        end.send(()).expect("the other side");
        told.recv().expect("it listens");
        Self { end, thread, link }
    }

    fn be(tell: &SyncSender<File>, go_on: &Receiver<()>) {
        ns::unshare(Kinds::NET).expect("a network namespace");
        let namespace = || File::open("/proc/thread-self/ns/net").expect("its descriptor");
        tell.send(namespace()).expect("the host");
        go_on.recv().expect("a device");
        let own = Socket::route().expect("netlink");
        let link = own.index_of("eth0").expect("eth0");
        own.bring_up(link).expect("it goes up");
        own.add_address(link, INTERNET, 24).expect("an address");
        let _listener = TcpListener::bind((INTERNET, PORT)).expect("a port");
        tell.send(namespace()).expect("the host");
        let _ = go_on.recv();
    }

    fn end(self) {
        drop(self.end);
        self.thread.join().expect("it ends");
        Socket::route().and_then(|host| host.remove_link(self.link)).expect("its device goes");
    }
}

async fn reaches(probe: &mut Probe, host: Ipv4Addr) -> bool {
    let event = json!({"do": "connect", "host": host.to_string(), "port": PORT});
    probe.ask(event).await.expect("an answer").0 == invocation::REPLY
}

async fn a_function_leaves_only_with_egress(bench: &Bench) {
    // An ordinary user is root in the worker's own namespace.
    if bench.backend.missing().iter().any(|missing| missing.contains("egress")) {
        let refused = bench.prepare_with(None, Network::Egress).await.err();
        assert!(matches!(refused, Some(PrepareError::EgressNeedsRoot)), "{refused:?}");
        return;
    }
    let internet = Internet::new();
    let _service = TcpListener::bind((HOST, PORT)).expect("a port of the host");
    let plain = bench.generic().await;
    let mut without = bench.start(&plain).await;
    assert!(!reaches(&mut without, INTERNET).await, "a function has no network unless it asks for one");
    let generic = bench.prepare_with(None, Network::Egress).await.expect("a generic template");
    let dedicated = bench.prepare_with(Some(bench.code()), Network::Egress).await.expect("a dedicated template");
    generic.reserve(2);
    for (template, code) in [(&generic, Some(bench.code())), (&generic, Some(bench.code())), (&dedicated, None)] {
        let mut probe = bench.start_with(template, code).await.expect("an instance");
        assert!(reaches(&mut probe, INTERNET).await, "the outside");
        assert!(!reaches(&mut probe, HOST).await, "the host is not the outside");
        assert!(!reaches(&mut probe, Ipv4Addr::LOCALHOST).await);
    }
    internet.end();
}
