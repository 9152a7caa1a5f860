//! The template's side: waiting for fork requests, and what a child does before anything else.
//!
//! The template waits, and sends a forker into every slot that the worker has made (`enter`). A child comes to life in its
//! slot and its cgroups. Its first steps, in order: drop the template's descriptors; wait for its order, where there was none;
//! attach its channel and the code, take the instance's identity, give up all capabilities, put the log in place of its
//! standard streams, open the template's files anew, go to where the template was.

use crate::descriptors::{self, Stock};
use crate::enter::{Birth, Site, Stacks};
use crate::instance::Instance;
use crate::invocation::{self, Started};
use crate::protocol::{self, Kind, Received};
use interconnect::channel::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// The user and group of every function, inside its sandbox.
pub const FUNCTION_ID: u32 = 1000;

/// Why a template cannot go on.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("the worker is gone")]
    Gone,
    #[error("the control socket failed")]
    Socket(#[source] io::Error),
    #[error("the worker sent message kind {0} where another was due")]
    Unexpected(u32),
}

/// A new instance, at its very beginning.
pub struct Child {
    /// What this instance is to be: JSON, empty where the template already knows all.
    pub config: Vec<u8>,
    /// Its side of the channel.
    pub instance: Instance,
}

/// A child of the template, in its slot, that may still have to be told what it is to be.
pub struct Newborn {
    birth: Birth,
    stock: ManuallyDrop<Stock>,
    template: u32,
    /// Where the template was.
    folder: CString,
    /// What came of dropping the template's descriptors. Language runtimes make their own anew, at the same numbers.
    blinded: io::Result<()>,
}

/// Where a template waits.
pub struct ForkPoint {
    control: OwnedFd,
    buffer: Vec<u8>,
    stock: Stock,
}

impl ForkPoint {
    /// The fork point of this process, and the template's configuration (JSON), which the worker sends first.
    ///
    /// # Safety
    /// Descriptor [`protocol::CONTROL`] must be the control socket, and nobody else's.
    pub unsafe fn open() -> Result<(Self, Vec<u8>), ServeError> {
        // SAFETY: by the contract.
        let control = unsafe { OwnedFd::from_raw_fd(protocol::CONTROL) };
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC).map_err(|e| ServeError::Socket(e.into()))?;
        let mut point = Self { control, buffer: Vec::new(), stock: Stock::default() };
        let first = point.receive()?;
        if first.header.kind != Kind::Configure as u32 {
            return Err(ServeError::Unexpected(first.header.kind));
        }
        Ok((point, first.payload))
    }

    fn receive(&mut self) -> Result<Received, ServeError> {
        protocol::receive(&self.control, &mut self.buffer).map_err(ServeError::Socket)?.ok_or(ServeError::Gone)
    }

    /// Tells the worker that the fork point is reached: how many threads there are, and a report (JSON).
    pub fn ready(&self, report: &[u8]) -> Result<(), ServeError> {
        protocol::send(&self.control, Kind::Ready, threads(), 0, 0, report, &[]).map_err(ServeError::Socket)
    }

    /// Looks at what is open beyond the control socket and `known`: children open its files anew and find `/dev/null` in
    /// place of what is foreign.
    pub fn take_stock(&mut self, known: &[RawFd]) -> io::Result<&Stock> {
        self.stock = descriptors::take_stock(&[known, &[self.control.as_raw_fd()]].concat())?;
        Ok(&self.stock)
    }

    /// Has forkers ready in all slots that the worker makes. Returns in their children only, or when the worker is gone.
    /// Whatever a fork wants to be done before it, the template has done: it forks from where it waits.
    ///
    /// # Safety
    /// The calling process must have one thread, or only further ones that children will not miss: they do not exist in
    /// them, and locks that they hold stay locked.
    pub unsafe fn serve(self) -> Result<Newborn, ServeError> {
        let template = std::process::id();
        let folder = rustix::process::getcwd(Vec::new()).unwrap_or_else(|_| protocol::TASK_ROOT.into());
        let stock = ManuallyDrop::new(self.stock);
        let site = Site::new(self.control.as_raw_fd(), self.buffer);
        let mut stacks = Stacks::default();
        loop {
            // SAFETY: this is the template, and it has the turn.
            if let Some(birth) = unsafe { site.wait() } {
                drop(self.control);
                let blinded = descriptors::blind(&stock);
                return Ok(Newborn { birth, stock, template, folder, blinded });
            }
            // SAFETY: the turn is had again.
            let request =
                unsafe { site.receive(&self.control) }.map_err(ServeError::Socket)?.ok_or(ServeError::Gone)?;
            if request.header.kind != Kind::Enter as u32 {
                return Err(ServeError::Unexpected(request.header.kind));
            }
            let id = request.header.id;
            // SAFETY: by the contract.
            if let Err(error) = unsafe { stacks.send(site, request) } {
                let error = -i64::from(error.raw_os_error().unwrap_or(libc::EIO));
                site.answer(Kind::Entered, id, error).map_err(ServeError::Socket)?;
            }
        }
    }
}

impl Newborn {
    /// Whether it was forked ahead of need: until it is told what it is to be, nobody waits for it.
    pub fn is_ahead(&self) -> bool {
        self.birth.order.is_none()
    }

    /// Whether somebody waits for it: it has been told, or is about to end.
    pub fn is_wanted(&self) -> bool {
        let mut waits = [PollFd::new(&self.birth.socket, PollFlags::IN)];
        !self.is_ahead() || poll(&mut waits, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Becomes what it is to be, once it is told. Where nobody ever tells, the process ends here.
    pub fn settle(self) -> Child {
        let Self { birth: Birth { order, socket, .. }, stock, template, folder, blinded } = self;
        let order = order.unwrap_or_else(|| await_order(&socket));
        settle(order, blinded, &stock, template, &folder)
    }
}

fn await_order(socket: &OwnedFd) -> Received {
    loop {
        match protocol::receive(socket, &mut Vec::new()) {
            Ok(Some(order)) if order.header.kind == Kind::Fork as u32 => return order,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => os::process::exit_now(0),
        }
    }
}

/// Forks once, for the sake of the fork handlers that libraries have registered: they bring their threads to rest.
pub fn rehearse() -> io::Result<()> {
    // SAFETY: the child ends at once, so it misses neither threads nor locks.
    match unsafe { libc::fork() } {
        0 => os::process::exit_now(0),
        -1 => Err(io::Error::last_os_error()),
        pid => os::process::wait(pid).map(drop),
    }
}

/// How many threads this process has; 0 where /proc does not tell.
pub fn threads() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok()).unwrap_or(0)
}

/// The child's first steps. Where one fails it says so through its channel and ends: it must not run half isolated.
fn settle(order: Received, blinded: io::Result<()>, stock: &Stock, template: u32, folder: &CStr) -> Child {
    let forked = os::monotonic_ns();
    let flags = order.header.flags;
    let mut descriptors = order.descriptors.into_iter();
    let mut next = || descriptors.next();
    let (Some(region), Some(down), Some(up), Some(log)) = (next(), next(), next(), next()) else {
        os::process::exit_now(254);
    };
    let code = if flags & protocol::CODE != 0 { descriptors.next() } else { None };
    let layers = if flags & protocol::LAYERS != 0 { descriptors.next() } else { None };
    let Ok(mut channel) = Channel::attach(&region, down, up) else { os::process::exit_now(253) };
    // Libraries that have drawn random numbers in the template tell by the process id that they are in a child of it.
    if std::process::id() == template {
        let _ = channel.sender.send(invocation::NOT_ENTERED, b"differ", b"its process id is its template's");
        os::process::exit_now(251);
    }
    if let Err((step, error)) = isolate([&code, &layers], &log, blinded, stock, folder) {
        let _ = channel.sender.send(invocation::NOT_ENTERED, step.as_bytes(), error.to_string().as_bytes());
        os::process::exit_now(252);
    }
    let started = Started { forked, entered: os::monotonic_ns(), loaded: 0 };
    Child { config: order.payload, instance: Instance::new(channel, started) }
}

fn isolate(
    [code, layers]: [&Option<OwnedFd>; 2],
    log: &OwnedFd,
    blinded: io::Result<()>,
    stock: &Stock,
    folder: &CStr,
) -> Result<(), (&'static str, io::Error)> {
    let step = |name: &'static str| move |error: io::Error| (name, error);
    if let Some(code) = code {
        os::mount::attach(code.as_fd(), protocol::TASK_ROOT).map_err(step("attach its code"))?;
    }
    if let Some(layers) = layers {
        os::mount::attach(layers.as_fd(), protocol::LAYERS_ROOT).map_err(step("attach its layers"))?;
    }
    os::process::become_ids(FUNCTION_ID, FUNCTION_ID).map_err(step("take its identity"))?;
    os::caps::drop_all().map_err(step("give up its capabilities"))?;
    // A change of identity has closed /proc/self to the process itself.
    os::process::set_dumpable(true);
    os::process::place(log, 1).map_err(step("place its log"))?;
    os::process::place(log, 2).map_err(step("place its log"))?;
    blinded.map_err(step("drop its template's descriptors"))?;
    descriptors::reopen(&stock.files).map_err(step("open its files"))?;
    // By name, as a slot has folders of its own, and not necessarily those that the function has made while it was loaded.
    let entered = rustix::process::chdir(folder).or_else(|_| rustix::process::chdir(protocol::TASK_ROOT));
    entered.map_err(|error| ("enter its folder", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_and_a_rehearsal_ends() {
        assert!(threads() >= 1);
        rehearse().unwrap();
    }
}
