//! Event loops for connections: one for each processor, each a thread of its own.
//!
//! A request is read, sent to its instance and answered in one loop, which sleeps in between. A runtime of several threads
//! wakes another of them whenever it finds something to do: on the way of a request that has nothing for it, and back.
//!
//! A loop stays on its processor, where an engine stays too: each comes to life there when the other goes to sleep, and no idle
//! processor has to be woken. Left to itself the kernel moves whatever wakes to one of those.
//!
//! A connection stays in its loop, unless another has fewer: then it leaves when nothing is under way ([`Place`]). On a
//! processor that is to compute while others are not, each counts as several.
//!
//! Everything that has no client waiting at a connection (queues, event sources, the worker's news) is none of theirs.

use super::tick::Tick;
use runtime::dispatch::awake::Lookout;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// What a connection counts as where its loop shares a processor with whoever computes.
const BESIDE_COMPUTING: usize = 4;
/// What threads of a loop that wait for the disk have to end in.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// All loops of a gateway. They end when it is dropped, and what runs in them with them.
pub struct Loops {
    loops: Vec<EventLoop>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped to end them.
    over: Option<watch::Sender<()>>,
}

/// One of them.
#[derive(Clone)]
pub struct EventLoop {
    pub handle: Handle,
    processor: u32,
    connections: Arc<AtomicUsize>,
    tick: Arc<Tick>,
}

/// Says whether a processor is left to connections.
pub type Spares = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// A connection's place: the loop that it is in, and may leave.
pub struct Place {
    loops: Arc<[EventLoop]>,
    spares: Spares,
    at: AtomicUsize,
    /// Whether a request is under way, or an answer that comes in parts.
    busy: AtomicBool,
}

impl Loops {
    /// Starts as many as there are processors for this process.
    pub fn start() -> io::Result<Self> {
        // None of them is to be the first to ask.
        daemon::pu::processors();
        let (over, ending) = watch::channel(());
        let mut all = Self { loops: Vec::new(), threads: Vec::new(), over: Some(over) };
        let allowed = sched_getaffinity(None)?;
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
            let (handle, thread) = begin(processor, allowed, ending.clone())?;
            all.loops.push(EventLoop::new(handle, processor as u32));
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// Where connections are accepted.
    pub fn first(&self) -> &EventLoop {
        &self.loops[0]
    }

    pub fn all(&self) -> Arc<[EventLoop]> {
        self.loops.as_slice().into()
    }
}

/// The one that has least to do with one connection more; of those that are alike the one on this processor, from which a
/// client on this machine has just spoken: two on one processor need to wake no other one. Else the first.
fn emptiest(loops: &[EventLoop], spares: &Spares, near: Option<u32>) -> usize {
    let distance = |at: &usize| (loops[*at].load(1, spares), near != Some(loops[*at].processor));
    (0..loops.len()).min_by_key(distance).unwrap_or(0)
}

impl EventLoop {
    fn new(handle: Handle, processor: u32) -> Self {
        Self { handle, processor, connections: Arc::default(), tick: Arc::default() }
    }

    /// What it has to do with so many connections more.
    fn load(&self, more: usize, spares: &Spares) -> usize {
        let each = if spares(self.processor) { 1 } else { BESIDE_COMPUTING };
        (self.connections.load(Relaxed) + more) * each
    }
}

impl Place {
    /// For a new connection, whose client has spoken from there.
    pub fn new(loops: Arc<[EventLoop]>, spares: Spares, near: Option<u32>) -> Self {
        let at = emptiest(&loops, &spares, near);
        loops[at].connections.fetch_add(1, Relaxed);
        Self { loops, spares, at: AtomicUsize::new(at), busy: AtomicBool::new(false) }
    }

    /// The number of its loop.
    pub fn at(&self) -> usize {
        self.at.load(Relaxed)
    }

    pub fn event_loop(&self) -> &EventLoop {
        &self.loops[self.at()]
    }

    /// Its loop serves requests.
    pub fn keep_ticking(&self) {
        self.event_loop().tick.keep();
    }

    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Relaxed);
    }

    /// Goes to another loop if nothing is under way and that one has less to do even with this connection. Whether it did.
    pub fn leave(&self) -> bool {
        if self.busy.load(Relaxed) {
            return false;
        }
        let (from, to) = (self.at(), emptiest(&self.loops, &self.spares, None));
        let load = |at: usize, more| self.loops[at].load(more, &self.spares);
        if to == from || load(to, 1) >= load(from, 0) {
            return false;
        }
        self.loops[to].connections.fetch_add(1, Relaxed);
        self.loops[from].connections.fetch_sub(1, Relaxed);
        self.at.store(to, Relaxed);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.event_loop().connections.fetch_sub(1, Relaxed);
    }
}

fn begin(processor: usize, allowed: CpuSet, mut ending: watch::Receiver<()>) -> io::Result<(Handle, JoinHandle<()>)> {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("gateway-{processor}")).spawn(move || {
        let mut only = CpuSet::new();
        only.set(processor);
        // One that may not choose goes where the kernel has it.
        let _ = sched_setaffinity(None, &only);
        // Its threads for what blocks have no reason to stay.
        let roam = move || _ = sched_setaffinity(None, &allowed);
        let lookout = Arc::new(Lookout::default());
        lookout.stand_here();
        let [parks, unparks] = [lookout.clone(), lookout];
        let mut builder = Builder::new_current_thread();
        builder.on_thread_park(move || parks.park()).on_thread_unpark(move || unparks.unpark());
        let runtime = match builder.enable_all().on_thread_start(roam).build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let _ = tell.send(Ok(runtime.handle().clone()));
        // An error: there is nobody who could say anything any more.
        runtime.block_on(async { while ending.changed().await.is_ok() {} });
        runtime.shutdown_timeout(LAST_WORDS);
    })?;
    let handle = told.recv().map_err(io::Error::other)??;
    Ok((handle, thread))
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.over = None;
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_work_apart_and_end_with_what_runs_in_them() {
        let loops = Loops::start().unwrap();
        let (name, named) = mpsc::sync_channel(loops.loops.len());
        for one in &loops.loops {
            let name = name.clone();
            one.handle.spawn(async move { name.send(std::thread::current().name().map(str::to_owned)).unwrap() });
        }
        let mut names: Vec<_> = loops.loops.iter().map(|_| named.recv().unwrap().unwrap()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), loops.loops.len());
        let (mask, masked) = mpsc::sync_channel(1);
        loops.first().handle.spawn(async move {
            let here = sched_getaffinity(None).unwrap();
            let roams = tokio::task::spawn_blocking(|| sched_getaffinity(None).unwrap()).await.unwrap();
            mask.send((here.count(), roams.count(), daemon::pu::processors())).unwrap();
        });
        let all = sched_getaffinity(None).unwrap().count();
        let count = std::thread::available_parallelism().unwrap().get() as u32;
        assert_eq!(masked.recv().unwrap(), (1, all, count), "a loop stays, what blocks roams, the processors are all");
        let (held, gone) = mpsc::sync_channel::<()>(1);
        loops.first().handle.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(loops);
        assert_eq!(gone.recv(), Err(mpsc::RecvError));
    }

    fn two() -> (tokio::runtime::Runtime, Arc<[EventLoop]>) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let on = |processor| EventLoop::new(runtime.handle().clone(), processor);
        let loops = [on(3), on(4)].into();
        (runtime, loops)
    }

    #[test]
    fn connections_go_where_there_are_fewest() {
        let (_runtime, loops) = two();
        let all: Spares = Arc::new(|_| true);
        assert_eq!([None, Some(3), Some(4), Some(9)].map(|near| emptiest(&loops, &all, near)), [0, 0, 1, 0]);
        let place = |near| Place::new(loops.clone(), all.clone(), near);
        let one = place(Some(3));
        assert_eq!((one.at(), emptiest(&loops, &all, Some(3))), (0, 1));
        let others = [place(Some(3)), place(Some(4)), place(Some(4))];
        assert_eq!(others.each_ref().map(Place::at), [1, 1, 0]);
        drop((one, others));
        assert_eq!(emptiest(&loops, &all, None), 0);
    }

    #[test]
    fn most_leave_a_loop_whose_processor_computes_and_come_back() {
        let (_runtime, loops) = two();
        let computing = Arc::new(AtomicBool::new(false));
        let its = computing.clone();
        let spares: Spares = Arc::new(move |processor| processor != 4 || !its.load(Relaxed));
        let places: Vec<_> = (0..16).map(|_| Place::new(loops.clone(), spares.clone(), None)).collect();
        let leave = || places.iter().filter(|place| place.leave()).count();
        let at = || places.iter().filter(|place| place.at() == 0).count();
        assert_eq!((at(), leave()), (8, 0));
        computing.store(true, Relaxed);
        places.iter().for_each(|place| place.set_busy(true));
        assert_eq!(leave(), 0, "not with a request");
        places.iter().for_each(|place| place.set_busy(false));
        assert_eq!((leave(), at(), leave()), (5, 13, 0));
        computing.store(false, Relaxed);
        assert_eq!((leave(), at(), leave()), (5, 8, 0), "as many in each");
        drop(places);
        computing.store(true, Relaxed);
        let few = [0; 3].map(|_| Place::new(loops.clone(), spares.clone(), Some(4)));
        assert_eq!(few.each_ref().map(Place::at), [0; 3], "few do not come to it at all");
        drop(few);
        assert!(loops.iter().all(|one| one.connections.load(Relaxed) == 0));
    }

    #[test]
    fn where_all_processors_compute_they_stay() {
        let (_runtime, loops) = two();
        let none: Spares = Arc::new(|_| false);
        let places = [0; 2].map(|_| Place::new(loops.clone(), none.clone(), None));
        assert_eq!(places.each_ref().map(|place| (place.at(), place.leave())), [(0, false), (1, false)]);
    }
}
