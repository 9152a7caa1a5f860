//! How a child gets into its slot.
//!
//! A process can enter a pid namespace only by having a child there, and the address space of a language runtime is what
//! a fork pays for. So the template makes a *forker* for every slot, ahead of need: a process that shares the template's
//! memory and has a stack of its own. It enters the slot's cgroups and all seven namespaces, and waits there for the order
//! to fork properly, once:
//!
//! ```text
//! template ──clone──╮ waits on          orders come from the worker, past the template
//!                   ╰ forker: cgroups, setns ×7, Entered ... waits ... order, fork ┤── Forked, _exit
//!                                                                                  ╰ child: in the slot, with full
//!                                                    capabilities there, returns from where the template waits
//! ```
//!
//! Where the next instance's function does not matter to the template, a forker can be told to fork ahead of need: its
//! child waits for the order in its stead, as a *generic stem*, having done all that is the same for every function.
//!
//! No privilege is needed in the template: the slot's user namespace is a child of the template's own, owned by the
//! template's uid, and an owner has every capability in a namespace below (user_namespaces(7)). The child gives them all
//! up as its last step.
//!
//! A forker writes "0" to files of its cgroups that the worker has opened: a task that moves itself waits for no grace
//! period. What the kernel needs for the child is so charged to the child's group, not to its template's.

use crate::protocol::{self, Kind, Received};
use crate::resume::{Context, RESUMED, park, resume};
use crate::turn::Turn;
use os::ns::{self, Kinds};
use os::signal::Disposition;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A turn takes a fork's time. Whoever has it for longer than this was killed meanwhile.
const TURN_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of a forker's stack: it receives one message, and runs the fork handlers that libraries have registered.
const STACK: usize = 64 * 1024;
/// The most files by which a cgroup is entered: one for each controller.
const ENTRANCES_MAX: usize = 8;

/// Where a template and its forkers meet.
pub(crate) struct Site {
    turn: Turn,
    held: UnsafeCell<Held>,
    control: RawFd,
    /// What the template did about the end of children before it began to ignore it.
    children: Disposition,
}

/// What only who has the turn may touch.
struct Held {
    /// Where the template waits.
    waiting: Context,
    /// Where messages are received. A template keeps it: every page that it writes to anew stays with the children forked
    /// before.
    buffer: Vec<u8>,
    /// For the child of the fork under way.
    birth: Option<Birth>,
}

/// What a child is born with.
pub(crate) struct Birth {
    /// The order that it was forked for, if there was one.
    pub order: Option<Received>,
    /// Where its order comes from, or has come from.
    pub socket: OwnedFd,
    /// Where its forker may run.
    processors: Option<CpuSet>,
}

/// What a forker is told, at the top of its stack.
struct Post {
    site: &'static Site,
    /// The kernel clears it when the forker has left its stack for good.
    alive: AtomicU32,
    id: u64,
    slot: RawFd,
    socket: RawFd,
    entrances: [RawFd; ENTRANCES_MAX],
}

/// The stacks of forkers, used again and again.
#[derive(Default)]
pub(crate) struct Stacks(Vec<NonNull<Post>>);

impl Site {
    /// The template has the turn. `buffer` serves for what it receives.
    pub fn new(control: RawFd, buffer: Vec<u8>) -> &'static Self {
        let held = Held { waiting: Context::new(), buffer, birth: None };
        let children = os::signal::ignore_children();
        Box::leak(Box::new(Self { turn: Turn::taken(), held: UnsafeCell::new(held), control, children }))
    }

    fn control(&self) -> BorrowedFd<'_> {
        // SAFETY: the template never closes its control socket, and its forkers have it too.
        unsafe { BorrowedFd::borrow_raw(self.control) }
    }

    /// Gives the turn until the worker has something to say. What this answers is for a child: it returns from here too.
    ///
    /// # Safety
    /// In the template only, which has the turn.
    pub unsafe fn wait(&'static self) -> Option<Birth> {
        let held = self.held.get();
        // SAFETY: the context is touched with the turn only, and `give_and_wait` gets what it expects.
        let answer =
            unsafe { park(&raw mut (*held).waiting, give_and_wait, std::ptr::from_ref(self).cast_mut().cast()) };
        if answer != RESUMED {
            return None;
        }
        // SAFETY: a child has this memory to itself.
        let birth = unsafe { (*held).birth.take() }?;
        self.children.restore();
        go_anywhere(birth.processors.as_ref());
        Some(birth)
    }

    /// Receives what the worker has to say; nothing when it is gone.
    ///
    /// # Safety
    /// With the turn.
    pub unsafe fn receive(&self, socket: impl AsFd) -> io::Result<Option<Received>> {
        // SAFETY: by the contract.
        protocol::receive(socket, unsafe { &mut (*self.held.get()).buffer })
    }

    pub fn answer(&self, kind: Kind, id: u64, value: i64) -> io::Result<()> {
        protocol::send(self.control(), kind, 0, id, value, &[], &[])
    }
}

/// Runs in the template. Nothing but system calls happens without the turn.
unsafe extern "C" fn give_and_wait(site: *mut c_void) -> i64 {
    // SAFETY: `wait` passes its Site, which lives for ever.
    let site = unsafe { &*site.cast::<Site>() };
    site.turn.give();
    wait_for(site.control());
    if !site.turn.take(TURN_LIMIT) {
        // A forker was killed in the middle of a fork. The worker makes another template.
        os::process::exit_now(1);
    }
    0
}

fn wait_for(socket: BorrowedFd<'_>) {
    let mut waits = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    while poll(&mut waits, None).is_err() {}
}

impl Stacks {
    /// Sends a forker into the slot that `request` names. It tells the worker by itself when it is there.
    ///
    /// # Safety
    /// In the template, which has the turn, and has one thread, or only further ones that children will not miss: they do
    /// not exist in them, and locks that they hold stay locked.
    pub unsafe fn send(&mut self, site: &'static Site, request: Received) -> io::Result<()> {
        let id = request.header.id;
        let mut descriptors = request.descriptors.into_iter();
        let (Some(slot), Some(socket)) = (descriptors.next(), descriptors.next()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut entrances = [-1; ENTRANCES_MAX];
        let numbers: Vec<OwnedFd> = descriptors.collect();
        if numbers.len() > ENTRANCES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        numbers.into_iter().zip(&mut entrances).for_each(|(from, to)| *to = from.into_raw_fd());
        let (slot, socket) = (slot.into_raw_fd(), socket.into_raw_fd());
        let result = self.begin(Post { site, alive: AtomicU32::new(1), id, slot, socket, entrances });
        // The forker has descriptors of its own by now.
        for number in [slot, socket].into_iter().chain(entrances).filter(|number| *number >= 0) {
            // SAFETY: taken from its owner above.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
        result
    }

    fn begin(&mut self, post: Post) -> io::Result<()> {
        let top = self.free()?;
        // SAFETY: nobody is on this stack, and there is room for a Post at its top. The stack is never given back.
        let alive = unsafe {
            top.write(post);
            &top.as_ref().alive
        };
        let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let (argument, nothing) = (top.as_ptr().cast::<c_void>(), std::ptr::null_mut::<c_void>());
        // SAFETY: the forker runs below its Post on a stack of its own, and touches what it shares with us by turns only.
        let pid =
            unsafe { libc::clone(forker, argument, flags, argument, nothing, nothing, std::ptr::from_ref(alive)) };
        if pid < 0 {
            let error = io::Error::last_os_error();
            alive.store(0, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }

    /// The top of a stack that nobody uses.
    fn free(&mut self) -> io::Result<NonNull<Post>> {
        // SAFETY: each of them holds a Post.
        let unused = |top: &&NonNull<Post>| unsafe { top.as_ref() }.alive.load(Ordering::Acquire) == 0;
        if let Some(top) = self.0.iter().find(unused) {
            return Ok(*top);
        }
        // Without a guard below: the kernel would keep one area per stack, and a fork copies areas.
        // SAFETY: new memory.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), STACK, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        const POST: usize = size_of::<Post>().next_multiple_of(64);
        // SAFETY: within the mapping, which begins at a page.
        let top = unsafe { base.byte_add(STACK - POST) }.cast::<Post>();
        let top = NonNull::new(top).ok_or(io::ErrorKind::OutOfMemory)?;
        self.0.push(top);
        Ok(top)
    }
}

/// A forker's life. It shares the template's thread storage as well as its memory.
extern "C" fn forker(post: *mut c_void) -> c_int {
    // SAFETY: `begin` has put it there, and the stack is this forker's.
    let post = unsafe { &*post.cast::<Post>() };
    let site = post.site;
    if !site.turn.take(TURN_LIMIT) {
        return 1;
    }
    // Should the child end before this process does, its end is for the sandbox's init to see.
    site.children.restore();
    let entered = post.enter();
    // SAFETY: this forker's own, received with its post.
    let socket = unsafe { OwnedFd::from_raw_fd(post.socket) };
    match entered {
        Ok(()) => {
            give_and_tell(post, Kind::Entered, 0);
            wait_for(socket.as_fd());
            if site.turn.take(TURN_LIMIT) {
                obey(post, socket);
            }
        }
        Err(error) => give_and_tell(post, Kind::Entered, refused(&error)),
    }
    0
}

fn give_and_tell(post: &Post, kind: Kind, value: i64) {
    post.site.turn.give();
    let _ = post.site.answer(kind, post.id, value);
}

fn refused(error: &io::Error) -> i64 {
    -i64::from(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Receives the order to fork, with the turn, and does so. Where there is none the slot is given up.
fn obey(post: &Post, socket: OwnedFd) {
    // SAFETY: the turn is had.
    match unsafe { post.site.receive(&socket) } {
        Ok(Some(order)) if order.header.kind == Kind::Fork as u32 => {
            let order = (order.header.flags & protocol::AHEAD == 0).then_some(order);
            // SAFETY: the turn is had, and the contract of `send` holds for the fork.
            give_and_tell(post, Kind::Forked, unsafe { fork(post.site, order, socket) });
        }
        Ok(Some(_)) => give_and_tell(post, Kind::Forked, -i64::from(libc::EPROTO)),
        Ok(None) => post.site.turn.give(),
        Err(error) => give_and_tell(post, Kind::Forked, refused(&error)),
    }
}

impl Post {
    fn enter(&self) -> io::Result<()> {
        for &number in self.entrances.iter().filter(|number| **number >= 0) {
            // SAFETY: this forker's own, received with its post.
            rustix::io::write(unsafe { OwnedFd::from_raw_fd(number) }, b"0")?;
        }
        // SAFETY: this forker's own, received with its post.
        ns::enter(unsafe { OwnedFd::from_raw_fd(self.slot) }, Kinds::ALL)
    }
}

/// Forks: the child's pid as the template's pid namespace counts it, or a negated error number.
///
/// # Safety
/// In a forker, with the turn; and as [`Stacks::send`].
unsafe fn fork(site: &'static Site, order: Option<Received>, socket: OwnedFd) -> i64 {
    let held = site.held.get();
    // SAFETY: by the contract. The child is a copy of the template as it waits, and this is where it waits.
    unsafe {
        (*held).birth = Some(Birth { order, socket, processors: stay_here() });
        // The C library's fork, with its handlers: libraries that know about forks (OpenSSL, OpenBLAS) hear of it.
        let value = match libc::fork() {
            0 => resume(&raw const (*held).waiting),
            -1 => refused(&io::Error::last_os_error()),
            pid => pid.into(),
        };
        (*held).birth = None;
        value
    }
}

/// Keeps this thread on the processor that it is on: the processors that it could use until now.
///
/// A child that begins here needs no other processor to be woken.
fn stay_here() -> Option<CpuSet> {
    let processors = sched_getaffinity(None).ok()?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).ok().map(|()| processors)
}

fn go_anywhere(processors: Option<&CpuSet>) {
    if let Some(processors) = processors {
        // Who may not go elsewhere stays.
        let _ = sched_setaffinity(None, processors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is a template that has one slot to send forkers to, until its control socket ends.
    fn be_template(control: OwnedFd) -> ! {
        let site = Site::new(control.into_raw_fd(), Vec::new());
        let mut stacks = Stacks::default();
        loop {
            // SAFETY: this process has one thread, and the turn.
            unsafe {
                site.wait();
                let Ok(Some(request)) = site.receive(site.control()) else {
                    os::process::exit_now(stacks.0.len() as i32)
                };
                let _ = stacks.send(site, request);
            }
        }
    }

    #[test]
    fn a_slot_that_is_not_ours_is_refused_and_a_stack_used_again() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        // SAFETY: the child uses the C library's allocator only, which its fork leaves usable.
        let template = unsafe { libc::fork() };
        if template == 0 {
            drop(ours);
            be_template(theirs);
        }
        drop(theirs);
        let own = os::pidfd::open(std::process::id() as i32).unwrap();
        for id in 0..100 {
            let (_order, socket) = os::seqpacket::pair().unwrap();
            protocol::send(&ours, Kind::Enter, 0, id, 0, &[], &[own.as_fd(), socket.as_fd()]).unwrap();
            let answer = protocol::receive(&ours, &mut Vec::new()).unwrap().unwrap();
            assert_eq!((answer.header.kind, answer.header.id), (Kind::Entered as u32, id));
            // One's own user namespace cannot be entered again.
            assert_eq!(answer.header.value, -i64::from(libc::EINVAL));
        }
        drop(ours);
        match os::process::wait(template).unwrap() {
            os::process::End::Exit(stacks) => assert!((1..50).contains(&stacks), "{stacks} stacks"),
            end => panic!("{end:?}"),
        }
    }
}
