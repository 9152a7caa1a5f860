//! `[remote]`: where other machines reach this node to be processing units of it.
//!
//! Who may is a matter of tokens and certificates: `interconnect::link::tcp`. Nothing listens where no `[[pu]]` is remote.

use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remote {
    /// PU number n is waited for at this port plus n.
    pub listen: SocketAddr,
    /// What carries the work of remote PUs beside the links that they come by: a provider of libfabric; "" for nothing.
    pub fabric: String,
}

impl Default for Remote {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::UNSPECIFIED, 9700).into(), fabric: String::new() }
    }
}

impl Remote {
    /// Where the PU of this number is waited for; nothing where there is no such port.
    pub fn address(&self, pu: u8) -> Option<SocketAddr> {
        let port = self.listen.port().checked_add(pu.into())?;
        Some((self.listen.ip(), port).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pu_has_a_port() {
        let remote = Remote::default();
        assert_eq!(remote.address(2), Some("0.0.0.0:9702".parse().unwrap()));
        assert_eq!(Remote { listen: "[::1]:65535".parse().unwrap(), ..remote }.address(1), None);
    }
}
