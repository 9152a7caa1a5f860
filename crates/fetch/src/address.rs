//! What kind of place an IP address is, whatever form it is written in.
//!
//! Public is what the registries have given out to networks of the internet; everything else is refused, unknown ranges
//! too. An IPv6 address that stands for an IPv4 address (mapped, translated, tunnelled) is what that address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, where it is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Unspecified,
    Loopback,
    LinkLocal,
    Private,
    SharedNat,
    Metadata,
    Multicast,
    Broadcast,
    Reserved,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::SharedNat => "an address behind a carrier's NAT",
            Self::Metadata => "an address of a cloud's metadata",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Reserved => "an address that is not given out to anybody",
        })
    }
}

/// Where clouds serve credentials to their machines: the last two lie in ranges that are otherwise public, or refused
/// under another name.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Address, bits, and what lies there; the first that matches counts.
const RANGES_V4: [([u8; 4], u8, Place); 16] = [
    ([255, 255, 255, 255], 32, Place::Broadcast),
    ([0, 0, 0, 0], 8, Place::Unspecified),
    ([10, 0, 0, 0], 8, Place::Private),
    ([100, 64, 0, 0], 10, Place::SharedNat),
    ([127, 0, 0, 0], 8, Place::Loopback),
    ([169, 254, 0, 0], 16, Place::LinkLocal),
    ([172, 16, 0, 0], 12, Place::Private),
    ([192, 0, 0, 0], 24, Place::Reserved),
    ([192, 0, 2, 0], 24, Place::Reserved),
    ([192, 88, 99, 0], 24, Place::Reserved),
    ([192, 168, 0, 0], 16, Place::Private),
    ([198, 18, 0, 0], 15, Place::Reserved),
    ([198, 51, 100, 0], 24, Place::Reserved),
    ([203, 0, 113, 0], 24, Place::Reserved),
    ([224, 0, 0, 0], 4, Place::Multicast),
    ([240, 0, 0, 0], 4, Place::Reserved),
];

const RANGES_V6: [([u16; 4], u8, Place); 9] = [
    ([0xfc00, 0, 0, 0], 7, Place::Private),
    ([0xfe80, 0, 0, 0], 10, Place::LinkLocal),
    // Site-local: withdrawn, and still routed within some networks.
    ([0xfec0, 0, 0, 0], 10, Place::Private),
    ([0xff00, 0, 0, 0], 8, Place::Multicast),
    // Translation within one's own network: what it leads to is whatever that network says.
    ([0x64, 0xff9b, 1, 0], 48, Place::Private),
    // Protocols' own, Teredo among them: an IPv4 address in disguise, and a peer's word for it.
    ([0x2001, 0, 0, 0], 23, Place::Reserved),
    ([0x2001, 0xdb8, 0, 0], 32, Place::Reserved),
    ([0x3fff, 0, 0, 0], 20, Place::Reserved),
    ([0x5f00, 0, 0, 0], 16, Place::Reserved),
];

/// What an address is; nothing where it is public.
pub fn place(address: IpAddr) -> Option<Place> {
    match address {
        IpAddr::V4(address) => place_v4(address),
        IpAddr::V6(address) => place_v6(address),
    }
}

fn place_v4(address: Ipv4Addr) -> Option<Place> {
    if METADATA_V4.contains(&address) {
        return Some(Place::Metadata);
    }
    let bits = u32::from(address);
    let within = |base: [u8; 4], length: u8| (bits ^ u32::from_be_bytes(base)) >> (32 - u32::from(length)) == 0;
    RANGES_V4.iter().find(|(base, length, _)| within(*base, *length)).map(|(_, _, place)| *place)
}

fn place_v6(address: Ipv6Addr) -> Option<Place> {
    if METADATA_V6.contains(&address) {
        return Some(Place::Metadata);
    }
    if address == Ipv6Addr::LOCALHOST {
        return Some(Place::Loopback);
    }
    if address == Ipv6Addr::UNSPECIFIED {
        return Some(Place::Unspecified);
    }
    if let Some(inner) = translated(address) {
        return place_v4(inner);
    }
    if let Some(place) = tunnelled(address).and_then(place_v4) {
        return Some(place);
    }
    let bits = (u128::from(address) >> 64) as u64;
    let within = |base: [u16; 4], length: u8| (bits ^ joined(base)) >> (64 - u32::from(length)) == 0;
    let known = RANGES_V6.iter().find(|(base, length, _)| within(*base, *length)).map(|(_, _, place)| *place);
    // Only 2000::/3 is given out at all.
    known.or_else(|| (bits >> 61 != 1).then_some(Place::Reserved))
}

fn joined(parts: [u16; 4]) -> u64 {
    parts.iter().fold(0, |bits, part| bits << 16 | u64::from(*part))
}

/// The IPv4 address that an IPv6 address stands for, or leads to.
pub fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    translated(address).or_else(|| tunnelled(address))
}

/// The address that it is, in another form.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // Mapped, translated by a stateless translator, NAT64: all that a network without IPv4 has for public addresses.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(joined_v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined_v4(high, low)),
        _ => None,
    }
}

/// The address of the machine that packets go to first, or may.
fn tunnelled(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // IPv4-compatible, 6to4, ISATAP.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(joined_v4(high, low)),
        [0x2002, high, low, ..] => Some(joined_v4(high, low)),
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(joined_v4(high, low)),
        _ => None,
    }
}

fn joined_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Place> {
        place(text.parse().unwrap())
    }

    #[test]
    fn addresses_that_are_not_public() {
        let known = [
            ("0.0.0.0", Place::Unspecified),
            ("0.1.2.3", Place::Unspecified),
            ("127.0.0.1", Place::Loopback),
            ("127.255.255.254", Place::Loopback),
            ("10.0.0.1", Place::Private),
            ("172.16.0.0", Place::Private),
            ("172.31.255.255", Place::Private),
            ("192.168.1.1", Place::Private),
            ("100.64.0.1", Place::SharedNat),
            ("100.127.255.255", Place::SharedNat),
            ("169.254.1.1", Place::LinkLocal),
            ("169.254.169.254", Place::Metadata),
            ("168.63.129.16", Place::Metadata),
            ("224.0.0.1", Place::Multicast),
            ("239.255.255.255", Place::Multicast),
            ("255.255.255.255", Place::Broadcast),
            ("240.0.0.1", Place::Reserved),
            ("198.19.255.255", Place::Reserved),
            ("::", Place::Unspecified),
            ("::1", Place::Loopback),
            ("fc00::1", Place::Private),
            ("fdff::1", Place::Private),
            ("fe80::1", Place::LinkLocal),
            ("febf::1", Place::LinkLocal),
            ("fec0::1", Place::Private),
            ("ff02::1", Place::Multicast),
            ("fd00:ec2::254", Place::Metadata),
            ("64:ff9b:1::808:808", Place::Private),
            ("2001:db8::1", Place::Reserved),
            ("2001::1", Place::Reserved),
            ("100::1", Place::Reserved),
            ("4000::1", Place::Reserved),
            ("e000::1", Place::Reserved),
        ];
        for (text, place) in known {
            assert_eq!(of(text), Some(place), "{text}");
        }
        let public =
            ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "11.0.0.1"];
        for text in public.into_iter().chain(["2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888"]) {
            assert_eq!(of(text), None, "{text}");
        }
    }

    /// Every form in which IPv6 carries an IPv4 address.
    fn forms(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
        let bits = u128::from(u32::from(inner));
        let low = |prefix: u128| Ipv6Addr::from(prefix | bits);
        vec![
            inner.to_ipv6_mapped(),
            low(0xffff_0000 << 32),
            low(0x64_ff9b << 96),
            low(0x2606_4700 << 96 | 0x5efe << 32),
            low(0x2606_4700 << 96 | 0x200_5efe << 32),
            Ipv6Addr::from(0x2002 << 112 | bits << 80),
            Ipv6Addr::from(0x2002 << 112 | bits << 80 | 0xdead_beef),
        ]
    }

    /// A walk over the address space that does not repeat itself soon.
    fn addresses() -> impl Iterator<Item = u64> {
        let step =
            |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        std::iter::successors(Some(1), step).map(|state| state >> 16)
    }

    #[test]
    fn an_address_in_another_form_is_what_it_is() {
        let edges = RANGES_V4.iter().flat_map(|(base, length, _)| {
            let (first, size) = (u32::from_be_bytes(*base), u32::MAX.checked_shr((*length).into()).unwrap_or(0));
            [first, first | size, first.wrapping_sub(1), (first | size).wrapping_add(1), first | (size / 2)]
        });
        let some = addresses().take(20_000).map(|bits| bits as u32);
        for inner in edges.chain(some).chain(METADATA_V4.map(u32::from)).map(Ipv4Addr::from) {
            let own = place_v4(inner);
            for form in forms(inner) {
                assert_eq!(place_v6(form), own, "{form} of {inner}");
            }
            // Neither the oldest form nor a tunnel on one's own link is public, whatever it leads to.
            let bits = u128::from(u32::from(inner));
            for refused in [bits, 0xfe80 << 112 | 0x5efe << 32 | bits, 0xfc00 << 112 | 0x5efe << 32 | bits] {
                assert!(place_v6(Ipv6Addr::from(refused)).is_some(), "{}", Ipv6Addr::from(refused));
            }
        }
    }

    #[test]
    fn what_the_standard_library_knows_is_known_here() {
        for bits in addresses().take(50_000) {
            let v4 = Ipv4Addr::from(bits as u32);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
                assert!(place_v4(v4).is_some(), "{v4}");
            }
            let v6 = Ipv6Addr::from(u128::from(bits) << 80 | u128::from(bits));
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback() {
                assert!(place_v6(v6).is_some(), "{v6}");
            }
            let public = u128::from(v6) >> 125 == 1;
            assert!(public || place_v6(v6).is_some() || embedded(v6).is_some(), "{v6}");
        }
    }
}
