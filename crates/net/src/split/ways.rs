//! Which half a packet is for: the one that has a socket for it. Small programs in the kernel ask, for each packet that is sent
//! to the Pod itself.
//!
//! ```text
//!  caller's half  lo: a socket here? ─yes─▶ as ever
//!                     │ no: one in another half? ─no─▶ as ever: refused
//!                     └──────yes──────▶ its link ══▶ the server's half: received, ::1 by its lo
//!  any half       a device to the outside: the same; a half's mark ─▶ routed over its link
//! ```
//! Nobody has to know whose a port is: connections that outlive their listener, callers that were there before the network, a
//! bind a moment ago are found. Between a listener of one half and a connection of another (`SO_REUSEPORT`, a restart that changes
//! halves) it is the packet that decides: whether it begins something or goes on with it.
//!
//! What crosses from `lo` is neither tracked nor routed. It is received from the link, or, where that can be noticed, from the other
//! half's `lo`: datagrams, of which servers ask by which device they have come, and what is for a socket that is bound to `lo`. Packets from outside are only marked: all checks of the half
//! by which they enter are made. Errors (ICMP) about what was sent go to who has sent it; of a datagram in fragments, which
//! say nothing of ports but for the first, all halves get the others, and so they do answers to a `ping`.

use super::HALVES_MAX;
use super::plan::{LINK_V4, LINK_V6, MARK_MASK};
use crate::netlink::Socket;
use os::bpf::{Code, Label, Program, Reg::*, Width::*};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Each namespace's `lo`, and the header of its packets as of a link's.
const LOOPBACK: i32 = 1;
const FRAME_LEN: i32 = 14;

const REDIRECT: i32 = 23;
const REDIRECT_PEER: i32 = 155;
const CLONE_REDIRECT: i32 = 13;
const LOAD_BYTES: i32 = 26;
const STORE_BYTES: i32 = 9;
const CHANGE_TYPE: i32 = 32;
const LOOK_UP_TCP: i32 = 99;
const LOOK_UP_UDP: i32 = 85;
const RELEASE: i32 = 86;
/// A redirection to where a device receives.
const INGRESS: i32 = 1;
const HERE: i32 = -1;
/// Answers: as if the program were not there; and nobody gets it.
const PASS: i32 = -1;
const DROP: i32 = 2;

/// Of `struct __sk_buff`.
const PACKET_TYPE: i16 = 4;
const PACKET_MARK: i16 = 8;
const PACKET_PROTOCOL: i16 = 16;
/// Where a frame says who has sent it: the first byte, of which loopbacks and links make something else, says that `lo` is to receive it.
const SENDER: i32 = 6;
const BY_LOOPBACK: i32 = 0xfe;
/// Of `struct bpf_sock`.
const SOCKET_DEVICE: i16 = 0;
const SOCKET_STATE: i16 = 72;
const TIME_WAIT: i32 = 6;
const LISTEN: i32 = 10;

const FRAGMENT: i32 = 44;
/// `ICMP_DEST_UNREACH`, `_SOURCE_QUENCH`, `_TIME_EXCEEDED`, `_PARAMETERPROB`, and the same of IPv6.
const ERRORS_V4: [i32; 4] = [3, 4, 11, 12];
const ERRORS_V6: [i32; 4] = [1, 2, 3, 4];
/// Answers to a `ping`, whose sockets cannot be asked for.
const ECHO_REPLIES: [i32; 2] = [0, 129];
/// What stands before the packet that an error is about.
const ERROR_LEN: i32 = 8;

/// Places on the stack: an IP header, whom a socket is looked for, and the beginning of what follows the header.
const HEADER: i16 = -40;
const TUPLE: i16 = -80;
const REST: i16 = -96;
/// Whether it is `lo` that has to receive it.
const ONLY_LOOPBACK: i16 = -104;
const PORTS_LEN: i32 = 4;
/// As far as the flags of TCP.
const SEGMENT_LEN: i32 = 14;
const FLAGS: i16 = 13;
const SYN: i32 = 2;
const SYN_OR_ACK: i32 = 0x12;

/// Another half, as the programs know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The device that leads there.
    pub link: u32,
    /// By which number its namespace is known here.
    pub namespace: i32,
    pub mark: u32,
}

/// Where packets enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What is sent by programs here to this host itself.
    Here,
    /// Through a device, whose packets begin with an Ethernet header or not.
    Outside { framed: bool },
}

/// The program of a device of a half that is no link.
pub fn lead(from: Entry, ways: &[Way], addresses: &[IpAddr]) -> Code {
    let mut code = Code::default();
    let pass = code.label();
    let ends = ways.iter().map(|_| code.label()).collect();
    let writer = Writer { code, from, ways, addresses, pass, ends };
    writer.write()
}

/// The program of a link: what is for `::1`, or says so itself, is received as if it had been sent here, and fragments are whoever's they
/// are sent to.
pub fn receive() -> Code {
    let mut code = Code::default();
    let (mine, other, here, pass) = (code.label(), code.label(), code.label(), code.label());
    code.copy(R6, R1).load(Word, R2, R6, PACKET_TYPE).if_equal(R2, 0, mine);
    code.set(R2, 0).call(CHANGE_TYPE);
    code.here(mine).load(Word, R2, R6, PACKET_PROTOCOL).if_not_equal(R2, ether(libc::ETH_P_IPV6), other);
    code.copy(R1, R6).set(R2, FRAME_LEN).copy(R3, R10).add(R3, HEADER.into()).set(R4, Version::V6.header_len());
    code.call(LOAD_BYTES).if_not_equal(R0, 0, pass);
    let last = i32::from_ne_bytes([0, 0, 0, 1]);
    for (word, value) in [0, 0, 0, last].into_iter().enumerate() {
        let at = HEADER + Version::V6.destination() + 4 * word as i16;
        code.load(Word, R2, R10, at).if_word_not_equal(R2, value, other);
    }
    code.go(here);
    code.here(other).copy(R1, R6).set(R2, SENDER).copy(R3, R10).add(R3, HEADER.into()).set(R4, 1).call(LOAD_BYTES);
    code.if_not_equal(R0, 0, pass).load(Byte, R2, R10, HEADER).if_not_equal(R2, BY_LOOPBACK, pass);
    code.here(here).load(Word, R1, R6, PACKET_MARK).or_value(R1, MARK_MASK as i32).store(Word, R6, PACKET_MARK, R1);
    code.set(R1, LOOPBACK).set(R2, INGRESS).call(REDIRECT).exit();
    code.here(pass).set(R0, PASS).exit();
    code
}

/// Puts such programs at the loopback of the namespace in which the calling thread stands.
pub fn rehearse() -> io::Result<()> {
    let socket = Socket::route()?;
    let way = Way {
        link: LOOPBACK as u32,
        namespace: socket.number_of(File::open("/proc/thread-self/ns/net")?)?,
        mark: 1 << 24,
    };
    let addresses = [Ipv4Addr::new(10, 77, 0, 5).into(), IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 5))];
    // Pods of both families, of one, and of none.
    let pods = [&addresses[..], &addresses[..1], &addresses[1..], &[]];
    let entries = [Entry::Outside { framed: true }, Entry::Outside { framed: false }, Entry::Here];
    let leads = pods.iter().flat_map(|pod| entries.map(|from| lead(from, &[way; HALVES_MAX - 1], pod)));
    for code in leads.chain([receive()]) {
        socket.classify(LOOPBACK as u32, Program::classifier(&code)?)?;
    }
    socket.classify_no_more(LOOPBACK as u32)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Version {
    fn header_len(self) -> i32 {
        if self == Self::V4 { 20 } else { 40 }
    }

    fn source(self) -> i16 {
        if self == Self::V4 { 12 } else { 8 }
    }

    fn destination(self) -> i16 {
        if self == Self::V4 { 16 } else { 24 }
    }

    fn protocol(self) -> i16 {
        if self == Self::V4 { 9 } else { 6 }
    }

    fn address_len(self) -> i16 {
        if self == Self::V4 { 4 } else { 16 }
    }

    /// Addresses and ports.
    fn tuple_len(self) -> i32 {
        i32::from(2 * self.address_len()) + PORTS_LEN
    }

    fn errors(self) -> (i32, [i32; 4]) {
        if self == Self::V4 { (libc::IPPROTO_ICMP, ERRORS_V4) } else { (libc::IPPROTO_ICMPV6, ERRORS_V6) }
    }
}

/// R6: the packet; R7: where in it its protocol's header begins; R8: the protocol, later whether something begins.
struct Writer<'a> {
    code: Code,
    from: Entry,
    ways: &'a [Way],
    addresses: &'a [IpAddr],
    pass: Label,
    /// Where a packet is sent on to each other half.
    ends: Vec<Label>,
}

impl Writer<'_> {
    fn write(mut self) -> Code {
        let v6 = self.code.label();
        self.code.copy(R6, R1);
        if self.from == Entry::Here {
            self.pass_what_was_led();
        }
        self.code.load(Word, R2, R6, PACKET_PROTOCOL).if_equal(R2, ether(libc::ETH_P_IPV6), v6);
        self.code.if_not_equal(R2, ether(libc::ETH_P_IP), self.pass);
        self.version(Version::V4);
        self.code.here(v6);
        self.version(Version::V6);
        let leads = self.has(Version::V4) || self.has(Version::V6);
        for (end, way) in self.ends.clone().into_iter().zip(self.ways).filter(|_| leads) {
            self.code.here(end);
            self.send(way);
        }
        self.code.here(self.pass).set(R0, PASS).exit();
        self.code
    }

    /// Whether what comes this way can be for the Pod: the kernel refuses programs with parts that nothing comes to.
    fn has(&self, version: Version) -> bool {
        let is_such = |address: &IpAddr| address.is_ipv4() == (version == Version::V4);
        self.from == Entry::Here || self.addresses.iter().any(is_such)
    }

    /// By another half, and its link's program.
    fn pass_what_was_led(&mut self) {
        let other = self.code.label();
        self.code.load(Word, R1, R6, PACKET_MARK).copy(R2, R1).and(R2, MARK_MASK as i32);
        self.code.if_not_equal(R2, MARK_MASK as i32, other).and(R1, !(MARK_MASK as i32));
        self.code.store(Word, R6, PACKET_MARK, R1).go(self.pass).here(other);
    }

    fn version(&mut self, version: Version) {
        let fragments = self.code.label();
        self.code.set(R7, self.frame_len());
        self.load(HEADER, version.header_len());
        if !self.has(version) {
            self.drop_for_links(version);
            self.code.go(self.pass);
            return;
        }
        self.judge_addresses(version);
        self.find_protocol(version, fragments);
        self.copy_addresses(version, false);
        let (tcp, udp, error) = (self.code.label(), self.code.label(), self.code.label());
        self.code.if_equal(R8, libc::IPPROTO_TCP, tcp).if_equal(R8, libc::IPPROTO_UDP, udp);
        if self.from != Entry::Here {
            self.code.if_equal(R8, version.errors().0, error);
        }
        self.code.go(self.pass);

        let (seek_tcp, seek_udp) = (self.code.label(), self.code.label());
        self.code.here(tcp);
        self.load(REST, SEGMENT_LEN);
        self.copy_ports(version, false);
        let begins = self.code.label();
        self.code.load(Byte, R1, R10, REST + FLAGS).and(R1, SYN_OR_ACK).set(R8, 1).if_equal(R1, SYN, begins);
        self.code.here(seek_tcp).set(R8, 0).here(begins);
        self.seek(version, true);

        self.code.here(udp);
        self.load(REST, PORTS_LEN);
        self.copy_ports(version, false);
        self.code.here(seek_udp);
        self.seek(version, false);

        self.code.here(error);
        if self.from != Entry::Here {
            self.look_into_error(version, [seek_tcp, seek_udp], fragments);
        }
        self.code.here(fragments);
        self.send_to_all();
    }

    fn frame_len(&self) -> i32 {
        if self.from == (Entry::Outside { framed: false }) { 0 } else { FRAME_LEN }
    }

    /// Bytes of the packet, from R7 on. What is too short is nobody's here.
    fn load(&mut self, to: i16, len: i32) {
        self.code.copy(R1, R6).copy(R2, R7).copy(R3, R10).add(R3, to.into()).set(R4, len).call(LOAD_BYTES);
        self.code.if_not_equal(R0, 0, self.pass);
    }

    /// Only what is for the Pod. What says from outside that it is from the Pod is left to the kernel, which drops it, and
    /// nobody outside reaches a link.
    fn judge_addresses(&mut self, version: Version) {
        let known = self.code.label();
        if self.from == Entry::Here {
            self.if_loopback(version, version.destination(), known);
        } else {
            self.drop_for_links(version);
        }
        self.if_pods(version, version.destination(), known);
        self.code.go(self.pass).here(known);
        if self.from != Entry::Here {
            self.if_loopback(version, version.source(), self.pass);
            self.if_pods(version, version.source(), self.pass);
        }
    }

    fn if_loopback(&mut self, version: Version, end: i16, then: Label) {
        match version {
            Version::V4 => {
                self.code.load(Byte, R1, R10, HEADER + end).if_equal(R1, 127, then);
            }
            Version::V6 => self.if_words(end, &Ipv6Addr::LOCALHOST.octets(), then),
        }
    }

    fn if_pods(&mut self, version: Version, end: i16, then: Label) {
        for address in self.addresses {
            match (version, address) {
                (Version::V4, IpAddr::V4(v4)) => self.if_words(end, &v4.octets(), then),
                (Version::V6, IpAddr::V6(v6)) => self.if_words(end, &v6.octets(), then),
                _ => {}
            }
        }
    }

    /// If these bytes, a multiple of four, stand there in the IP header.
    fn if_words(&mut self, at: i16, bytes: &[u8], then: Label) {
        let other = self.code.label();
        let words = bytes.as_chunks::<4>().0;
        for (number, word) in words.iter().enumerate() {
            let (at, value) = (HEADER + at + 4 * number as i16, i32::from_ne_bytes(*word));
            self.code.load(Word, R1, R10, at).if_word_not_equal(R1, value, other);
        }
        self.code.go(then).here(other);
    }

    fn drop_for_links(&mut self, version: Version) {
        let (other, to) = (self.code.label(), HEADER + version.destination());
        match version {
            Version::V4 => {
                for (number, byte) in LINK_V4.into_iter().enumerate() {
                    self.code.load(Byte, R1, R10, to + number as i16).if_not_equal(R1, byte.into(), other);
                }
            }
            Version::V6 => {
                for (number, part) in LINK_V6.into_iter().enumerate() {
                    let part = i32::from(part.to_be());
                    self.code.load(Half, R1, R10, to + 2 * number as i16).if_not_equal(R1, part, other);
                }
            }
        }
        self.code.set(R0, DROP).exit().here(other);
    }

    /// R8 and R7; a fragment that is not the first has no ports.
    fn find_protocol(&mut self, version: Version, fragments: Label) {
        self.code.load(Byte, R8, R10, HEADER + version.protocol());
        match version {
            Version::V4 => {
                self.code.load(Byte, R1, R10, HEADER + 6).and(R1, 0x1f).if_not_equal(R1, 0, fragments);
                self.code.load(Byte, R1, R10, HEADER + 7).if_not_equal(R1, 0, fragments);
                self.skip_header_v4();
            }
            Version::V6 => {
                let whole = self.code.label();
                self.code.add(R7, version.header_len()).if_not_equal(R8, FRAGMENT, whole);
                self.load(REST, 8);
                self.code.load(Byte, R1, R10, REST + 2).if_not_equal(R1, 0, fragments);
                self.code.load(Byte, R1, R10, REST + 3).and(R1, 0xf8).if_not_equal(R1, 0, fragments);
                self.code.load(Byte, R8, R10, REST).add(R7, 8).here(whole);
            }
        }
    }

    fn skip_header_v4(&mut self) {
        self.code.load(Byte, R1, R10, HEADER).and(R1, 0xf).shift_left(R1, 2).add_register(R7, R1);
    }

    /// Of the packet, or, turned round, of one that was sent.
    fn copy_addresses(&mut self, version: Version, turned: bool) {
        let (source, destination) = (version.source(), version.destination());
        let from = if turned { [destination, source] } else { [source, destination] };
        for (number, from) in from.into_iter().enumerate() {
            let to = TUPLE + number as i16 * version.address_len();
            for word in (0..version.address_len()).step_by(4) {
                self.code.load(Word, R1, R10, HEADER + from + word).store(Word, R10, to + word, R1);
            }
        }
    }

    fn copy_ports(&mut self, version: Version, turned: bool) {
        let to = TUPLE + 2 * version.address_len();
        for (number, from) in (if turned { [2, 0] } else { [0, 2] }).into_iter().enumerate() {
            self.code.load(Half, R1, R10, REST + from).store(Half, R10, to + 2 * number as i16, R1);
        }
    }

    /// An error is for the socket that has sent what it is about.
    fn look_into_error(&mut self, version: Version, [seek_tcp, seek_udp]: [Label; 2], all: Label) {
        let is_error = self.code.label();
        self.load(REST, 1);
        self.code.load(Byte, R1, R10, REST).if_equal(R1, ECHO_REPLIES[version as usize], all);
        for kind in version.errors().1 {
            self.code.if_equal(R1, kind, is_error);
        }
        self.code.go(self.pass).here(is_error).add(R7, ERROR_LEN);
        self.load(HEADER, version.header_len());
        self.copy_addresses(version, true);
        self.code.load(Byte, R8, R10, HEADER + version.protocol());
        match version {
            Version::V4 => self.skip_header_v4(),
            Version::V6 => {
                self.code.add(R7, version.header_len());
            }
        }
        self.load(REST, PORTS_LEN);
        self.copy_ports(version, true);
        self.code.if_equal(R8, libc::IPPROTO_TCP, seek_tcp).if_equal(R8, libc::IPPROTO_UDP, seek_udp).go(self.pass);
    }

    /// Leads the packet to the half that has a socket for it, this one first. R9: the half of one that would do.
    fn seek(&mut self, version: Version, tcp: bool) {
        self.code.set(R9, -1).store_value(Word, R10, ONLY_LOOPBACK, i32::from(!tcp));
        let halves = std::iter::once((HERE, self.pass));
        let halves: Vec<_> = halves.chain(self.ways.iter().map(|way| way.namespace).zip(self.ends.clone())).collect();
        for (number, (namespace, end)) in halves.iter().enumerate() {
            let next = self.code.label();
            self.code.copy(R1, R6).copy(R2, R10).add(R2, TUPLE.into()).set(R3, version.tuple_len());
            self.code.set(R4, *namespace).set(R5, 0).call(if tcp { LOOK_UP_TCP } else { LOOK_UP_UDP });
            self.code.if_equal(R0, 0, next);
            if tcp {
                self.code.load(Word, R1, R0, SOCKET_DEVICE).load(Word, R2, R10, ONLY_LOOPBACK).or(R1, R2);
                self.code.store(Word, R10, ONLY_LOOPBACK, R1).load(Word, R7, R0, SOCKET_STATE);
            }
            self.code.copy(R1, R0).call(RELEASE);
            if tcp {
                self.settle(number as i32, *end, next);
            } else {
                self.code.go(*end);
            }
            self.code.here(next);
        }
        for (number, (_, end)) in halves.iter().enumerate().skip(1).filter(|_| tcp) {
            self.code.if_equal(R9, number as i32, *end);
        }
        self.code.go(self.pass);
    }

    /// A listener has what begins, and a connection what goes on, but not one that has ended and is only kept. Others will do if there
    /// is no such one.
    fn settle(&mut self, half: i32, end: Label, next: Label) {
        let (begins, perhaps) = (self.code.label(), self.code.label());
        self.code.if_equal(R7, TIME_WAIT, perhaps).if_not_equal(R8, 0, begins).if_equal(R7, LISTEN, perhaps);
        self.code.here(begins).go(end);
        self.code.here(perhaps).if_not_equal(R9, -1, next).set(R9, half);
    }

    fn send(&mut self, way: &Way) {
        match self.from {
            Entry::Here => {
                let direct = self.code.label();
                self.code.load(Word, R1, R10, ONLY_LOOPBACK).if_equal(R1, 0, direct);
                self.name_sender(BY_LOOPBACK);
                self.code.here(direct).set(R1, way.link as i32).set(R2, 0).call(REDIRECT_PEER).exit();
            }
            Entry::Outside { .. } => {
                self.code.load(Word, R1, R6, PACKET_MARK).and(R1, !(MARK_MASK as i32)).or_value(R1, way.mark as i32);
                self.code.store(Word, R6, PACKET_MARK, R1).go(self.pass);
            }
        }
    }

    /// For the link's other end.
    fn name_sender(&mut self, byte: i32) {
        self.code.store_value(Byte, R10, REST, byte).copy(R1, R6).set(R2, SENDER).copy(R3, R10).add(R3, REST.into());
        self.code.set(R4, 1).set(R5, 0).call(STORE_BYTES);
    }

    fn send_to_all(&mut self) {
        match self.from {
            Entry::Here => self.name_sender(BY_LOOPBACK),
            // Nobody outside says what only halves say to each other.
            Entry::Outside { framed: true } => self.name_sender(0),
            Entry::Outside { framed: false } => {}
        }
        for way in self.ways {
            self.code.copy(R1, R6).set(R2, way.link as i32).set(R3, 0).call(CLONE_REDIRECT);
        }
        self.code.go(self.pass);
    }
}

/// A protocol's number, as packets have it.
fn ether(protocol: i32) -> i32 {
    i32::from((protocol as u16).to_be())
}
