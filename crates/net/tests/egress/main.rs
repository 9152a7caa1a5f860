//! Egress, in a small world of its own: what can be reached from a slot, what cannot, and what is left behind.
//!
//! One process with one thread to begin with, hence without the usual harness.

mod world;

use net::egress::resolver::Resolver;
use net::egress::{Egress, Settings};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use world::{ALIBABA, DNS, HOST, HOST_TOO, HTTP, INTERNET, METADATA, NAMES, PRIVATE, Place};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("place") => return world::be_place(false),
        Some("slot") => return world::be_place(true),
        Some("owner") => return be_owner(Path::new(&arguments[2])),
        _ => {}
    }
    if let Err(error) = world::become_host() {
        println!("skip: this user may make no network namespaces: {error}");
        return;
    }
    let internet = world::make_internet();
    let run = tempfile::tempdir().expect("a folder");
    for (name, test) in TESTS {
        println!("{name} …");
        test(run.path());
    }
    drop(internet);
}

type Test = (&'static str, fn(&Path));

const TESTS: [Test; 5] = [
    ("the outside is reached, and nothing of the host", reach),
    ("attaching is quick, and many can wait for it", attach_many),
    ("an orderly end leaves nothing", close),
    ("a firewall that drops what is forwarded is told", firewall),
    ("a killed owner leaves nothing but what the next one takes back", kill),
];

fn settings(run: &Path) -> Settings {
    Settings { resolver: Resolver { text: String::new(), servers: vec![NAMES] }, run: PathBuf::from(run) }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a switch").trim() == "1"
}

fn reach(run: &Path) {
    let runtime = runtime();
    let egress = runtime.block_on(Egress::open(settings(run))).expect("egress opens");
    let (slot, other) = (Place::new("slot"), Place::new("slot"));
    other.within(|| world::serve_tcp(HTTP));
    assert!(slot.call(INTERNET, HTTP).is_err(), "a slot has no network before it is attached");
    let attach = |place: &Place| runtime.block_on(egress.attach(place.descriptor())).expect("the slot is attached");
    let (address, other_address) = (attach(&slot), attach(&other));
    assert_ne!(address, other_address);

    assert_eq!(slot.call(INTERNET, HTTP).expect("the outside"), HOST.to_string(), "as the host, to the outside");
    assert_eq!(other.call(PRIVATE, HTTP).expect("a private network"), HOST.to_string());
    assert_eq!(slot.send(INTERNET, DNS).expect("an answer"), 8);
    assert_eq!(slot.send(NAMES, DNS).expect("the name server answers"), 8);
    assert!(slot.call(NAMES, DNS).is_ok(), "the name server answers by TCP too");

    for server in [METADATA, ALIBABA, NAMES, HOST, HOST_TOO, address_of_host()] {
        assert!(std::net::TcpStream::connect((server, HTTP)).is_ok(), "{server} serves the host");
    }
    for forbidden in [METADATA, ALIBABA, NAMES, HOST, HOST_TOO, address_of_host(), other_address] {
        assert!(slot.is_refused(forbidden, HTTP), "{forbidden} refuses");
        let error = slot.send(forbidden, HTTP).expect_err("it refuses");
        assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{forbidden}");
    }
    assert!(slot.is_refused([127, 0, 0, 1].into(), HTTP), "its loopback is its own");
    published_ports_are_the_hosts_too(&slot);
    assert!(egress.is_open());
    runtime.block_on(egress.close());
    assert!(!egress.is_open());
    assert!(slot.call(INTERNET, HTTP).is_err(), "it goes with its owner");
}

/// The host's end of the uplink.
fn address_of_host() -> std::net::Ipv4Addr {
    [100, 64, 255, 0].into()
}

/// A port of the host that leads to a container, as Docker has it, and Docker's dislike of forwarding.
fn published_ports_are_the_hosts_too(slot: &Place) {
    let publish = format!(
        "table ip docker {{ chain early {{ type nat hook prerouting priority -100; tcp dport 8080 dnat to {PRIVATE}:{HTTP}; }}; }}"
    );
    if world::say("nft", &["--check", &publish]).is_none() {
        return println!("  skip: there is no nft to publish a port with");
    }
    world::say("nft", &[&publish]);
    assert!(slot.is_refused(HOST, 8080));
    let rules = world::say("nft", &["list", "ruleset"]).unwrap_or_default();
    assert!(rules.contains("table ip lichen0"), "{rules}");
    world::say("nft", &["flush", "ruleset"]);
    assert!(slot.is_refused(HOST, HTTP), "no other program can remove the host's filter");
    assert!(slot.call(INTERNET, HTTP).is_ok());
}

fn attach_many(run: &Path) {
    const SLOTS: usize = 50;
    let runtime = runtime();
    let begun = Instant::now();
    let egress = Arc::new(runtime.block_on(Egress::open(settings(run))).expect("egress opens"));
    println!("  open: {} µs", begun.elapsed().as_micros());
    let places: Vec<Place> = (0..2 * SLOTS).map(|_| Place::new("slot")).collect();
    let (first, second) = places.split_at(SLOTS);
    let (took, called): (Vec<_>, Vec<_>) = first.iter().map(|place| timed(&runtime, &egress, place)).unzip();
    print("one after another", took);
    print("the first call of each", called);
    let begun = Instant::now();
    let addresses = runtime.block_on(async {
        let waiting = second.iter().map(|place| {
            let (egress, process) = (egress.clone(), place.descriptor());
            tokio::spawn(async move { egress.attach(process).await })
        });
        let mut addresses = std::collections::HashSet::new();
        for attached in waiting.collect::<Vec<_>>() {
            addresses.insert(attached.await.expect("no panic").expect("attached"));
        }
        addresses
    });
    println!("  {SLOTS} at once: {} µs each", begun.elapsed().as_micros() / SLOTS as u128);
    assert_eq!(addresses.len(), SLOTS);
    assert!(places.iter().all(|place| place.call(INTERNET, HTTP).is_ok()));
}

/// How long attaching takes, and a call straight after it.
fn timed(runtime: &Runtime, egress: &Egress, place: &Place) -> (Duration, Duration) {
    let process = place.descriptor();
    let begun = Instant::now();
    runtime.block_on(egress.attach(process)).expect("attached");
    let attached = begun.elapsed();
    place.call(INTERNET, HTTP).expect("the outside");
    (attached, begun.elapsed() - attached)
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let [min, p50, max] = [0, times.len() / 2, times.len() - 1].map(|at| times[at].as_micros());
    println!("  {what}: min {min} µs, p50 {p50} µs, max {max} µs");
}

fn close(run: &Path) {
    world::wait_until_gone("lichen");
    let runtime = runtime();
    let (first, second) = runtime.block_on(async {
        (Egress::open(settings(run)).await.expect("one"), Egress::open(settings(run)).await.expect("another"))
    });
    assert!(world::devices().contains("lichen0") && world::devices().contains("lichen1"));
    let slot = Place::new("slot");
    runtime.block_on(async {
        second.attach(slot.descriptor()).await.expect("attached");
        first.close().await;
    });
    assert!(forwards() && slot.call(INTERNET, HTTP).is_ok(), "who ends takes nothing from others");
    runtime.block_on(second.close());
    nothing_is_left(run);
}

/// As Docker has it.
fn firewall(run: &Path) {
    if world::say("iptables", &["-P", "FORWARD", "DROP"]).is_none() {
        return println!("  skip: there is no iptables");
    }
    let runtime = runtime();
    let before = world::say("iptables", &["-S", "FORWARD"]);
    let mut owner = world::start("owner", &run.display().to_string());
    owner.kill().expect("it can be killed");
    owner.wait().expect("it ends");
    world::wait_until_gone("lichen0");
    assert_ne!(world::say("iptables", &["-S", "FORWARD"]), before, "something is left");
    let other = world::start("owner", &run.display().to_string());
    let egress = runtime.block_on(Egress::open(settings(run))).expect("egress opens");
    let slot = Place::new("slot");
    runtime.block_on(egress.attach(slot.descriptor())).expect("attached");
    assert!(slot.call(INTERNET, HTTP).is_ok());
    runtime.block_on(egress.close());
    world::end(other);
    assert_eq!(world::say("iptables", &["-S", "FORWARD"]), before);
    world::say("iptables", &["-P", "FORWARD", "ACCEPT"]);
    nothing_is_left(run);
}

fn be_owner(run: &Path) {
    let runtime = runtime();
    let egress = runtime.block_on(Egress::open(settings(run))).expect("egress opens");
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    runtime.block_on(egress.close());
}

fn kill(run: &Path) {
    let mut owner = world::start("owner", &run.display().to_string());
    assert!(world::devices().contains("lichen0") && forwards());
    owner.kill().expect("it can be killed");
    owner.wait().expect("it ends");
    world::wait_until_gone("lichen0");
    if let Some(left) = world::say("nft", &["list", "ruleset"]) {
        assert!(left.contains("table ip lichen0-guard") && !left.contains("table ip lichen0 "), "{left}");
    }
    assert!(forwards(), "nobody was there to turn it off");
    let runtime = runtime();
    let egress = runtime.block_on(Egress::open(settings(run))).expect("egress opens again");
    runtime.block_on(egress.close());
    nothing_is_left(run);
}

fn nothing_is_left(run: &Path) {
    assert!(!forwards() && !world::devices().contains("lichen"));
    let files = std::fs::read_dir(run).expect("the folder").filter_map(Result::ok);
    assert!(files.map(|file| file.file_name()).all(|name| name == "lock"));
    let rules = world::say("nft", &["list", "ruleset"]).unwrap_or_default();
    assert!(!rules.contains("lichen"), "{rules}");
}
