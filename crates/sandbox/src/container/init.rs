//! Process 1 of a sandbox: completes it, starts the template in it, makes slots, reaps and reports.
//!
//! It is native, single-threaded, never runs a function's code and is out of the template's reach: another user, or not
//! dumpable where there is only one. When the worker is gone its socket ends, it exits, and the kernel ends everything
//! in the sandbox, slots and instances included.

use super::message::{FromInit, Ids, MakeSandbox, ToInit};
use super::nursery::Nursery;
use super::slot;
use crate::conversation::{hear, say};
use crate::spec::End;
use cfork::forkpoint::FUNCTION_ID;
use os::process::{self, Fork};
use os::seccomp::Filter;
use os::{mount, ns};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;

/// The longest order, in bytes.
const ORDER_MAX: usize = 256;
/// How much an init gives way to others.
const NICENESS: i32 = 10;

/// A step that failed, and how.
pub(super) type StepError = (&'static str, io::Error);

pub(super) fn step(name: &'static str) -> impl Fn(io::Error) -> StepError {
    move |error| (name, error)
}

/// The descriptors that come with the order to make a sandbox.
struct Belongings {
    socket: OwnedFd,
    control: OwnedFd,
    log: OwnedFd,
    code: Option<OwnedFd>,
    layers: Option<OwnedFd>,
    entrances: Vec<OwnedFd>,
}

struct Init {
    socket: OwnedFd,
    /// Where orders are received: kept, as every page that is written to anew stays with the slots forked before.
    buffer: Vec<u8>,
    children: OwnedFd,
    ids: Ids,
    template: i32,
    /// Slots by the pid of their own init.
    slots: HashMap<i32, u64>,
    /// Slots made so far: each gets a user of its own.
    made: u32,
}

/// Is the init. Returns when the sandbox is to end.
pub(super) fn run(nursery: &Nursery, order: MakeSandbox, descriptors: Vec<OwnedFd>) {
    process::set_name(c"lichen-init");
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next();
    let (Some(socket), Some(control), Some(log)) = (next(), next(), next()) else { return };
    let code = if order.has_code { next() } else { None };
    let layers = if order.has_layers { next() } else { None };
    let belongings = Belongings { socket, control, log, code, layers, entrances: descriptors.collect() };
    match begin(nursery, &order, &belongings) {
        Ok(template) => {
            let Belongings { socket, control, log, code, layers, entrances } = belongings;
            drop((control, log, code, layers, entrances));
            process::close_all_but(&[&socket]);
            let Ok(children) = os::signal::descriptor(&[libc::SIGCHLD]) else { return };
            // Slots are made ahead of need: whoever serves a request comes first.
            let _ = rustix::process::nice(NICENESS);
            Init {
                socket,
                buffer: vec![0; ORDER_MAX],
                children,
                ids: order.ids,
                template,
                slots: HashMap::new(),
                made: 0,
            }
            .serve();
        }
        Err((step, error)) => {
            let failed = FromInit::Failed { step: step.to_owned(), error: error.to_string() };
            let _ = say(&belongings.socket, &failed, &[]);
        }
    }
}

/// Completes the sandbox and starts the template in it.
fn begin(nursery: &Nursery, order: &MakeSandbox, has: &Belongings) -> Result<i32, StepError> {
    // Still as the worker's user: the stage may lie in a folder that only that one may enter.
    mount::pivot(&nursery.stage).map_err(step("change the root"))?;
    if matches!(order.ids, Ids::Range(_)) {
        process::become_ids(0, 0).map_err(step("become root in the sandbox"))?;
    }
    process::set_dumpable(false);
    furnish(order.tmp)?;
    if let Some(code) = &has.code {
        mount::attach(code, cfork::protocol::TASK_ROOT).map_err(step("attach the code"))?;
    }
    if let Some(layers) = &has.layers {
        mount::attach(layers, cfork::protocol::LAYERS_ROOT).map_err(step("attach the layers"))?;
    }
    leave_ids_to_instances().map_err(step("fork"))?;
    // SAFETY: an init has one thread.
    match unsafe { process::fork_into(None) }.map_err(step("fork the template"))? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let (step, error) = become_template(order, has, &nursery.filter);
            let text = format!("lichen: the template could not {step}: {error}\n");
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
            process::exit_now(127)
        }
    }
}

/// Uses up the first process ids of the sandbox, which are those that instances get in their slots: libraries tell by a
/// change of their process id that they were forked, and must not draw the same random numbers as their template.
fn leave_ids_to_instances() -> io::Result<()> {
    for _ in 0..8 {
        // SAFETY: an init has one thread, and the child ends at once.
        match unsafe { process::fork_into(None) }? {
            Fork::Parent(pid) => process::wait(pid).map(drop)?,
            Fork::Child => process::exit_now(0),
        }
    }
    Ok(())
}

/// Enters the cgroup and makes it the root of what is seen of cgroups from now on.
fn enter_cgroup(entrances: &[OwnedFd]) -> Result<(), StepError> {
    for entrance in entrances {
        rustix::io::write(entrance, b"0").map_err(io::Error::from).map_err(step("enter the cgroup"))?;
    }
    ns::unshare(ns::Kinds::CGROUP).map_err(step("make a cgroup namespace"))
}

/// What every sandbox and every slot has to itself: its processes, its temporary files, its loopback, its name.
pub(super) fn furnish(tmp: u64) -> Result<(), StepError> {
    mount::proc(Path::new("/proc")).map_err(step("mount /proc"))?;
    mount::tmpfs(Path::new("/tmp"), tmp, 0o1777, false).map_err(step("mount /tmp"))?;
    mount::tmpfs(Path::new("/dev/shm"), tmp, 0o1777, true).map_err(step("mount /dev/shm"))?;
    os::netlink::loopback_up().map_err(step("bring the loopback up"))?;
    rustix::system::sethostname(b"lichen").map_err(io::Error::from).map_err(step("set the host name"))
}

/// Becomes the template. Returns only when that fails.
fn become_template(order: &MakeSandbox, has: &Belongings, filter: &Filter) -> StepError {
    let prepare = || -> Result<(CString, Vec<CString>, Vec<CString>), StepError> {
        enter_cgroup(&has.entrances)?;
        let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
        let null = null.map_err(io::Error::from).map_err(step("open /dev/null"))?;
        // Away from the low numbers first, so that placing one does not overwrite another.
        let high = |fd: &OwnedFd| {
            rustix::io::fcntl_dupfd_cloexec(fd, 64).map_err(io::Error::from).map_err(step("place its descriptors"))
        };
        let (control, log, high_null) = (high(&has.control)?, high(&has.log)?, high(&null)?);
        drop(null);
        for (from, to) in [(&high_null, 0), (&log, 1), (&log, 2), (&control, cfork::protocol::CONTROL)] {
            process::place(from, to).map_err(step("place its descriptors"))?;
        }
        // They are closed here, all at once.
        let _ = [control, log, high_null].map(OwnedFd::into_raw_fd);
        process::close_from(cfork::protocol::CONTROL as u32 + 1);
        let texts = |texts: &[String]| -> Result<Vec<CString>, StepError> {
            texts.iter().map(|t| CString::new(t.as_str()).map_err(|e| ("read its arguments", e.into()))).collect()
        };
        let (arguments, environment) = (texts(&order.arguments)?, texts(&order.environment)?);
        let program = arguments.first().cloned().unwrap_or_default();
        restrict(order, filter)?;
        Ok((program, arguments, environment))
    };
    match prepare() {
        Ok((program, arguments, environment)) => ("be run", process::exec(&program, &arguments, &environment)),
        Err(failed) => failed,
    }
}

/// Gives up everything, before the language runtime's first instruction.
fn restrict(order: &MakeSandbox, filter: &Filter) -> Result<(), StepError> {
    os::signal::unblock_all();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    for (resource, soft, hard) in [
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_NOFILE, 1024, 4096),
        (libc::RLIMIT_MEMLOCK, 64 << 10, 64 << 10),
        (libc::RLIMIT_MSGQUEUE, 800 << 10, 800 << 10),
        (libc::RLIMIT_SIGPENDING, 1024, 1024),
    ] {
        process::limit(resource, soft, hard).map_err(step("limit its resources"))?;
    }
    if let Some(processes) = order.processes {
        process::limit(libc::RLIMIT_NPROC, processes.into(), processes.into()).map_err(step("limit its processes"))?;
    }
    os::caps::drop_bounding();
    process::become_ids(FUNCTION_ID, FUNCTION_ID).map_err(step("take its identity"))?;
    os::caps::drop_all().map_err(step("give up its capabilities"))?;
    process::no_new_privileges().map_err(step("give up gaining privileges"))?;
    filter.install().map_err(|error| ("install its filter", io::Error::other(error)))
}

impl Init {
    fn serve(mut self) {
        loop {
            let mut waits = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
            if poll(&mut waits, None).is_err() {
                continue;
            }
            let (command, child) = (!waits[0].revents().is_empty(), !waits[1].revents().is_empty());
            if child {
                let _ = rustix::io::read(&self.children, &mut [0; 128]);
                self.reap();
            }
            if command && !self.obey() {
                return;
            }
        }
    }

    fn obey(&mut self) -> bool {
        let Ok((ToInit::MakeSlot { slot, tmp }, entrances)) = hear::<ToInit>(&self.socket, &mut self.buffer) else {
            return false;
        };
        self.made = self.made.wrapping_add(1);
        match slot::make(self.ids, self.made, tmp, &entrances) {
            Ok((pid, process)) => {
                self.slots.insert(pid, slot);
                say(&self.socket, &FromInit::SlotMade { slot }, &[std::os::fd::AsFd::as_fd(&process)]).is_ok()
            }
            Err(reason) => say(&self.socket, &FromInit::SlotNotMade { slot, reason }, &[]).is_ok(),
        }
    }

    fn reap(&mut self) {
        while let Some((pid, end)) = process::reap() {
            let end = match end {
                process::End::Exit(status) => End::Exit(status),
                process::End::Signal(signal) => End::Signal(signal),
            };
            let report = if pid == self.template {
                FromInit::TemplateEnded { end }
            } else if let Some(slot) = self.slots.remove(&pid) {
                FromInit::SlotEnded { slot }
            } else {
                FromInit::InstanceEnded { pid, end }
            };
            let _ = say(&self.socket, &report, &[]);
        }
    }
}
