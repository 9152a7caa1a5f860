//! The listening socket. The supervisor holds it, so that a gateway that is replaced refuses no connection.

use crate::verdict::wrong;
use anyhow::Context;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted: bursts are the normal case here.
const BACKLOG: i32 = 4096;

/// Binds, or says in one sentence why not and what to do.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => wrong(format!(
            "cannot listen on {address}: the port is in use (`ss -ltnp 'sport = :{}'` shows by whom): end that program, or choose another port with --listen",
            address.port()
        )),
        ErrorKind::PermissionDenied => wrong(format!(
            "cannot listen on {address}: ports below 1024 need the right to them: choose another with --listen, or run as root"
        )),
        ErrorKind::AddrNotAvailable => {
            wrong(format!("cannot listen on {address}: this machine has no such address: see `ip address`"))
        }
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })?;
    rustix::net::listen(&listener, BACKLOG).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener)
}

/// The URL by which this machine reaches a socket that listens there.
pub fn endpoint(address: SocketAddr) -> String {
    let reachable = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    format!("http://{}", SocketAddr::new(reachable, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_explained() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusal = bind(first.local_addr().unwrap()).unwrap_err().to_string();
        assert!(refusal.contains("is in use") && refusal.contains("--listen"), "{refusal}");
    }

    #[test]
    fn endpoints_can_be_reached() {
        for (address, url) in [
            ("127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("10.1.2.3:1", "http://10.1.2.3:1"),
        ] {
            assert_eq!(endpoint(address.parse().unwrap()), url);
        }
    }
}
