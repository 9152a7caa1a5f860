//! The engine, and its programs' runs.

use super::fault::{self, Verdict};
use super::habit::Habits;
use super::nursery::{self, Blank, Call, Ended, Nursery};
use super::stub::{CALLS, report};
use super::zygote::ARENA;
use crate::native::context::{Context, View};
use crate::native::contexts::Contexts;
use crate::native::image::Rights;
use crate::native::layout::{PAGE, STACK_MOST};
use crate::native::loaded::Loaded;
use crate::native::{Mapping, inputs, outputs};
use crate::{Arena, Artefact, Engine, Finished, Kind, LoadError, Program, Run, RunError, SelfTestError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Runs native functions in empty processes. They end with the thread that has made it.
#[derive(Debug)]
pub struct Process {
    arena: Arena,
    nursery: Arc<Mutex<Nursery>>,
}

#[derive(Debug)]
struct Native {
    loaded: Loaded,
    arena: Arena,
    nursery: Arc<Mutex<Nursery>>,
    contexts: Contexts,
    /// None where the kernel cannot make pages ahead of their use.
    habits: Option<Habits>,
}

impl Process {
    /// An engine whose guests' memory is in `arena`. To be called on the thread that will run them, before that gives up the
    /// system calls that it takes to make a process.
    pub fn new(arena: Arena) -> io::Result<Self> {
        let nursery = Arc::new(Mutex::new(Nursery::new(arena.file())?));
        Ok(Self { arena, nursery })
    }
}

impl Engine for Process {
    fn kind(&self) -> Kind {
        Kind::Process
    }

    fn self_test(&mut self) -> Result<(), SelfTestError> {
        let lacks = |error: io::Error| SelfTestError::Lacks(format!("processes for native functions: {error}"));
        let mut nursery = lock(&self.nursery);
        let blank = nursery.take().map_err(lacks)?;
        blank.kill();
        let ended = nursery::reap(blank.process()).map_err(lacks)?;
        nursery.retire(blank);
        nursery.refill();
        match ended.0 {
            Ended::Signal(libc::SIGKILL) => Ok(()),
            other => Err(SelfTestError::Wrong(format!("a process that waits has ended: {other:?}"))),
        }
    }

    fn load(&mut self, code: &Artefact) -> Result<Box<dyn Program>, LoadError> {
        let loaded = Loaded::new(&self.arena, code, Kind::Process)?;
        let (arena, nursery) = (self.arena.clone(), self.nursery.clone());
        let habits = populates().then(Habits::default);
        let contexts = Contexts::new(&arena);
        Ok(Box::new(Native { loaded, arena, nursery, contexts, habits }))
    }
}

fn lock(nursery: &Mutex<Nursery>) -> MutexGuard<'_, Nursery> {
    nursery.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program for Native {
    fn run(&mut self, run: &Run<'_>) -> Finished {
        let mut context = match self.contexts.take(run.limits.memory) {
            Ok(context) => context,
            Err(error) => return Finished::failed(error),
        };
        let ended = inputs::write(&mut context, &self.loaded, run, self.arena.file())
            .and_then(|view| self.execute(&view, run, &context).map(|()| view));
        let peak = context.weigh();
        let mut finished = match ended {
            Ok(view) => outputs::take(context, &view, &self.loaded, run, &mut self.contexts),
            Err(error) => {
                self.contexts.give(context);
                Finished::failed(error)
            }
        };
        finished.memory_peak = peak;
        finished
    }

    fn clear(&mut self) {
        self.contexts.clear();
        let mut nursery = lock(&self.nursery);
        nursery.gather();
        nursery.refill();
    }
}

impl Native {
    /// Has a blank run the guest to its end.
    fn execute(&mut self, view: &View, run: &Run<'_>, context: &Context) -> Result<(), RunError> {
        let platform = |error: io::Error| RunError::Engine(error.to_string());
        let mut nursery = lock(&self.nursery);
        let blank = nursery.take().map_err(platform)?;
        let inputs = run.inputs.iter().flat_map(|set| &set.items).map(|item| item.data.len() as u64).sum();
        let mut calls: Vec<Call> = view.mappings.iter().map(call).collect();
        let habits = self.habits.as_mut().filter(|_| calls.len() + 2 <= CALLS);
        let ahead = habits.map_or(0, |habits| habits.expected(inputs)).min(view.heap.end - view.heap.start);
        let mut expected = 0;
        if ahead > 0 {
            // To be read, which maps the pages that are there many at a time, and to be written as well: it is shared memory.
            let populate = libc::MADV_POPULATE_READ as u64;
            let first = context.place(view, view.heap.start, ahead).unwrap_or_default();
            expected = context.faults_of(first..first + ahead);
            calls.push([libc::SYS_madvise as u64, view.heap.start, ahead, populate, 0, 0, 0, 0]);
        }
        calls.push([libc::SYS_close as u64, ARENA as u64, 0, 0, 0, 0, 0, 0]);
        nursery.go(&blank, &calls, self.loaded.image.entry, view.stack.end);
        let ((ended, faults), stopped) = await_end(&blank, run).map_err(platform)?;
        self.habits.iter_mut().for_each(|habits| habits.learn(inputs, ahead, faults.saturating_sub(expected)));
        let failure = nursery.failure(&blank);
        nursery.retire(blank);
        drop(nursery);
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        // SAFETY: the guest has ended and was reaped: nobody else has these pages.
        let bytes = unsafe { context.room.bytes(STACK_MOST, report::LEN as u64) };
        let bytes = bytes.try_into().map_err(|_| RunError::Engine("the report is short".to_owned()))?;
        match fault::verdict(ended, bytes, view, run.limits.memory) {
            Verdict::Done => Ok(()),
            Verdict::NotStarted if failure != 0 => Err(platform(io::Error::from_raw_os_error(-failure))),
            Verdict::NotStarted => Err(RunError::Exit(super::stub::FAILED)),
            Verdict::Error(error) => Err(error),
        }
    }
}

/// Whether the kernel makes pages ahead of their use: since Linux 5.14.
fn populates() -> bool {
    let mut byte = [0u8; PAGE as usize];
    let page = byte.as_mut_ptr().wrapping_sub(byte.as_ptr() as usize % PAGE as usize);
    // SAFETY: the page is this thread's stack; nothing in it changes.
    unsafe { libc::madvise(page.cast(), PAGE as usize, libc::MADV_POPULATE_READ) == 0 }
}

/// The system call that makes a mapping.
fn call(mapping: &Mapping) -> Call {
    let rights = match mapping.rights {
        Rights::Read => libc::PROT_READ,
        Rights::Execute => libc::PROT_READ | libc::PROT_EXEC,
        Rights::Write => libc::PROT_READ | libc::PROT_WRITE,
    };
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
    let number = libc::SYS_mmap as u64;
    debug_assert!(mapping.address.is_multiple_of(PAGE) && mapping.offset.is_multiple_of(PAGE));
    [number, mapping.address, mapping.len, rights as u64, flags as u64, ARENA as u64, mapping.offset, mapping.address]
}

/// Waits for the guest's end, or ends it: at the deadline, or when told so.
fn await_end(blank: &Blank, run: &Run<'_>) -> io::Result<((Ended, u64), Option<RunError>)> {
    let mut stopped = None;
    while stopped.is_none() {
        let left = run.deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let process = blank.process();
        let stop = run.stop.descriptor();
        let mut wait =
            [PollFd::from_borrowed_fd(process, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        match poll(&mut wait, Some(&left)) {
            Ok(0) => stopped = Some(RunError::Timeout),
            Ok(_) if !wait[0].revents().is_empty() => break,
            Ok(_) if run.stop.woken() => stopped = Some(RunError::Cancelled),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                blank.kill();
                nursery::reap(blank.process())?;
                return Err(error.into());
            }
        }
    }
    if stopped.is_some() {
        blank.kill();
    }
    let ended = nursery::reap(blank.process())?;
    // One that was done in the same moment is done.
    let late = matches!(ended.0, Ended::Exit(_));
    Ok((ended, stopped.filter(|_| !late)))
}
