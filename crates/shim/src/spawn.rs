//! Programs that are started for processes of any PU, and attached from their birth.
//!
//! A program gets one descriptor beside its standard ones, its connection, and `LICHEN_XPU_FD` says which. It runs as the
//! shim's user, with no way to gain a privilege, with nothing of the shim's environment; it ends with the shim.

use crate::poller::{Name, READ};
use crate::protocol::call::StartError;
use crate::protocol::{Input, Program, Quota};
use crate::shim::{Child, Shim};
use os::{child, pidfd, seqpacket};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use xpucall::id::XpuPid;
use xpucall::process::INHERITED;

impl Shim {
    /// Starts a program as the process `pid`, for the process `by`, which may be on another PU: its children are counted
    /// where they run.
    pub(crate) fn start(&mut self, pid: XpuPid, by: XpuPid, program: &Program) {
        let siblings = self.children.values().filter(|child| child.by == by).count();
        if siblings >= self.config.quotas.platform.children as usize {
            return self.inputs.push_back(Input::Started { pid, result: Err(StartError::Refused) });
        }
        let result = match self.try_start(pid, by, program) {
            Ok(()) => {
                let quota = self.config.quotas.platform;
                Ok(Quota { fifos: quota.fifos, ends: quota.ends })
            }
            Err(error) => Err(StartError::Os(error.raw_os_error().unwrap_or(libc_inval()))),
        };
        self.inputs.push_back(Input::Started { pid, result });
    }

    fn try_start(&mut self, pid: XpuPid, by: XpuPid, program: &Program) -> io::Result<()> {
        let (ours, theirs) = seqpacket::pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let process = command(program, theirs).spawn()?;
        let number = self.number();
        let death = pidfd::open(process.id() as i32)?;
        self.poller.add(&death, Name::Child(number), READ)?;
        self.children.insert(number, Child { pid, by, process, death });
        self.stranger(ours, Some(pid));
        Ok(())
    }

    /// A program that this shim has started has ended.
    pub(crate) fn reap(&mut self, number: u64) {
        let Some(mut child) = self.children.remove(&number) else { return };
        self.poller.remove(&child.death);
        let _ = child.process.wait();
        self.forget_child(child.pid);
    }

    /// What is attached as a child is no more, or never will be.
    fn forget_child(&mut self, pid: XpuPid) {
        if let Some(at) = self.strangers.iter().position(|stranger| stranger.child == Some(pid))
            && let Some(stranger) = self.strangers.remove(at)
        {
            self.poller.remove(&stranger.socket);
        }
        match self.by_pid.get(&pid) {
            Some(&key) => self.detach(key, xpucall::abi::ended::NOT),
            None => self.inputs.push_back(Input::Gone { pid }),
        }
    }

    /// Ends all programs that this shim has started.
    pub(crate) fn end_children(&mut self) {
        for (_, mut child) in self.children.drain() {
            self.poller.remove(&child.death);
            // One that has ended already is reaped all the same.
            let _ = child.process.kill();
            let _ = child.process.wait();
            self.strangers.retain(|stranger| stranger.child != Some(child.pid));
        }
    }
}

fn libc_inval() -> i32 {
    rustix::io::Errno::INVAL.raw_os_error()
}

fn command(program: &Program, connection: OwnedFd) -> Command {
    let text = |bytes: &Vec<u8>| OsString::from_vec(bytes.clone());
    let mut command = Command::new(OsStr::from_bytes(&program.path));
    let mut arguments = program.argv.iter();
    if let Some(name) = arguments.next() {
        command.arg0(text(name));
    }
    command.args(arguments.map(text)).env_clear();
    for variable in &program.envp {
        let mut parts = variable.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !name.is_empty() {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
    }
    command.env(INHERITED, child::FIRST_DESCRIPTOR.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    child::hand_over(&mut command, vec![connection]);
    child::end_with_parent(&mut command);
    child::gain_nothing(&mut command);
    command
}
