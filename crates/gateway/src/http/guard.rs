//! Keeps web pages out: a browser on this machine reaches whatever listens on it, on behalf of any page it shows.
//!
//! Two ways in, two checks. A page sends a request across origins: browsers say so in `Origin`. A page's own name is made
//! to mean this machine (DNS rebinding): then `Host` is that name. Programs send no `Origin`, and call the node by address.
//!
//! Function URLs are meant for web pages, and decide about origins themselves; only the second check is theirs. Probes
//! may call the node whatever they like.

use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};
use std::net::IpAddr;
use thiserror::Error;

/// Why a request is not for this node to answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error(
        "This node listens on this machine only, and is not known as {host:?}. Call it by address or as localhost, or add the name to `hosts` in [http] of lichen.toml."
    )]
    UnknownHost { host: String },
    #[error("Requests that a web page of {origin:?} sends across origins are not answered.")]
    CrossOrigin { origin: String },
}

/// Whom an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Programs, and pages that come from this node itself.
    Programs,
    /// Web pages of whatever origin too.
    Pages,
    /// Everybody, by whatever name they know this node.
    Anybody,
}

/// Tells who may call.
pub struct Guard {
    /// Whether the node listens on this machine only, where nobody but its users can mean to call it.
    local: bool,
    hosts: Vec<String>,
}

impl Guard {
    pub fn new(local: bool, hosts: &[String]) -> Self {
        Self { local, hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Whether a request may ask for what is for `callers`.
    pub fn check(&self, headers: &HeaderMap, callers: Callers) -> Result<(), Refusal> {
        if callers == Callers::Anybody {
            return Ok(());
        }
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let host = text(HOST).unwrap_or_default();
        if self.local && !self.knows(name_of(&host)) {
            return Err(Refusal::UnknownHost { host: host.into_owned() });
        }
        match text(ORIGIN) {
            Some(origin) if callers == Callers::Programs && !is_same(&origin, &host) => {
                Err(Refusal::CrossOrigin { origin: origin.into_owned() })
            }
            _ => Ok(()),
        }
    }

    fn knows(&self, name: &str) -> bool {
        let is_localhost = |name: &str| name.eq_ignore_ascii_case("localhost");
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        // HTTP/1.0 has no Host, and browsers do not speak it.
        name.is_empty()
            || is_localhost(last)
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|host| is_below(name, host))
    }
}

/// Whether a name is this host's, or of one below it: function URLs have names there.
fn is_below(name: &str, host: &str) -> bool {
    let Some(at) = name.len().checked_sub(host.len()) else { return false };
    let same = name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(host));
    same && (at == 0 || name[..at].ends_with('.'))
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, host: &str, origin: Option<&str>, callers: Callers) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        guard.check(&headers, callers).is_ok()
    }

    #[test]
    fn names_that_mean_another_machine_are_refused_where_only_this_one_can_call() {
        let guard = Guard::new(true, &["Build.Example".to_owned()]);
        let known =
            ["127.0.0.1:9000", "localhost", "LOCALHOST:1", "f.localhost:9000", "[::1]:9000", "build.example:80"];
        for host in known.into_iter().chain(["id.lambda-url.us-east-1.build.example"]) {
            assert!(check(&guard, host, None, Callers::Programs), "{host}");
        }
        for host in ["evil.example:9000", "localhost.evil.example", "127.0.0.1.evil.example", "rebuild.example"] {
            assert!(!check(&guard, host, None, Callers::Programs), "{host}");
            assert!(!check(&guard, host, None, Callers::Pages), "{host}");
            assert!(check(&guard, host, None, Callers::Anybody), "{host}");
            assert!(check(&Guard::new(false, &[]), host, None, Callers::Programs), "{host}");
        }
        assert!(guard.check(&HeaderMap::new(), Callers::Programs).is_ok());
    }

    #[test]
    fn other_origins_reach_function_urls_only() {
        let guard = Guard::new(true, &[]);
        for origin in ["http://evil.example", "null", "http://localhost:3000"] {
            assert!(!check(&guard, "localhost:9000", Some(origin), Callers::Programs), "{origin}");
            assert!(check(&guard, "localhost:9000", Some(origin), Callers::Pages), "{origin}");
        }
        assert!(check(&guard, "localhost:9000", Some("http://localhost:9000"), Callers::Programs));
    }
}
