//! User and group id maps of user namespaces.

use std::fs;
use std::io;

/// `count` ids from `inside` on, as the new namespace sees them, are those from `outside` on of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Writes both maps of the user namespace in which `pid` is. The caller must hold CAP_SETUID and CAP_SETGID in its
/// parent, or map only its own ids; then `setgroups` must be given up first, which `alone` asks for.
pub fn write(pid: i32, uids: &[Range], gids: &[Range], alone: bool) -> io::Result<()> {
    let text = |ranges: &[Range]| {
        ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect::<String>()
    };
    fs::write(format!("/proc/{pid}/uid_map"), text(uids))?;
    if alone {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/gid_map"), text(gids))
}
