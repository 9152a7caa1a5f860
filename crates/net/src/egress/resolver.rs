//! The name servers that sandboxes ask.
//!
//! The host's own, unless they are reached by its loopback: then those that its resolver asks in turn, where systemd or
//! NetworkManager say which. They are read once: a sandbox keeps the name servers of its template's time.

use std::fs;
use std::net::Ipv4Addr;

/// In the order in which they are believed.
const FILES: [&str; 3] =
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

/// What a sandbox is told of name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// For its `/etc/resolv.conf`.
    pub text: String,
    /// Empty if the host has none that a sandbox can reach.
    pub servers: Vec<Ipv4Addr>,
}

impl Resolver {
    pub fn of_this_host() -> Self {
        let mut found = FILES.iter().filter_map(|path| fs::read_to_string(path).ok()).map(|text| Self::read(&text));
        found.find(|resolver| !resolver.servers.is_empty()).unwrap_or_default()
    }

    /// Leaves out the name servers that a sandbox cannot reach.
    fn read(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() == Some("nameserver") {
                let server = words.next().and_then(|word| word.parse().ok());
                let Some(server) = server.filter(|server: &Ipv4Addr| !server.is_loopback()) else { continue };
                resolver.servers.push(server);
            }
            resolver.text.push_str(line);
            resolver.text.push('\n');
        }
        resolver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_loopback_and_of_ipv6_are_left_out() {
        let resolver =
            Resolver::read("# by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\nsearch a.b\n");
        assert_eq!(resolver.servers, [Ipv4Addr::new(10, 0, 0, 2)]);
        assert_eq!(resolver.text, "# by hand\nnameserver 10.0.0.2\nsearch a.b\n");
        assert!(Resolver::read("nameserver 127.0.0.1\nnameserver\n").servers.is_empty());
    }
}
