//! Control groups: whether this user may make them, and which resources they limit.

use super::{Check, is_root};
use std::fs;
use std::path::Path;

pub fn checks() -> Vec<Check> {
    vec![limits(), disk()]
}

fn limits() -> Check {
    const BRINGS: &str = "limits on the memory, the processor time and the processes of every instance";
    match os::cgroup::Tree::create() {
        Ok(_) => Check::ok("cgroups", BRINGS, format!("memory, cpu and pids, {}", version())),
        Err(error) => Check::lacking("cgroups", BRINGS, error.to_string(), remedy()),
    }
}

fn version() -> &'static str {
    if unified() { "version 2" } else { "version 1" }
}

/// Whether one hierarchy has all controllers.
fn unified() -> bool {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    !table.lines().any(|line| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|n| n == "memory")))
}

fn remedy() -> &'static str {
    if is_root() {
        "boot with the controllers enabled (cgroup_enable=memory), and mount them below /sys/fs/cgroup"
    } else if unified() && Path::new("/run/systemd/system").is_dir() {
        "systemd-run --user --scope -p Delegate=yes lichen serve"
    } else {
        "sudo lichen serve"
    }
}

fn disk() -> Check {
    const BRINGS: &str = "limits on what instances read from and write to disks";
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let v2 = controllers.split_whitespace().any(|controller| controller == "io");
    if v2 || Path::new("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device").exists() {
        return Check::ok("disk limits", BRINGS, if v2 { "io controller" } else { "blkio controller" });
    }
    let remedy = "use a kernel with CONFIG_BLK_DEV_THROTTLING and the io controller enabled";
    Check::lacking("disk limits", BRINGS, "no io controller", remedy)
}
