//! Servers and callers that say to each other who they take each other for.

use crate::world::{PATIENCE, Place, until};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

/// An address that servers here are bound to.
pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Serves until dropped: tells each caller its address, in TCP and in UDP.
pub struct Server {
    pub tcp: OwnedFd,
    port: u16,
    threads: Vec<std::thread::JoinHandle<()>>,
    udp: UdpSocket,
}

impl Server {
    /// At a place; port 0: one that the kernel chooses.
    pub fn start(place: &Place, address: &str, port: u16) -> io::Result<Self> {
        let address = at(address, port);
        let (listener, udp) = place.within(|| -> io::Result<_> {
            let listener = TcpListener::bind(address)?;
            let port = listener.local_addr()?.port();
            Ok((listener, UdpSocket::bind(SocketAddr::new(address.ip(), port))?))
        })?;
        let port = listener.local_addr()?.port();
        let (tcp, answers) = (OwnedFd::from(listener.try_clone()?), udp.try_clone()?);
        let accept = std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let _ = write!(&stream, "{peer}");
            }
        });
        let answer = std::thread::spawn(move || {
            let mut question = [0; 16];
            while let Ok((len, peer)) = answers.recv_from(&mut question) {
                if len == 0 {
                    return;
                }
                let _ = answers.send_to(peer.to_string().as_bytes(), peer);
            }
        });
        Ok(Self { tcp, port, threads: vec![accept, answer], udp })
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both threads wake up, with an error or nothing.
        let _ = rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Both);
        let _ = rustix::net::shutdown(&self.udp, rustix::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Who a TCP server takes the caller for, and who the caller is.
pub fn call(from: &Place, to: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
    from.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        assert_eq!(stream.peer_addr()?, to, "the caller sees whom it has called");
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut told = String::new();
        stream.read_to_string(&mut told)?;
        Ok((seen(&told)?, stream.local_addr()?))
    })
}

/// An address that a server tells, which may take IPv4 for a part of IPv6.
pub fn seen(told: &str) -> io::Result<SocketAddr> {
    let address: SocketAddr = told.parse().map_err(io::Error::other)?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The same of UDP. An answer from elsewhere would not be heard.
pub fn send(from: &Place, to: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
    from.within(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"who?")?;
        let mut told = [0; 64];
        let len = socket.recv(&mut told)?;
        Ok((seen(&String::from_utf8_lossy(&told[..len]))?, socket.local_addr()?))
    })
}

/// Both, once the port is known everywhere: that is soon after the bind, and not before.
pub fn both(from: &Place, to: SocketAddr) {
    until(&format!("{to} answers"), || call(from, to).is_ok());
    for (way, result) in [("tcp", call(from, to)), ("udp", send(from, to))] {
        let (told, own) = result.unwrap_or_else(|error| panic!("{way} to {to}: {error}"));
        assert_eq!(told, own, "{way} to {to}: the server sees the caller as it sees itself");
    }
}

/// A great deal in one piece, there and back: packets as long as they get.
pub fn bulk(server: &Place, caller: &Place, to: SocketAddr) {
    const STREAM: usize = 400_000;
    const DATAGRAM: usize = 20_000;
    let (listener, udp) = server.within(|| {
        let listener = TcpListener::bind(to).expect("a port");
        (listener, UdpSocket::bind(to).expect("a port"))
    });
    udp.set_read_timeout(Some(PATIENCE)).expect("a limit");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a caller");
            stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
            let mut bytes = vec![0; STREAM];
            stream.read_exact(&mut bytes).expect("all of it");
            stream.write_all(&bytes).expect("and back");
            let (len, from) = udp.recv_from(&mut bytes).expect("a datagram");
            udp.send_to(&bytes[..len], from).expect("and back");
        });
        let mut stream = None;
        until("the port is known", || {
            stream = caller.within(|| TcpStream::connect(to).ok());
            stream.is_some()
        });
        let mut stream = stream.expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let (sent, mut back) = (vec![7; STREAM], vec![0; STREAM]);
        stream.write_all(&sent).expect("all of it");
        stream.read_exact(&mut back).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(sent, back);
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = caller.within(|| UdpSocket::bind((any, 0))).expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        socket.connect(to).expect("connected");
        socket.send(&sent[..DATAGRAM]).expect("sent");
        let len = socket.recv(&mut back).unwrap_or_else(|error| panic!("{to}, in one datagram: {error}"));
        assert_eq!(len, DATAGRAM);
    });
}

/// A TCP socket with an address, and nothing more: not even leave to take one whose connections are still ending.
pub fn bind(place: &Place, address: &str, port: u16, shared: bool) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let address = at(address, port);
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    place.within(|| {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, shared)?;
        bind(&socket, &address)?;
        Ok(socket)
    })
}

/// Whether such a port is somebody else's, in TCP. Connections that are still ending are nobody's.
pub fn is_taken(place: &Place, address: &str, port: u16) -> bool {
    judged(address, port, place.within(|| TcpListener::bind(at(address, port)).map(drop)))
}

/// The same of UDP.
pub fn is_taken_in_udp(place: &Place, address: &str, port: u16) -> bool {
    judged(address, port, place.within(|| UdpSocket::bind(at(address, port)).map(drop)))
}

fn judged(address: &str, port: u16, bound: io::Result<()>) -> bool {
    let Err(error) = bound else { return false };
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}:{port}: {error}");
    true
}
