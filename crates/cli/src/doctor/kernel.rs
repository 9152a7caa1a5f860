//! The kernel and what it lets this user do.

use super::{Check, Probe, is_root};
use std::fs;

/// The oldest kernel that has all that Lichen uses.
const OLDEST: (u32, u32) = (5, 15);

pub fn checks() -> Vec<Check> {
    vec![version(), rights(), namespaces(), egress(), split(), relay(), seccomp(), pidfd(), memfd(), userfaultfd()]
}

fn version() -> Check {
    const BRINGS: &str = "everything";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match parse(&release) {
        Some(version) if version >= OLDEST => Check::ok("kernel", BRINGS, format!("Linux {release}")),
        _ => {
            let (major, minor) = OLDEST;
            let remedy = format!("upgrade to Linux {major}.{minor} or later");
            Check::lacking("kernel", BRINGS, format!("Linux {release}"), remedy).missing()
        }
    }
}

fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn rights() -> Check {
    const BRINGS: &str = "users of its own for every sandbox, network = \"egress\", limits wherever there are cgroups";
    if is_root() {
        return Check::ok("root", BRINGS, "yes");
    }
    let found = "an ordinary user: sandboxes share this user's id, and have no network but their own loopback";
    Check::lacking("root", BRINGS, found, "sudo lichen serve")
}

fn namespaces() -> Check {
    const BRINGS: &str =
        "isolation: users, processes, mounts, network, host name, IPC, cgroups of its own per instance";
    match Probe::Namespaces.attempt() {
        Ok(()) => Check::ok("namespaces", BRINGS, "all seven can be made"),
        Err(reason) => Check::lacking("namespaces", BRINGS, reason, namespaces_remedy()).missing(),
    }
}

/// Three switches of three makers of distributions, each of which forbids them to ordinary users, and one for everybody.
fn namespaces_remedy() -> String {
    let switches = [
        ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=65536"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let thrown = switches.into_iter().find(|(path, value, _)| is(path, value));
    thrown
        .map_or("in a container: start it with the right to make namespaces (docker run --privileged)", |s| s.2)
        .to_owned()
}

fn egress() -> Check {
    const BRINGS: &str = "network = \"egress\" (as root): functions that reach other machines, and nothing of this one";
    const THERE: &str = "a network with address translation can be made";
    const REMEDY: &str =
        "use a kernel with nf_tables (CONFIG_NFT_MASQ, CONFIG_NFT_REJECT, CONFIG_NFT_FIB_IPV4) and veth";
    roots("egress", BRINGS, Probe::Egress, THERE, REMEDY)
}

fn split() -> Check {
    const BRINGS: &str = "lichen net, lichen-cni (as root): one network for namespaces on several processing units";
    const THERE: &str = "ports can be claimed, and packets filtered";
    const REMEDY: &str =
        "apt install nftables; Linux 5.18 with CONFIG_CGROUP_BPF and nf_tables, and a cgroup2 file system";
    roots("split", BRINGS, Probe::Split, THERE, REMEDY)
}

fn relay() -> Check {
    const BRINGS: &str = "TCP without the network between two sockets of this machine (sockmap), for programs without the library; \
                          a node does not use it";
    const THERE: &str = "programs do not notice";
    const REMEDY: &str = "a kernel that has none of these; nothing needs it";
    roots("sockmap", BRINGS, Probe::Relay, THERE, REMEDY)
}

/// What only root can do, and try.
fn roots(name: &'static str, brings: &'static str, probe: Probe, there: &str, remedy: &str) -> Check {
    if !is_root() {
        return Check::lacking(name, brings, "not tried: an ordinary user", "sudo lichen doctor");
    }
    match probe.attempt() {
        Ok(()) => Check::ok(name, brings, there),
        Err(reason) => Check::lacking(name, brings, reason, remedy),
    }
}

fn seccomp() -> Check {
    const BRINGS: &str = "a list of allowed system calls for every instance";
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        return Check::ok("seccomp", BRINGS, "filters can be installed");
    }
    Check::lacking("seccomp", BRINGS, "this kernel has no filters", "use a kernel with CONFIG_SECCOMP_FILTER").missing()
}

fn pidfd() -> Check {
    const BRINGS: &str = "processes that cannot be mistaken for others";
    match os::pidfd::open(std::process::id() as i32) {
        Ok(_) => Check::ok("pidfd", BRINGS, "processes can be held by descriptor"),
        Err(error) => Check::lacking(
            "pidfd",
            BRINGS,
            error.to_string(),
            "use a kernel that is newer, or a container that allows pidfd_open",
        )
        .missing(),
    }
}

fn memfd() -> Check {
    const BRINGS: &str = "requests and answers through memory";
    match os::memfd::sealed("lichen-doctor", 4096) {
        Ok(_) => Check::ok("memfd", BRINGS, "memory can be shared and sealed"),
        Err(error) => {
            Check::lacking("memfd", BRINGS, error.to_string(), "use a kernel with CONFIG_MEMFD_CREATE").missing()
        }
    }
}

fn userfaultfd() -> Check {
    const BRINGS: &str = "fork from another machine's memory";
    const SWITCH: &str = "/proc/sys/vm/unprivileged_userfaultfd";
    let Ok(switch) = fs::read_to_string(SWITCH) else {
        let remedy = "use a kernel with CONFIG_USERFAULTFD";
        return Check::lacking("userfaultfd", BRINGS, "this kernel has none", remedy);
    };
    let device = rustix::fs::access("/dev/userfaultfd", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
    if is_root() || switch.trim() == "1" || device.is_ok() {
        return Check::ok("userfaultfd", BRINGS, "page faults can be served");
    }
    let remedy = "sudo sysctl -w vm.unprivileged_userfaultfd=1";
    Check::lacking("userfaultfd", BRINGS, "not for ordinary users", remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse("5.15"), Some((5, 15)));
        assert_eq!(parse("linux"), None);
    }
}
