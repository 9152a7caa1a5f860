//! A half's switches (sysctl): what they were is kept, so that they can be put back.

use super::plan::Side;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The kernel tells a list at once, or only its beginning.
const VALUE_MAX: usize = 1 << 18;
const SWITCHES: &str = "/proc/sys/net";
pub const FORWARD_V4: &str = "ipv4/ip_forward";
/// Ports that the kernel does not choose by itself.
pub const RESERVED: &str = "ipv4/ip_local_reserved_ports";

/// A switch, by its path below `net`, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    pub switch: String,
    pub value: String,
}

/// Of the whole half. They are put back when its network ends.
pub fn of_half(side: &Side) -> Vec<(String, String)> {
    let (first, last) = (side.chosen.start(), side.chosen.end());
    vec![
        (FORWARD_V4.to_owned(), "1".to_owned()),
        ("ipv6/conf/all/forwarding".to_owned(), "1".to_owned()),
        // The greater of this and a device's own counts: devices keep theirs.
        ("ipv4/conf/all/rp_filter".to_owned(), "0".to_owned()),
        // What another half has sent to a socket that hears its loopback alone comes by it from elsewhere.
        ("ipv4/conf/lo/route_localnet".to_owned(), "1".to_owned()),
        ("ipv4/conf/lo/accept_local".to_owned(), "1".to_owned()),
        ("ipv4/ip_local_port_range".to_owned(), format!("{first}\t{last}")),
        // Its connections have more ends than names.
        ("mptcp/enabled".to_owned(), "0".to_owned()),
    ]
}

/// Of a link, with which they go. Loopback addresses may be at its other end, and so are our own. A half that has IPv6 has it
/// there, whatever it says of devices that come.
pub fn of_link(link: &str, ipv6: bool) -> Vec<(String, String)> {
    let v4 = [("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")];
    let v4 = v4.map(|(switch, value)| (format!("ipv4/conf/{link}/{switch}"), value.to_owned()));
    let v6 = ipv6.then(|| (format!("ipv6/conf/{link}/disable_ipv6"), "0".to_owned()));
    v4.into_iter().chain(v6).collect()
}

/// What the switch says where the calling thread stands; nothing where there is no such switch.
pub fn get(switch: &str) -> io::Result<Option<String>> {
    let mut value = vec![0; VALUE_MAX];
    match File::open(path(switch)).and_then(|mut file| file.read(&mut value)) {
        Ok(len) => Ok(Some(String::from_utf8_lossy(&value[..len]).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a switch, if there is such a one.
pub fn set(switch: &str, value: &str) -> io::Result<()> {
    // Nothing would be written of a value that is empty.
    match fs::write(path(switch), format!("{value}\n")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Whether there is IPv6 where the calling thread stands.
pub fn has_ipv6() -> bool {
    get("ipv6/conf/lo/disable_ipv6").is_ok_and(|off| off.as_deref() == Some("0"))
}

fn path(switch: &str) -> PathBuf {
    Path::new(SWITCHES).join(switch)
}
