//! Probes that change the process they run in.

use super::engines;
use anyhow::Context;
use clap::ValueEnum;
use engine::Kind;
use os::idmap::Range;
use os::ns::{self, Kinds};
use std::path::Path;
use std::process::Command;

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// All seven namespaces, and a mount within.
    Namespaces,
    /// A way out for functions, from a network of the probe's own.
    Egress,
    /// One network for several namespaces.
    Split,
    /// Sockets that the kernel joins, as programs see them.
    Relay,
    /// An engine of this kind.
    Wasm,
    Process,
    Kvm,
}

impl Probe {
    /// Tries it in a process of its own; why it does not work, if it does not.
    pub fn attempt(self) -> Result<(), String> {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let output = Command::new("/proc/self/exe").args(["doctor", "--probe", &name]).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace("lichen: ", "")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Tries it in this process.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Namespaces => namespaces(),
            Self::Egress => Ok(net::egress::rehearse()?),
            Self::Split => Ok(net::split::rehearse()?),
            Self::Relay => relay(),
            Self::Wasm => engines::rehearse(Kind::Wasm),
            Self::Process => engines::rehearse(Kind::Process),
            Self::Kvm => engines::rehearse(Kind::Kvm),
        }
    }
}

/// All that is different for programs, in one line.
fn relay() -> anyhow::Result<()> {
    net::relay::rehearse().map_err(|flaws| {
        let all: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", all.join("; "))
    })
}

/// As a worker does: a user namespace where this user is root, the others within, and a mount there.
fn namespaces() -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    ns::unshare(Kinds::USER).context("user namespaces cannot be made")?;
    let own = |outside| [Range { inside: 0, outside, count: 1 }];
    os::idmap::write(std::process::id() as i32, &own(uid), &own(gid), true).context("user ids cannot be mapped")?;
    ns::unshare(Kinds::ALL).context("namespaces cannot be made")?;
    os::mount::make_private().context("mounts cannot be made private")?;
    os::mount::tmpfs(Path::new("/tmp"), 1 << 20, 0o1777, false).context("a file system cannot be mounted")
}
