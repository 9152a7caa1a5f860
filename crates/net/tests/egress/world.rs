//! A small world to test in: network namespaces that play a host, the internet and slots.
//!
//! ```text
//! internet  203.0.113.10, and what must not be reached: 169.254.169.254, 100.100.100.200 …
//!    │
//! host      203.0.113.1, 198.51.100.7, 127.0.0.1          the test's own process
//! slots     nothing but a loopback                        one process each
//! ```
//!
//! Nothing of the machine's own network is touched, nor is root needed where user namespaces are allowed.

use net::netlink::Socket;
use net::netlink::route::{End, News, Prefix};
use os::idmap;
use os::ns::{self, Kinds};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const INTERNET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Link-local, and a name server.
pub const NAMES: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const HOST_TOO: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const HTTP: u16 = 80;
pub const DNS: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that does nothing but stand in a network namespace of its own.
pub struct Place {
    child: Child,
    pub process: OwnedFd,
}

/// Is such a process, as user namespaces have it if `apart`, until its standard input ends.
pub fn be_place(apart: bool) {
    let kinds = if apart { Kinds::NET.and(Kinds::USER) } else { Kinds::NET };
    ns::unshare(kinds).expect("a network namespace");
    os::netlink::loopback_up().expect("a loopback");
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts this program again, in another part, and waits until it says that it is ready.
pub fn start(part: &str, argument: &str) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    let command = Command::new(program).args([part, argument]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = command.expect("this program runs twice");
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut said).expect("it speaks");
    assert_eq!(said.trim(), "ready", "{part} failed");
    child
}

/// Tells such a process to end, and waits for it.
pub fn end(mut child: Child) {
    drop(child.stdin.take());
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

impl Place {
    pub fn new(part: &str) -> Self {
        let child = start(part, "");
        let process = os::pidfd::open(child.id() as i32).expect("a pidfd");
        Self { child, process }
    }

    pub fn descriptor(&self) -> OwnedFd {
        self.process.try_clone().expect("a descriptor")
    }

    /// Does something in its namespace.
    pub fn within<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let process = self.descriptor();
        let thread = std::thread::spawn(move || {
            ns::enter(process, Kinds::NET).expect("its namespace can be entered");
            action()
        });
        thread.join().expect("what is done there succeeds")
    }

    /// What a TCP server says of who has called it; or how it cannot be reached.
    pub fn call(&self, address: Ipv4Addr, port: u16) -> Result<String, std::io::Error> {
        self.within(move || {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), PATIENCE)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        })
    }

    /// Whether an address refuses to be called, at once.
    pub fn is_refused(&self, address: Ipv4Addr, port: u16) -> bool {
        let begun = Instant::now();
        let result = self.call(address, port);
        println!("  {address}:{port} answers {result:?}");
        begun.elapsed() < PATIENCE / 5
            && result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// What a UDP server answers.
    pub fn send(&self, address: Ipv4Addr, port: u16) -> Result<usize, std::io::Error> {
        self.within(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect((address, port))?;
            socket.send(b"question")?;
            socket.recv(&mut [0; 16])
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets the calling process, which must have one thread, play the host.
pub fn become_host() -> Result<(), std::io::Error> {
    if !rustix::process::geteuid().is_root() {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        ns::unshare(Kinds::USER)?;
        let root = |outside| [idmap::Range { inside: 0, outside, count: 1 }];
        idmap::write(std::process::id() as i32, &root(uid), &root(gid), true)?;
    }
    ns::unshare(Kinds::NET)?;
    os::netlink::loopback_up()
}

/// Connects the host with an internet in which servers answer.
pub fn make_internet() -> Place {
    let internet = Place::new("place");
    let end = |name, last| End { name, index: 0, hardware: [2, 0, 0, 0, 1, last], resolve: true };
    let host = Socket::route().expect("netlink");
    let namespace = File::open(format!("/proc/{}/ns/net", internet.child.id())).expect("its namespace");
    host.add_pair(end("wan0", 1), end("eth0", 2), namespace.as_fd()).expect("a pair of devices");
    let wan = host.index_of("wan0").expect("wan0");
    host.add_address(wan, HOST, 24).expect("the host's address");
    host.add_address(host.index_of("lo").expect("lo"), HOST_TOO, 32).expect("the host's other address");
    host.add_route(Prefix::ALL, wan, Some(INTERNET)).expect("the host's route");
    internet.within(|| {
        let own = Socket::route().expect("netlink");
        let link = own.index_of("eth0").expect("eth0");
        own.bring_up(link).expect("it goes up");
        own.add_address(link, INTERNET, 24).expect("an address");
        for address in [METADATA, ALIBABA, NAMES, PRIVATE] {
            own.add_address(link, address, 32).expect("an address");
        }
        serve_tcp(HTTP);
        serve_tcp(DNS);
        [INTERNET, NAMES].into_iter().for_each(serve_udp);
    });
    serve_tcp(HTTP);
    internet
}

/// Serves at every address of the calling thread's namespace: tells each caller its address.
pub fn serve_tcp(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(SocketAddr::V4(peer)) = stream.peer_addr() {
                let _ = write!(&stream, "{}", SocketAddrV4::ip(&peer));
            }
        }
    });
}

/// Answers questions to this address of the calling thread's namespace.
fn serve_udp(address: Ipv4Addr) {
    let socket = UdpSocket::bind((address, DNS)).expect("a port");
    std::thread::spawn(move || {
        let mut question = [0; 16];
        while let Ok((len, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&question[..len], peer);
        }
    });
}

/// The devices of the host.
pub fn devices() -> String {
    std::fs::read_to_string("/proc/thread-self/net/dev").expect("a table of devices")
}

/// What a program says that knows the host's rules, where there is one.
pub fn say(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until a device of the host is gone.
pub fn wait_until_gone(device: &str) {
    let news = News::listen().expect("netlink");
    let until = Instant::now() + PATIENCE;
    while devices().contains(device) {
        assert!(Instant::now() < until, "{device} is still there: {}", devices());
        news.wait(PATIENCE).expect("news of devices");
    }
}
