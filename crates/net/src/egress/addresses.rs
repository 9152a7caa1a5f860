//! Which addresses are whose.
//!
//! ```text
//! slot   240.0.0.2 …            of the class that nobody routes: only the router and the slot ever see it
//! uplink 100.64.255.0/31 …      two addresses, of the space between providers and customers; seen on the host
//! ```

use crate::netlink::route::Prefix;
use std::net::Ipv4Addr;

/// What slots call their gateway. It is nobody's address: slots do not ask for hardware addresses.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
/// Slots that are told apart. Numbers come again after that many, when the first have long been gone.
const SLOTS: u32 = 1 << 27;
/// Slots' devices are numbered from here on, above those that the kernel numbers itself.
const FIRST_INDEX: u32 = 1000;
/// Shorter routes lead to everything, whatever they are called.
const DEFAULT_LEN: u8 = 8;
/// Where pairs are taken from: the /16 networks of 100.64.0.0/10, then those for measuring networks.
const BLOCKS: u32 = 66;
const PAIRS_PER_BLOCK: u32 = 128;

/// One slot, as the router sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub address: Ipv4Addr,
    pub link: String,
    pub index: u32,
}

impl Slot {
    pub fn number(made: u32) -> Self {
        let number = made % SLOTS;
        Self {
            address: Ipv4Addr::from_bits(GATEWAY.to_bits() + 1 + number),
            link: format!("s{number}"),
            index: FIRST_INDEX + number,
        }
    }
}

/// The way between the router and the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The host's device, and its packet filter.
    pub name: String,
    pub host: Ipv4Addr,
    pub router: Ipv4Addr,
}

impl Uplink {
    pub const PREFIX: &str = "lichen";

    fn number(number: u32) -> Self {
        let (block, pair) = (number % BLOCKS, number / BLOCKS);
        let [first, second] = if block < 64 { [100, 64 + block as u8] } else { [198, 18 + (block - 64) as u8] };
        let last = (pair * 2) as u8;
        Self {
            name: format!("{}{number}", Self::PREFIX),
            host: Ipv4Addr::new(first, second, 255, last),
            router: Ipv4Addr::new(first, second, 255, last + 1),
        }
    }

    /// Both addresses.
    pub fn pair(&self) -> Prefix {
        Prefix { address: self.host, len: 31 }
    }

    /// Those whose addresses no route of the host concerns.
    pub fn free(routes: &[Prefix]) -> impl Iterator<Item = Self> {
        let taken =
            |uplink: &Self| routes.iter().any(|route| route.len >= DEFAULT_LEN && route.overlaps(uplink.pair()));
        (0..BLOCKS * PAIRS_PER_BLOCK).map(Self::number).filter(move |uplink| !taken(uplink))
    }
}

/// Whether a device of the calling thread's network namespace is an uplink of a worker that lives: uplinks go with them.
pub fn is_uplink(name: &str) -> bool {
    name.strip_prefix(Uplink::PREFIX).is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_differ_and_stay_in_their_class() {
        let (first, last) = (Slot::number(0), Slot::number(SLOTS - 1));
        assert_eq!((first.address, first.link.as_str()), (Ipv4Addr::new(240, 0, 0, 2), "s0"));
        assert!(Prefix::new([240, 0, 0, 0], 4).contains(last.address));
        assert!(last.link.len() < libc::IFNAMSIZ && last.index < i32::MAX as u32);
        assert_eq!(Slot::number(SLOTS), first);
    }

    #[test]
    fn uplinks_avoid_the_hosts_networks() {
        let first = |routes: &[Prefix]| Uplink::free(routes).next().map(|uplink| uplink.host.octets());
        assert_eq!(first(&[Prefix::ALL]), Some([100, 64, 255, 0]));
        assert_eq!(first(&[Prefix::new([100, 64, 0, 0], 16)]), Some([100, 65, 255, 0]));
        assert_eq!(first(&[Prefix::new([100, 64, 0, 0], 10)]), Some([198, 18, 255, 0]));
        assert_eq!(first(&[Prefix::new([100, 64, 0, 0], 10), Prefix::new([198, 18, 0, 0], 15)]), None);
        assert!(Uplink::free(&[]).all(|uplink| uplink.pair().contains(uplink.router)));
        assert!(is_uplink("lichen12") && !is_uplink("lichen") && !is_uplink("eth0"));
    }
}
