//! A sidecar's proxy on one half, the program it serves on the other: the proxy gets what its rules say, and learns where
//! each connection was to go.

use crate::talk::{Server, at, both, call, seen};
use crate::world::{AFAR, Daemon, GATEWAY, PATIENCE, POD, Place, Pod, until};
use net::split::client::Request;
use net::split::ports::{Port, Protocol};
use net::split::{Network, Rules};
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// As meshes have it.
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const PROXY_USER: u32 = 1337;
const APP: u16 = 8001;
const EXCLUDED: u16 = 9999;
/// What Istio's init container writes, shortened.
const RULES: &str = "*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:INBOUND - [0:0]
:OUTBOUND - [0:0]
-A PREROUTING -p tcp -j INBOUND
-A OUTPUT -p tcp -j OUTBOUND
-A INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A INBOUND -p tcp -j REDIRECT --to-ports 15006
-A OUTBOUND -p tcp -m tcp --dport 9999 -j RETURN
-A OUTBOUND -m owner --uid-owner 1337 -j RETURN
-A OUTBOUND -m owner --gid-owner 1337 -j RETURN
-A OUTBOUND -d LOOPBACK -j RETURN
-A OUTBOUND -p tcp -j REDIRECT --to-ports 15001
COMMIT
";

/// Says, for each connection that it gets, where that was to go, and by whom.
struct Proxy {
    told: Receiver<(SocketAddr, SocketAddr)>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Proxy {
    fn start(place: &Place, port: u16) -> Self {
        let (tell, told) = sync_channel(64);
        let listener = place.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).expect("a port");
        let own = listener.try_clone().expect("a descriptor");
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = own.accept() {
                let _ = write!(&stream, "proxy");
                let _ = tell.send((original(&stream, peer).expect("where it was to go"), plain(peer)));
            }
        });
        Self { told, listener, thread: Some(thread) }
    }

    fn got(&self) -> (SocketAddr, SocketAddr) {
        self.told.recv_timeout(PATIENCE).expect("the proxy gets it")
    }

    fn got_nothing(&self) -> bool {
        self.told.try_recv().is_err()
    }
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `SO_ORIGINAL_DST`, of either family.
fn original(stream: &TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    if peer.ip().to_canonical().is_ipv4() {
        let found = rustix::net::sockopt::ip_original_dst(stream)?;
        return Ok(found.into());
    }
    Ok(rustix::net::sockopt::ipv6_original_dst(stream)?.into())
}

fn rules() -> Rules {
    Rules::Tables { v4: RULES.replace("LOOPBACK", "127.0.0.1/32"), v6: RULES.replace("LOOPBACK", "::1/128") }
}

pub fn test(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    naive();
    daemon.join(&pod.network);
    let network = || pod.network.name.clone();
    for pu in ["dpu", "cpu"] {
        daemon
            .ask(&Request::Capture { network: network(), proxy: pu.to_owned(), rules: rules() })
            .expect("taken apart");
        let (app, proxy) = if pu == "dpu" { (("cpu", &pod.cpu), &pod.dpu) } else { (("dpu", &pod.dpu), &pod.cpu) };
        captured((&pod, &daemon), app, proxy);
    }
    let unknown =
        Rules::Tables { v4: "*nat\n-A OUTPUT -m quota --quota 5 -j REDIRECT\nCOMMIT\n".to_owned(), v6: String::new() };
    daemon.ask(&Request::Capture { network: network(), proxy: "dpu".to_owned(), rules: unknown }).expect_err("refused");
    assert_eq!(daemon.status()[0].proxy.as_deref(), Some("cpu"), "as it was");
    daemon.ask(&Request::Release { network: network() }).expect("released");
    let afar = Server::start(&pod.outside, "::", 80).expect("it serves");
    AFAR.iter().for_each(|address| both_out(&pod.cpu, at(address, 80)));
    drop(afar);
}

/// Its rules go on where the network gets one more half, and are that one's too.
pub fn grown(folder: &Path) {
    let (pod, daemon, gpu) = (Pod::new(), Daemon::start(folder), Place::new());
    let network = || pod.network.name.clone();
    daemon.join(&Network { halves: vec![pod.dpu.half("dpu")], users: vec![1000], ..pod.network.clone() });
    let split = |place: &Place, pu| {
        let half = place.half(pu);
        daemon.ask(&Request::Split { network: network(), half, uplink: None, addresses: Vec::new() }).expect("split")
    };
    split(&pod.cpu, "cpu");
    let capture = Request::Capture { network: network(), proxy: "dpu".to_owned(), rules: rules() };
    daemon.ask(&capture).expect("taken apart");
    captured((&pod, &daemon), ("cpu", &pod.cpu), &pod.dpu);
    split(&gpu, "gpu");
    captured((&pod, &daemon), ("cpu", &pod.cpu), &pod.dpu);
    captured((&pod, &daemon), ("gpu", &gpu), &pod.dpu);
    daemon.leave(&pod.network);
}

fn captured((pod, daemon): (&Pod, &Daemon<'_>), (pu, app): (&str, &Place), proxy: &Place) {
    let (outbound, inbound) = (Proxy::start(proxy, OUTBOUND), Proxy::start(proxy, INBOUND));
    let serving = Server::start(app, "::", APP).expect("it serves");
    let claimed = Port { protocol: Protocol::Tcp, number: APP };
    until("the daemon has told all halves of it", || {
        daemon.status()[0].halves.iter().any(|half| half.pu == pu && half.ports.contains(&claimed))
    });
    let afar = Server::start(&pod.outside, "::", EXCLUDED).expect("it serves");
    for place in [app, proxy] {
        for address in AFAR {
            let (seen, own) = hear(place, at(address, 80)).expect("the proxy answers");
            assert_eq!(seen, "proxy");
            let (to, from) = outbound.got();
            assert_eq!((to, from), (at(address, 80), own), "the proxy learns whom who has called");
        }
    }
    for address in AFAR {
        both_out(app, at(address, EXCLUDED));
        // Its own calls are not handed to it.
        as_proxy(proxy, || both_out_here(at(address, EXCLUDED)));
    }
    for (address, gateway) in POD.into_iter().zip(GATEWAY) {
        let (seen, own) = hear(&pod.outside, at(address, APP)).expect("the proxy answers");
        assert_eq!((seen.as_str(), own.ip().to_string().as_str()), ("proxy", gateway));
        assert_eq!(inbound.got(), (at(address, APP), own));
        // And the proxy reaches the app, where it was to go and by localhost.
        both(proxy, at(address, APP));
    }
    both(proxy, at("127.0.0.1", APP));
    both(proxy, at("::1", APP));
    both(app, at("127.0.0.1", APP));
    assert!(outbound.got_nothing() && inbound.got_nothing(), "what stays in the Pod is none of the proxy's");
    drop((serving, afar));
}

/// What the other end says, and who the caller is.
fn hear(from: &Place, to: SocketAddr) -> io::Result<(String, SocketAddr)> {
    from.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut told = String::new();
        stream.read_to_string(&mut told)?;
        Ok((told, stream.local_addr()?))
    })
}

fn both_out(from: &Place, to: SocketAddr) {
    let (seen, own) = call(from, to).unwrap_or_else(|error| panic!("{to}: {error}"));
    assert_eq!(seen, own);
}

fn both_out_here(to: SocketAddr) {
    let mut told = String::new();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the outside answers");
    stream.read_to_string(&mut told).expect("it speaks");
    assert_eq!(seen(&told).expect("an address"), stream.local_addr().expect("an address"));
}

/// Does something as the proxy's user: that thread alone.
fn as_proxy(place: &Place, what: impl FnOnce() + Send) {
    place.within(|| {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(PROXY_USER)).expect("root may be anybody");
        what();
    });
}

/// One rule on the caller's half alone: what is to be shown not to work. The proxy finds itself, and would call itself.
fn naive() {
    let place = Place::new();
    let proxy = Place::new();
    let end =
        |last| net::netlink::route::End { name: "wire", index: 0, hardware: [2, 0, 0, 0, 9, last], resolve: true };
    let half = proxy.half("proxy");
    let there = std::fs::File::open(&half.namespace).expect("its namespace");
    place.within(|| {
        let own = net::netlink::Socket::route().expect("netlink");
        own.add_pair(end(1), end(2), std::os::fd::AsFd::as_fd(&there)).expect("a pair of devices");
    });
    for (place, address) in [(&place, "10.9.0.1/24"), (&proxy, "10.9.0.2/24")] {
        place.say("ip", &["addr", "add", address, "dev", "wire"]);
        place.say("ip", &["link", "set", "wire", "up"]);
    }
    place.say("ip", &["route", "add", "default", "via", "10.9.0.2"]);
    let rule =
        "table ip naive { chain out { type nat hook output priority -100; tcp dport 80 dnat to 10.9.0.2:15001; }; }";
    place.say("nft", &[rule]);
    // Without it the kernel there would not know of any other destination either.
    proxy
        .say("nft", &["table ip naive { chain in { type nat hook prerouting priority -100; ct state new accept; }; }"]);
    let listening = Proxy::start(&proxy, OUTBOUND);
    let (seen, _) = hear(&place, at(AFAR[0], 80)).expect("the proxy answers");
    assert_eq!(seen, "proxy");
    assert_eq!(listening.got().0, at("10.9.0.2", OUTBOUND), "the proxy finds itself");
}
