//! Programs whose connections with each other the kernel joins, without their knowing: a control group of their own, at which a
//! program of the kernel's sees every connection begin (`os::bpf::Relay::gather`).
//!
//! Nothing of it outlives the bench, however that ends: the kernel's programs and their table go with their descriptors, and a
//! small process that waits for the bench's end kills what is left in the group, and removes it.

use os::bpf::{Attached, Relay};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Ends that can be joined at once.
const ENDS: u32 = 1 << 16;
/// Waits for the end of its input. Groups that are being killed are busy for a moment; ones that stay so are left after five seconds.
const KEEP: &str = "trap '' INT HUP TERM; cat > /dev/null; echo 1 > \"$0/cgroup.kill\"; \
    for turn in $(seq 500); do rmdir \"$0\" 2> /dev/null && exit; sleep 0.01; done";
/// Goes into the group before it becomes the program: sockets are of the group that their maker was in.
const ENTER: &str = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";

/// A control group, and what makes the kernel join the connections of its programs.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    keeper: Child,
    _relay: Relay,
    _attached: Attached,
}

impl Group {
    pub fn new() -> io::Result<Self> {
        let root = os::bpf::groups().ok_or_else(|| io::Error::other("there is no cgroup2 file system"))?;
        let relay = Relay::new(ENDS)?;
        let folder = root.join(format!("lichen-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let keeper = shell(KEEP, folder.as_os_str()).stdin(Stdio::piped()).spawn();
        let mut keeper = keeper.inspect_err(|_| drop(fs::remove_dir(&folder)))?;
        let attached = File::open(&folder).and_then(|group| relay.gather(group));
        match attached {
            Ok(attached) => Ok(Self { folder, keeper, _relay: relay, _attached: attached }),
            Err(error) => {
                end(&mut keeper);
                Err(error)
            }
        }
    }

    /// A program of the group.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = shell(ENTER, self.folder.as_os_str());
        command.arg(program);
        command
    }
}

fn shell(text: &str, folder: &OsStr) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]).arg(folder);
    command
}

/// Has the keeper end the group.
fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    // One that was killed leaves an empty folder, and nothing else.
    let _ = keeper.wait();
}

impl Drop for Group {
    fn drop(&mut self) {
        end(&mut self.keeper);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection, by one program: how many bytes the kernel's TCP says to have received of 5,000.
    const PROGRAM: &str = "import socket\n\
        listener = socket.create_server(('127.0.0.1', 0))\n\
        one = socket.create_connection(listener.getsockname())\n\
        two = listener.accept()[0]\n\
        got = b''\n\
        one.sendall(b'x' * 5000)\n\
        while len(got) < 5000: got += two.recv(5000)\n\
        info = two.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)\n\
        print(int.from_bytes(info[128:136], 'little'))";

    #[test]
    fn programs_of_the_group_are_joined_and_it_is_gone_afterwards() {
        let Ok(group) = Group::new() else { return };
        let count = |mut command: Command| {
            let said = command.args(["-c", PROGRAM]).output().unwrap();
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        };
        assert_eq!(count(Command::new("python3")), "5000");
        assert_eq!(count(group.command("python3")), "0");
        // One that stays is ended with it.
        let mut waits = group.command("cat").stdin(Stdio::piped()).spawn().unwrap();
        let folder = group.folder.clone();
        let inside = || fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        while !inside().contains(&waits.id().to_string()) {
            std::thread::yield_now();
        }
        drop(group);
        assert!(!folder.exists());
        assert!(!waits.wait().unwrap().success());
    }
}
