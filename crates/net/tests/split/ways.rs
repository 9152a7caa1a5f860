//! Whom a packet is for, where whose port it is would not say.

use crate::talk::{self, Server, at, both, call};
use crate::world::{AFAR, Daemon, PATIENCE, POD, Place, Pod, until};
use net::netlink::Socket;
use net::netlink::route::End;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, socket_with, sockopt};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 8100;
/// From which the kernel of the first half chooses.
const CHOSEN: u16 = 33000;
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// How long one waits for what is not to come.
const IN_VAIN: Duration = Duration::from_millis(300);

/// Both ends of a connection hear each other.
pub fn talks(mut here: &TcpStream, mut there: &TcpStream) {
    for _ in 0..3 {
        let mut heard = [0];
        here.write_all(b"?").expect("it is sent");
        there.read_exact(&mut heard).expect("it arrives");
        there.write_all(b"!").expect("it is answered");
        here.read_exact(&mut heard).expect("the answer arrives");
    }
}

fn serve(place: &Place, port: u16) -> TcpListener {
    place.within(|| TcpListener::bind(at("127.0.0.1", port))).expect("a port")
}

fn connect(place: &Place, port: u16) -> io::Result<TcpStream> {
    let stream = place.within(|| TcpStream::connect_timeout(&at("127.0.0.1", port), PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a caller");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

pub fn outlive(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    // Both ends in one half, and the caller's port one that is the other's to choose.
    let listener = serve(&pod.dpu, PORT);
    let caller = talk::bind(&pod.dpu, "127.0.0.1", CHOSEN, false).expect("a port");
    pod.dpu.within(|| rustix::net::connect(&caller, &at("127.0.0.1", PORT))).expect("connected");
    let (early, accepted) = (TcpStream::from(caller), accept(&listener));
    early.set_read_timeout(Some(PATIENCE)).expect("a limit");
    daemon.join(&pod.network);
    talks(&early, &accepted);
    drop(listener);
    for (number, (first, second)) in pod.ways().into_iter().enumerate() {
        let port = PORT + 1 + number as u16;
        let listener = serve(first, port);
        let stream = connect(second, port).expect("at once");
        let served = accept(&listener);
        talks(&stream, &served);
        drop(listener);
        talks(&stream, &served);
        // The next one to serve there does it on the other half.
        let listener = serve(second, port);
        for caller in [first, second] {
            talks(&connect(caller, port).expect("who serves now"), &accept(&listener));
        }
        talks(&stream, &served);
    }
    talks(&early, &accepted);
    drop((early, accepted));
    remains(&pod);
}

/// What a kernel keeps of a connection that has ended is nobody to call, where another half serves by now.
fn remains(pod: &Pod) {
    for (number, (before, now)) in pod.ways().into_iter().enumerate() {
        let port = PORT + 10 + number as u16;
        let call = || {
            let socket = talk::bind(before, "127.0.0.1", CHOSEN + 10, false).expect("a port");
            // It would be heard a second later, when it says so again.
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(Duration::from_millis(900)))
                .expect("a limit");
            before.within(|| rustix::net::connect(&socket, &at("127.0.0.1", port))).expect("connected, at once");
            TcpStream::from(socket)
        };
        let listener = serve(before, port);
        let caller = call();
        drop((accept(&listener), listener));
        assert_eq!((&caller).read(&mut [0]).expect("it has ended"), 0);
        drop(caller);
        let listener = serve(now, port);
        let caller = call();
        // A connection of which only its caller knows would not be accepted.
        caller.set_read_timeout(Some(PATIENCE)).expect("a limit");
        (&caller).write_all(b"?").expect("it is sent");
        rustix::io::ioctl_fionbio(&listener, true).expect("it need not wait");
        let mut served = None;
        until("it is accepted", || {
            served = listener.accept().ok();
            served.is_some()
        });
        let (served, _) = served.expect("it is accepted");
        served.set_nonblocking(false).expect("it waits");
        assert_eq!((&served).read(&mut [0]).expect("it arrives"), 1);
        talks(&caller, &served);
    }
}

pub fn choose(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    let _claimed = Server::start(&pod.dpu, "::", CHOSEN).expect("it serves");
    let _serving = Server::start(&pod.dpu, "::", PORT).expect("it serves");
    pod.cpu.within(|| {
        let range = format!("{CHOSEN} {CHOSEN}");
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("one port to choose from");
    });
    // Soon after the bind it is not chosen any more.
    pod.cpu.within(|| until("it is reserved", || reserved() == format!("{CHOSEN}\n")));
    let taken = pod.cpu.within(|| TcpListener::bind(at("127.0.0.1", 0))).expect_err("none is left");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    // Before that it may be.
    pod.cpu.within(|| std::fs::write(RESERVED, "\n")).expect("a switch");
    for address in ["127.0.0.1", "::1", POD[0], POD[1]] {
        let (told, own) = call(&pod.cpu, at(address, PORT)).expect("it answers");
        assert_eq!((told, own.port()), (own, CHOSEN));
    }
    both(&pod.dpu, at("127.0.0.1", CHOSEN));
    reserve(&pod, &daemon);
}

fn reserved() -> String {
    let mut list = vec![0; 1 << 16];
    let len = File::open(RESERVED).and_then(|mut file| file.read(&mut list)).expect("a switch, in one piece");
    String::from_utf8_lossy(&list[..len]).into_owned()
}

const OWN: &str = "40000,40002,40004,40006,40008,40010,40012,40014";

/// What a half has reserved itself stays, and what another half has claimed is free again with it.
fn reserve(pod: &Pod, daemon: &Daemon<'_>) {
    daemon.leave(&pod.network);
    pod.cpu.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999").expect("a switch");
        std::fs::write(RESERVED, OWN).expect("a switch");
    });
    daemon.join(&pod.network);
    // More than a page has room for.
    let claim = |number: u16| talk::bind(&pod.dpu, "127.0.0.1", 33002 + 2 * number, false).expect("a port");
    let claimed: Vec<_> = (0..800).map(claim).collect();
    pod.cpu.within(|| until("they are reserved", || reserved().split(',').count() == 809));
    for _ in 0..200 {
        pod.cpu.within(|| TcpListener::bind(at("127.0.0.1", 0))).expect("a port that is free");
    }
    drop(claimed);
    pod.cpu.within(|| until("they are free", || reserved() == format!("33000,{OWN}\n")));
    daemon.leave(&pod.network);
    pod.cpu.within(|| assert_eq!(reserved(), format!("{OWN}\n")));
}

pub fn at_once(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    for round in 0..100 {
        let (owner, other) = pod.ways()[round % 2];
        let serving = Server::start(owner, "::", PORT).expect("it serves");
        call(other, at("127.0.0.1", PORT)).expect("no moment later");
        drop(serving);
    }
    for (owner, other) in pod.ways() {
        for address in ["127.0.0.1", "::1", POD[0], POD[1]] {
            let to = at(address, PORT);
            let caller = other.within(|| UdpSocket::bind(at(address, 0))).expect("a port");
            // Nobody is there, and the kernel may have remembered it.
            caller.send_to(b"anybody?", to).expect("sent");
            let server = owner.within(|| UdpSocket::bind(to)).expect("a port");
            server.set_read_timeout(Some(PATIENCE)).expect("a limit");
            caller.send_to(b"now?", to).expect("sent");
            let mut heard = [0; 16];
            let (len, from) = server.recv_from(&mut heard).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!((&heard[..len], from), (&b"now?"[..], caller.local_addr().expect("an address")));
        }
    }
}

pub fn pieces(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    pod.cpu.say("ip", &["link", "set", "lo", "mtu", "1500"]);
    for (number, address) in ["127.0.0.1", "::1", POD[0], POD[1]].into_iter().enumerate() {
        talk::bulk(&pod.dpu, &pod.cpu, at(address, PORT + number as u16));
    }
    for (place, address) in [&pod.cpu, &pod.dpu].into_iter().flat_map(|place| AFAR.map(|address| (place, address))) {
        let any = if address.contains(':') { "::" } else { "0.0.0.0" };
        let socket = place.within(|| UdpSocket::bind(at(any, 0))).expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        socket.connect(at(address, PORT)).expect("connected");
        socket.send(b"anybody?").expect("sent");
        let error = socket.recv(&mut [0]).expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}: who has sent it is told");
        place.within(|| ping(at(address, 0)).unwrap_or_else(|error| panic!("{address}: {error}")));
    }
}

/// Asks for an echo, as `ping` does.
fn ping(to: SocketAddr) -> io::Result<()> {
    const REQUESTS: [u8; 2] = [8, 128];
    const REPLIES: [u8; 2] = [0, 129];
    const NUMBER: [u8; 2] = [0x7a, 0x11];
    let version = usize::from(to.is_ipv6());
    let (family, protocol) = [(AddressFamily::INET, ipproto::ICMP), (AddressFamily::INET6, ipproto::ICMPV6)][version];
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let mut request = [REQUESTS[version], 0, 0, 0, NUMBER[0], NUMBER[1], 0, 1];
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    // The kernel's own work in IPv6.
    request[2..4].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &to)?;
    loop {
        let mut heard = [0; 256];
        let (_, len) = rustix::net::recv(&socket, &mut heard[..], RecvFlags::empty())?;
        let reply = if version == 0 { &heard[20..len] } else { &heard[..len] };
        if reply[0] == REPLIES[version] && reply[4..6] == NUMBER {
            return Ok(());
        }
    }
}

/// Who says from outside that he is of the Pod, or calls its localhost.
pub fn strangers(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    let _private = Server::start(&pod.cpu, "127.0.0.1", PORT).expect("it serves");
    both(&pod.dpu, at("127.0.0.1", PORT));
    let outside = &pod.outside;
    for line in
        ["address del 127.0.0.1/8 dev lo", "route add 127.0.0.1/32 via 10.77.0.5", "address add 127.0.0.9/32 dev eth0"]
    {
        outside.say("ip", &line.split(' ').collect::<Vec<_>>());
    }
    outside.within(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")).expect("a switch");
    let called = outside.within(|| TcpStream::connect_timeout(&at("127.0.0.1", PORT), IN_VAIN));
    called.expect_err("localhost is the Pod's own");
    let server = pod.cpu.within(|| UdpSocket::bind(at("0.0.0.0", PORT + 1))).expect("a port");
    for (from, is_heard) in [("127.0.0.9", false), ("10.77.0.1", true)] {
        let stranger = outside.within(|| UdpSocket::bind(at(from, 0))).expect("an address");
        stranger.send_to(b"?", at(POD[0], PORT + 1)).expect("sent");
        server.set_read_timeout(Some(if is_heard { PATIENCE } else { IN_VAIN })).expect("a limit");
        assert_eq!(server.recv(&mut [0]).is_ok(), is_heard, "{from}");
    }
}

/// A device of the outside that was not there when the network was made.
pub fn later(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    daemon.join(&pod.network);
    let (serving, outside) = (Server::start(&pod.cpu, "::", PORT).expect("it serves"), Place::new());
    let end = |last| End { name: "eth1", index: 0, hardware: [2, 0, 0, 0, 8, last], resolve: true };
    pod.dpu.within(|| {
        let own = Socket::route().expect("netlink");
        own.add_pair(end(1), end(2), outside.namespace().as_fd()).expect("a pair of devices");
    });
    for (place, address) in [(&pod.dpu, "10.78.0.2/24"), (&outside, "10.78.0.1/24")] {
        place.say("ip", &["address", "add", address, "dev", "eth1"]);
        place.say("ip", &["link", "set", "eth1", "up"]);
    }
    outside.say("ip", &["route", "add", POD[0], "via", "10.78.0.2"]);
    until("the daemon has heard of it", || call(&outside, at(POD[0], PORT)).is_ok());
    both(&outside, at(POD[0], PORT));
    drop(serving);
    daemon.leave(&pod.network);
    assert_eq!(pod.dpu.say("tc", &["filter", "show", "dev", "eth1", "ingress"]), "");
}

/// IPv6 is off for devices that come, and links come.
pub fn shy(folder: &Path) {
    let (pod, daemon) = (Pod::new(), Daemon::start(folder));
    for place in [&pod.cpu, &pod.dpu] {
        place.within(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")).expect("a switch");
    }
    daemon.join(&pod.network);
    for (owner, other) in pod.ways() {
        let _serving = Server::start(owner, "::", PORT).expect("it serves");
        ["127.0.0.1", "::1", POD[0], POD[1]].iter().for_each(|address| both(other, at(address, PORT)));
    }
}
