//! Names of hosts, and the addresses that they have.
//!
//! Looked up for every connection anew; what the answer is checked for, and what is then connected to, is the same list.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Look-ups at once: each has a thread, and one for a slow server holds it long.
const LOOKUPS: usize = 32;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 16;

pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What knows the addresses of names.
pub trait Names: Send + Sync {
    fn look_up(&self, host: &str) -> Lookup;
}

/// The system's own: its files, its name servers.
pub struct System {
    turns: Arc<Semaphore>,
}

impl Default for System {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Names for System {
    fn look_up(&self, host: &str) -> Lookup {
        let (turns, host) = (self.turns.clone(), host.to_owned());
        Box::pin(async move {
            let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
            // Whoever asked may go away; the thread that looks does not, and holds its turn until then.
            let looking = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host, 0)).await.map(|found| found.map(|it| it.ip()).collect());
                drop(turn);
                found
            });
            looking.await.map_err(io::Error::other)?
        })
    }
}

/// The addresses of a host, IPv6 and IPv4 by turns, as [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305) has it.
pub async fn addresses(names: &dyn Names, host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for address in names.look_up(host).await? {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    let first_is_v6 = found.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut sorted = Vec::new();
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while sorted.len() < ADDRESSES {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            break;
        }
        sorted.extend(pair.into_iter().flatten());
    }
    match sorted.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "nobody knows it")),
        false => Ok(sorted),
    }
}
