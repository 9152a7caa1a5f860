//! From a target to a connection: its name looked up, each address checked, connected to by turns, TLS agreed on.
//!
//! The address that is checked is the address that is connected to: no name is looked up twice.

use crate::failure::Failure;
use crate::names::{self, Names};
use crate::policy::{Denial, Ground, Policy};
use crate::request::{Target, Version};
use crate::tls::Tls;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// How long an address has before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection, and what is spoken on it.
pub enum Connection {
    Plain(TcpStream),
    /// Whether the other side took HTTP/2.
    Tls(Box<TlsStream<TcpStream>>, bool),
}

/// What connecting asks.
pub struct Connector {
    pub policy: Policy,
    pub names: Box<dyn Names>,
    pub tls: Tls,
    pub patience: Duration,
}

impl Connector {
    pub async fn connect(&self, target: &Target, version: Version) -> Result<Connection, Failure> {
        let (host, port) = (target.host.as_str(), target.port);
        let late = || Failure::ConnectTimeout { host: host.to_owned(), port, patience: self.patience };
        timeout(self.patience, self.connect_at_leisure(target, version)).await.map_err(|_| late())?
    }

    async fn connect_at_leisure(&self, target: &Target, version: Version) -> Result<Connection, Failure> {
        let (host, port) = (target.host.as_str(), target.port);
        let addresses = self.reachable(host, port).await?;
        let unreachable = |source| Failure::Connect { host: host.to_owned(), port, source };
        let stream = first_of(addresses).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        if !target.https {
            return Ok(Connection::Plain(stream));
        }
        let agreed = self.tls.agree(stream, host, version).await;
        let stream = agreed.map_err(|source| Failure::Tls { host: host.to_owned(), source })?;
        let is_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connection::Tls(Box::new(stream), is_two))
    }

    /// The addresses of a host that may be connected to; the reason where none may.
    async fn reachable(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        self.policy.check_host(host, port)?;
        let found = names::addresses(&*self.names, host).await;
        let found = found.map_err(|source| Failure::Resolve { host: host.to_owned(), source })?;
        let (mut allowed, mut denial) = (Vec::new(), None);
        for address in found {
            match self.check(host, address, port) {
                Ok(()) => allowed.push(SocketAddr::new(address, port)),
                Err(why) => denial = denial.or(Some(why)),
            }
        }
        match denial {
            Some(denial) if allowed.is_empty() => Err(denial.into()),
            _ => Ok(allowed),
        }
    }

    fn check(&self, host: &str, address: IpAddr, port: u16) -> Result<(), Denial> {
        match self.policy.check(host, address, port)? {
            Ground::Public if is_own(address) => Err(Denial::Own(host.to_owned())),
            Ground::Public | Ground::Named => Ok(()),
        }
    }
}

/// Whether an address is this machine's: then what is sent there comes from there. Asks the routes, and sends nothing.
fn is_own(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    source().is_ok_and(|source| source.ip() == address)
}

/// The first connection that comes about; the first reason where none does.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut under_way = JoinSet::new();
    let mut failed = None;
    loop {
        let has_more = match waiting.next() {
            Some(address) => {
                under_way.spawn(TcpStream::connect(address));
                true
            }
            None => false,
        };
        let next = if has_more && waiting.len() > 0 {
            match timeout(HEAD_START, under_way.join_next()).await {
                Ok(next) => next,
                Err(_) => continue,
            }
        } else {
            under_way.join_next().await
        };
        match next {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failed = failed.or(Some(error)),
            Some(Err(error)) => failed = failed.or(Some(io::Error::other(error))),
            None => return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
        }
    }
}
