//! Blocks of addresses, as rules write them.

use std::fmt;
use std::net::IpAddr;

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    len: u8,
}

impl Cidr {
    /// None where the length is more than the address has. Bits that do not count are cleared.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(len.into())?).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(len.into())?).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Some(Self { address, len })
    }

    /// One address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// `ADDRESS` or `ADDRESS/LEN`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => Some(Self::host(text.parse().ok()?)),
            Some((address, len)) => Self::new(address.parse().ok()?, len.parse().ok()?),
        }
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// The first and the last of its addresses, as numbers.
    pub(super) fn span(self) -> (u128, u128) {
        match self.address {
            IpAddr::V4(v4) => {
                let first = v4.to_bits();
                (first.into(), (first | u32::MAX.checked_shr(self.len.into()).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                let first = v6.to_bits();
                (first, first | u128::MAX.checked_shr(self.len.into()).unwrap_or(0))
            }
        }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let (first, last) = self.span();
        let (at, _) = Self::host(address).span();
        self.is_ipv4() == address.is_ipv4() && (first..=last).contains(&at)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", self.address, self.len)
    }
}
