//! Devices.

use super::Check;
use rustix::fs::{Access, access};
use std::path::Path;

pub fn checks() -> Vec<Check> {
    vec![latency()]
}

fn latency() -> Check {
    const BRINGS: &str = "wake-ups ten times as fast while requests flow (latency = \"normal\", \"low\")";
    device("cpu_dma_latency", BRINGS, "/dev/cpu_dma_latency", "use a kernel with CONFIG_PM")
}

fn device(name: &'static str, brings: &'static str, path: &str, absent: &str) -> Check {
    if !Path::new(path).exists() {
        return Check::lacking(name, brings, format!("no {path}"), absent);
    }
    match access(path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Check::ok(name, brings, path),
        Err(error) => {
            let remedy = format!("sudo setfacl -m u:$USER:rw {path}");
            Check::lacking(name, brings, format!("{path}: {error}"), remedy)
        }
    }
}
