//! What whoever starts the program says to this library, by its environment.

use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where the broker listens. Without it, the library does nothing.
const BROKER: &CStr = c"LICHEN_SOCKET_BROKER";
/// Ports, by commas: a connection may get memory if one of its ends has one of these, whatever its other
/// end's address: a proxy here may answer for it. Without it: all whose ends both are here by their addresses.
const PORTS: &CStr = c"LICHEN_SOCKET_PORTS";
/// How long to look before sleeping, at most, in microseconds. Without it: for as long as is worth it here.
const LOOK: &CStr = c"LICHEN_SOCKET_LOOK_US";
/// After how many calls on it a connection is offered memory. Without it: when it has shown that it lasts.
const AFTER: &CStr = c"LICHEN_SOCKET_AFTER";
/// If it is set, what is wrong is said on the standard error, also where that is no terminal.
const LOG: &CStr = c"LICHEN_SOCKET_LOG";

#[derive(Debug)]
pub struct Settings {
    pub broker: Option<PathBuf>,
    ports: Vec<u16>,
    /// In nanoseconds.
    pub look: Option<u64>,
    pub after: Option<u32>,
    pub log: bool,
}

impl Settings {
    pub fn allows(&self, ports: [u16; 2]) -> bool {
        self.ports.is_empty() || self.names(ports)
    }

    /// Whether one of them is said by its number.
    pub fn names(&self, ports: [u16; 2]) -> bool {
        ports.iter().any(|port| self.ports.contains(port))
    }
}

/// A variable of the environment; not by `std::env`, whose lock a thread that forks may hold.
fn variable(name: &CStr) -> Option<&'static str> {
    // SAFETY: the name ends with a zero; the value is read before the program runs, or while nothing changes it.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: what getenv gives ends with a zero.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_str().ok()).flatten()
}

/// Of what is no port, none: who has wanted some is not to have all.
fn ports(text: &str) -> Vec<u16> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|port| port.trim().parse().unwrap_or(0)).collect()
}

pub fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings {
        broker: variable(BROKER).filter(|path| !path.is_empty()).map(PathBuf::from),
        ports: variable(PORTS).map_or_else(Vec::new, ports),
        look: variable(LOOK).and_then(|text| text.parse().ok()).map(|us: u64| us.saturating_mul(1000)),
        after: variable(AFTER).and_then(|text| text.parse().ok()),
        log: variable(LOG).is_some_and(|text| !text.is_empty()),
    })
}

pub fn is_on() -> bool {
    settings().broker.is_some()
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn a_list_that_is_none_allows_nothing() {
        assert_eq!((ports(""), ports(" ")), (vec![], vec![]));
        assert_eq!(ports("80, 8080"), [80, 8080]);
        assert_eq!((ports("http"), ports("80;90"), ports("80,")), (vec![0], vec![0], vec![80, 0]));
    }
}
