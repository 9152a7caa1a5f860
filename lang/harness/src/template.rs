//! A language runtime at its fork point, and the forks of it.

use crate::instance::{Instance, invocation};
use crate::{Place, Slot, place};
use cfork::protocol::{self, Kind};
use interconnect::channel::Channel;
use os::process;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The longest body of the channels made here.
const BODY_MAX: usize = 6 * 1024 * 1024 + 4096;

/// A started template.
pub struct Template {
    process: RefCell<Child>,
    control: OwnedFd,
    place: Place,
    slots: Cell<u64>,
    /// What it said at its fork point.
    pub report: Value,
    /// How many threads it had there, as its runtime counted.
    pub threads: u32,
}

impl Template {
    /// Starts `command` as a template and waits until it is at its fork point.
    pub fn start(mut command: Command, place: Place, config: &Value, code: Option<&Path>) -> io::Result<Self> {
        // A child's maker ends at once; the child is then ours, as it is the init process's in a sandbox.
        // SAFETY: integers only.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        let (control, theirs) = os::seqpacket::pair()?;
        let (runtime, code) = (place.folder(), code.map(Path::to_owned));
        // SAFETY: between fork and exec this process has one thread; the C library's fork has left its allocator usable.
        unsafe {
            command.stdin(Stdio::null()).current_dir("/").pre_exec(move || {
                place::furnish(&runtime, code.as_deref())?;
                place::become_function()?;
                place::keep_nothing(4)?;
                process::place(&theirs, protocol::CONTROL)
            });
        }
        let process = command.spawn()?;
        protocol::send(&control, Kind::Configure, 0, 0, 0, config.to_string().as_bytes(), &[])?;
        let gone = || io::Error::other("the template has ended before its fork point");
        let ready = protocol::receive(&control, &mut Vec::new())?.ok_or_else(gone)?;
        let report = serde_json::from_slice(&ready.payload)?;
        let (process, slots) = (RefCell::new(process), Cell::new(0));
        Ok(Self { process, control, place, slots, report, threads: ready.header.flags })
    }

    /// A slot for a child of this template, in which a forker waits.
    pub fn slot(&self) -> io::Result<Slot> {
        let id = self.slots.replace(self.slots.get() + 1);
        let (forker, theirs) = os::seqpacket::pair()?;
        let slot = Slot::new(&self.place.folder(), id, forker)?;
        let inner = slot.process();
        protocol::send(&self.control, Kind::Enter, 0, id, 0, &[], &[inner.as_fd(), theirs.as_fd()])?;
        drop(inner);
        match self.answer(Kind::Entered, id)? {
            0 => Ok(slot),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    fn answer(&self, kind: Kind, id: u64) -> io::Result<i32> {
        let gone = || io::Error::other("the template has ended");
        let answer = protocol::receive(&self.control, &mut Vec::new())?.ok_or_else(gone)?;
        assert_eq!((answer.header.kind, answer.header.id), (kind as u32, id), "an answer to this question");
        i32::try_from(answer.header.value).map_err(io::Error::other)
    }

    /// Forks into a slot made for it. Without an event the child is a stem: it has nothing to serve yet.
    pub fn fork(&self, config: Option<&Value>, code: Option<&Path>, event: Option<&str>) -> io::Result<Instance> {
        self.fork_into(self.slot()?, config, code, event)
    }

    /// As [`Template::fork`], with the slot made beforehand.
    pub fn fork_into(
        &self,
        slot: Slot,
        config: Option<&Value>,
        code: Option<&Path>,
        event: Option<&str>,
    ) -> io::Result<Instance> {
        let code = code.map(os::mount::detached).transpose()?;
        let config = config.map(Value::to_string).unwrap_or_default();
        let (log, log_writer) = io::pipe()?;
        let decided = os::monotonic_ns();
        let (mut channel, theirs) = Channel::create(BODY_MAX).map_err(io::Error::other)?;
        if let Some(event) = event {
            let head = invocation("request-1", 3000);
            channel.sender.send(cfork::invocation::INVOKE, &head, event.as_bytes()).map_err(io::Error::other)?;
        }
        let mut descriptors = vec![theirs.region.as_fd(), theirs.down.as_fd(), theirs.up.as_fd(), log_writer.as_fd()];
        descriptors.extend(code.iter().map(AsFd::as_fd));
        let flags = u32::from(code.is_some());
        protocol::send(slot.forker(), Kind::Fork, flags, slot.id(), 0, config.as_bytes(), &descriptors)?;
        drop(descriptors);
        match self.answer(Kind::Forked, slot.id())? {
            pid @ 1.. => Instance::new(slot, channel, log, pid, decided),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// The template's process.
    pub fn pid(&self) -> i32 {
        self.process.borrow().id() as i32
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let mut process = self.process.borrow_mut();
        let _ = process.kill();
        let _ = process.wait();
    }
}
