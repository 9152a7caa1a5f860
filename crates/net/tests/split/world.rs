//! A small world to test in: namespaces that play the halves of a Pod and the outside, and a daemon.
//!
//! ```text
//! cpu      nothing of its own                      the app's half
//! dpu      eth0 10.77.0.5, fd77::5                 the uplink's half
//! outside  eth0 10.77.0.1, fd77::1; 203.0.113.9, 2001:db8::9
//! ```
//! Nothing of the machine's own network is touched. The daemon's programs see all its sockets, and pass all but these.

use net::netlink::Socket;
use net::netlink::policy::{MAIN, Route};
use net::netlink::route::{End, News};
use net::split::client::{self, Answer, AskError, Request, Status};
use net::split::{Half, Network};
use os::ns::{self, Kinds};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const POD: [&str; 2] = ["10.77.0.5", "fd77::5"];
pub const GATEWAY: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub const AFAR: [&str; 2] = ["203.0.113.9", "2001:db8::9"];
/// Far longer than anything takes, on the slowest of machines.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A process that does nothing but stand in a network namespace of its own.
pub struct Place {
    child: Child,
    namespace: File,
}

/// Is such a process, until its standard input ends.
pub fn be_place() {
    ns::unshare(Kinds::NET).expect("a network namespace");
    os::netlink::loopback_up().expect("a loopback");
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Is the daemon of a folder, until it is killed.
pub fn be_daemon(folder: &Path) {
    let served = net::split::daemon::serve(folder, || println!("ready"), |_| ());
    panic!("the daemon has ended: {served:?}");
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

impl Place {
    pub fn new() -> Self {
        let child = start("place", "");
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).expect("its namespace");
        Self { child, namespace }
    }

    pub fn half(&self, pu: &str) -> Half {
        let pid = self.child.id();
        Half { pu: pu.to_owned(), namespace: format!("/proc/{pid}/ns/net").into(), process: Some(pid as i32) }
    }

    pub fn namespace(&self) -> &File {
        &self.namespace
    }

    /// Does something there. Sockets that are made stay there.
    pub fn within<R: Send>(&self, what: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                ns::enter(&self.namespace, Kinds::NET).expect("the place can be entered");
                what()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What a program says there.
    pub fn say(&self, program: &str, arguments: &[&str]) -> String {
        self.within(|| {
            let output = Command::new(program).args(arguments).output().expect("it runs");
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Everything of it that a network could change.
    pub fn picture(&self) -> String {
        let mut picture = self.say("nft", &["list", "ruleset"]);
        self.within(|| {
            for switch in [
                "ipv4/ip_forward",
                "ipv4/ip_local_port_range",
                "ipv4/ip_local_reserved_ports",
                "ipv4/conf/all/rp_filter",
                "ipv4/conf/lo/accept_local",
                "ipv4/conf/lo/route_localnet",
                "ipv6/conf/all/forwarding",
                "mptcp/enabled",
            ] {
                let value = std::fs::read_to_string(format!("/proc/sys/net/{switch}")).unwrap_or_default();
                picture.push_str(&format!("{switch} {value}"));
            }
        });
        picture.push_str(&self.say("tc", &["qdisc", "show"]));
        for (family, what) in
            [("-4", "rule"), ("-6", "rule"), ("-4", "route"), ("-6", "route"), ("-4", "addr"), ("-6", "addr")]
        {
            let all: &[&str] = if what == "route" { &["table", "all"] } else { &[] };
            let said = self.say("ip", &[&[family, what, "show"], all].concat());
            // Lifetimes of what the kernel has made by itself.
            picture.extend(said.lines().filter(|line| !line.contains("fe80")).map(|line| format!("{line}\n")));
        }
        picture
    }

    pub fn end(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addresses(of: [&str; 2]) -> [IpAddr; 2] {
    of.map(|address| address.parse().expect("an address"))
}

/// Connects the uplink's half with an outside.
pub fn make_outside(dpu: &Place) -> Place {
    let outside = Place::new();
    let end = |last| End { name: "eth0", index: 0, hardware: [2, 0, 0, 0, 7, last], resolve: true };
    dpu.within(|| {
        let own = Socket::route().expect("netlink");
        own.add_pair(end(1), end(2), outside.namespace.as_fd()).expect("a pair of devices");
    });
    outside.within(|| {
        let own = Socket::route().expect("netlink");
        let (eth, lo) = (own.index_of("eth0").expect("eth0"), own.index_of("lo").expect("lo"));
        own.bring_up(eth).expect("it goes up");
        for (address, len) in addresses(GATEWAY).into_iter().zip([24, 64]) {
            own.give_address(eth, address, len).expect("an address");
        }
        for (address, len) in addresses(AFAR).into_iter().zip([32, 128]) {
            own.give_address(lo, address, len).expect("an address");
        }
    });
    dpu.within(|| {
        let own = Socket::route().expect("netlink");
        let news = News::listen().expect("netlink");
        let eth = own.index_of("eth0").expect("eth0");
        own.wait_until_up(eth, &news).expect("it goes up");
        for ((address, gateway), len) in addresses(POD).into_iter().zip(addresses(GATEWAY)).zip([24, 64]) {
            own.give_address(eth, address, len).expect("an address");
            let route = Route { to: None, link: eth, gateway: Some(gateway), source: None, table: MAIN, mtu: None };
            own.route_by(&route).expect("a route");
        }
    });
    outside
}

/// A daemon in a folder of its own.
pub struct Daemon<'a> {
    child: Child,
    folder: &'a Path,
}

impl<'a> Daemon<'a> {
    pub fn start(folder: &'a Path) -> Self {
        Self { child: start("daemon", &folder.display().to_string()), folder }
    }

    pub fn ask(&self, request: &Request) -> Result<Answer, AskError> {
        client::ask(self.folder, request)
    }

    pub fn join(&self, network: &Network) {
        let answer = self.ask(&Request::Join(network.clone())).expect("joined");
        assert_eq!(answer, Answer::Joined { contended: Vec::new() });
    }

    pub fn leave(&self, network: &Network) {
        let answer = self.ask(&Request::Leave { network: network.name.clone() }).expect("left");
        assert_eq!(answer, Answer::Done);
    }

    pub fn status(&self) -> Vec<Status> {
        match self.ask(&Request::List).expect("a list") {
            Answer::Networks(networks) => networks,
            other => panic!("{other:?}"),
        }
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Pod of two halves, and its outside.
pub struct Pod {
    pub cpu: Place,
    pub dpu: Place,
    pub outside: Place,
    pub network: Network,
}

impl Pod {
    pub fn new() -> Self {
        let (cpu, dpu) = (Place::new(), Place::new());
        let outside = make_outside(&dpu);
        let network = Network {
            name: "pod".to_owned(),
            addresses: addresses(POD).to_vec(),
            halves: vec![cpu.half("cpu"), dpu.half("dpu")],
            uplink: Some("dpu".to_owned()),
            users: Vec::new(),
        };
        Self { cpu, dpu, outside, network }
    }

    /// Both orders: who serves, and who calls.
    pub fn ways(&self) -> [(&Place, &Place); 2] {
        [(&self.cpu, &self.dpu), (&self.dpu, &self.cpu)]
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
