//! Pure functions: code that only computes, run by engine processes: one for each core, one more for each where there are
//! runs that take long, and some for functions whose runs not even those could wait for.
//!
//! ```text
//! worker ─┬─ nursery                        makes engines and compilers, executes nothing
//!         ├─ engine (core 0): no files, no network, no system calls but for its own loop
//!         │    ╰═ channel per instance ═══ gateway
//!         ├─ engine (core 1) …
//!         └─ compiler                       once for each program, at its deployment
//! ```
//!
//! An instance is a channel to an engine; each run has a memory of its own, in which nothing of another run ever was. The
//! engines come with the first function that wants them, are replaced when they end, and go when nobody has used
//! them for a while.
//!
//! | file | what it is |
//! |---|---|
//! | `nursery` `confine` `policy` | how the processes are made, and what they may do |
//! | `resident` | an engine process from within |
//! | `engine` | an engine process as the worker sees it |
//! | `neighbours` | how engines come to know what others hold |
//! | `program` `package` `compile` `lanes` | code, what lies beside it, what is made of it and in which order |
//! | `template` `instance` | the seam's types |
//! | `alone` | one run for a person, without a worker |
//! | `message` | what the processes say to each other |

pub mod alone;
mod compile;
mod confine;
mod engine;
mod instance;
mod lanes;
mod message;
mod neighbours;
mod nursery;
mod package;
mod policy;
mod program;
mod resident;
mod template;

use crate::config::EnginesConfig;
use crate::conversation::Conversation;
use crate::nursery::Said;
use crate::spec::{Code, End, EngineClass, Kind, OWN_ENGINES, TemplateSpec, Version};
use crate::{Answer, Backend, PrepareError, Template};
pub use engine::EngineError;
use engine::EngineProcess;
use lanes::Lanes;
use message::{Crew, Make, ToEngine, What};
use neighbours::Neighbours;
pub use nursery::NurseryError;
use os::cgroup::{self, Group, Tree};
use program::{Program, Wanted};
use rustix::thread::sched_getaffinity;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use template::PureTemplate;
use tokio::sync::{Notify, oneshot};

/// The users of engines: below those of containers, so many for each unit.
const FIRST_ID: u32 = 1 << 27;
const IDS_OF_A_UNIT: u32 = 1 << 14;
/// Users of one process.
const IDS: u32 = 2;
/// An engine that had no instance for so long ends.
const IDLE: Duration = Duration::from_secs(60);
/// For so many times that, items of a flow are held for it.
const HELD_MAX: u32 = 20;

/// What has to be done while the process has one thread.
#[derive(Debug)]
pub struct Ground {
    nursery: OwnedFd,
    unit: u8,
    single_user: bool,
    config: EnginesConfig,
}

impl Ground {
    /// Starts the nursery. The process must have one thread, and stand in the mount namespace of its unit; `stage` is a folder
    /// that its engines may cover with their root.
    pub fn prepare(stage: PathBuf, unit: u8, single_user: bool, config: EnginesConfig) -> Result<Self, NurseryError> {
        if cfork::forkpoint::threads() != 1 {
            return Err(NurseryError::Start(io::Error::other("the process has more than one thread")));
        }
        // SAFETY: one thread, as seen above; none is started here.
        let nursery = unsafe { nursery::start(stage) }?;
        Ok(Self { nursery, unit, single_user, config })
    }
}

/// The backend.
pub struct Pure {
    engines: Arc<Engines>,
    languages: Vec<(Kind, Version)>,
}

/// The engine processes of a worker, and what makes them.
pub struct Engines {
    nursery: Conversation<Make, Said>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<OwnedFd, String>>>>,
    /// Told when the process of this order has ended.
    ends: Mutex<HashMap<u64, oneshot::Sender<End>>>,
    tree: Option<Arc<Tree>>,
    unit: u8,
    single_user: bool,
    config: EnginesConfig,
    /// Of each processor its engines, once there are some.
    cores: Vec<Core>,
    programs: Mutex<HashMap<(::engine::Kind, PathBuf, String), Weak<Program>>>,
    compiling: Lanes,
    neighbours: Arc<Neighbours>,
    /// Told when the nursery is gone.
    lost: Notify,
    next: AtomicU64,
}

#[derive(Default)]
struct Core {
    cpu: u32,
    usual: Place,
    /// The same for runs that take long: others go first.
    long: Place,
    /// The same for some functions alone, which have the weight of one together.
    own: [Place; OWN_ENGINES],
    machines: Place,
}

/// A process that the nursery has made.
struct Process {
    process: OwnedFd,
    /// How it has ended: said once it has.
    end: oneshot::Receiver<End>,
}

/// Where an engine process is, or will be.
#[derive(Default)]
struct Place {
    engine: Mutex<Option<Arc<EngineProcess>>>,
    /// Held by who makes it.
    starting: tokio::sync::Mutex<()>,
    /// Instances that are on their way to it.
    coming: AtomicUsize,
}

/// An instance's way to a place, until it is dropped.
struct Way<'a>(&'a Place);

impl<'a> Way<'a> {
    fn to(place: &'a Place) -> Self {
        place.coming.fetch_add(1, Ordering::Relaxed);
        Self(place)
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    fn new(cpu: u32) -> Self {
        Self { cpu, ..Self::default() }
    }

    /// Where the engine of this kind and class is. A number that none has is none to make one for.
    fn place(&self, kind: ::engine::Kind, class: EngineClass) -> Option<&Place> {
        match (kind, class) {
            (::engine::Kind::Kvm, _) => Some(&self.machines),
            (_, EngineClass::Short) => Some(&self.usual),
            (_, EngineClass::Long) => Some(&self.long),
            (_, EngineClass::Own(number)) => self.own.get(usize::from(number)),
        }
    }

    fn engines(&self) -> impl Iterator<Item = Arc<EngineProcess>> {
        [&self.usual, &self.long, &self.machines].into_iter().chain(&self.own).filter_map(Place::engine)
    }

    /// Has the usual engine know whether there are any for long runs, and functions' own ones share what one of them weighs.
    fn settle(&self) {
        let own: Vec<_> = self.own.iter().filter_map(Place::engine).collect();
        own.iter().for_each(|engine| engine.weigh(own.len() as u32));
        if let Some(usual) = self.usual.engine() {
            usual.tell_later(ToEngine::BesideLong { there: !own.is_empty() || self.long.engine().is_some() });
        }
    }
}

impl Place {
    fn engine(&self) -> Option<Arc<EngineProcess>> {
        lock(&self.engine).clone().filter(|engine| engine.is_alive())
    }

    /// Instances that its engine has, or will have.
    fn instances(&self) -> usize {
        let there = self.engine().map_or(0, |engine| engine.instances());
        there + self.coming.load(Ordering::Relaxed)
    }
}

impl Pure {
    /// The backend on its ground. Needs a tokio runtime.
    pub fn open(ground: Ground, tree: Option<Arc<Tree>>) -> io::Result<Arc<Self>> {
        let cpus = sched_getaffinity(None)?;
        let cores = (0..rustix::thread::CpuSet::MAX_CPU as u32).filter(|cpu| cpus.is_set(*cpu as usize));
        let engines = Arc::new(Engines {
            nursery: Conversation::new(ground.nursery)?,
            waiting: Mutex::default(),
            ends: Mutex::default(),
            tree,
            unit: ground.unit,
            single_user: ground.single_user,
            config: ground.config,
            cores: cores.map(Core::new).collect(),
            programs: Mutex::default(),
            compiling: Lanes::default(),
            neighbours: Arc::default(),
            lost: Notify::new(),
            next: AtomicU64::new(1),
        });
        tokio::spawn(listen(Arc::downgrade(&engines)));
        let languages = [Kind::Wasm, Kind::Native].map(|kind| (kind, Version::default())).into();
        Ok(Arc::new(Self { engines, languages }))
    }

    /// Waits until the nursery is gone, and all engines with it: no others can be made.
    pub async fn lost(&self) {
        self.engines.lost.notified().await;
    }

    /// Ends every engine at once.
    pub fn end_all(&self) {
        for core in &self.engines.cores {
            core.engines().for_each(|engine| engine.kill());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

async fn listen(engines: Weak<Engines>) {
    while let Some(engines) = engines.upgrade() {
        let Ok((said, descriptors)) = engines.nursery.hear().await else { break };
        match said {
            Said::Made { id, result } => {
                let process = descriptors.into_iter().next().ok_or_else(|| "no descriptor of the process".to_owned());
                if result.is_err() {
                    lock(&engines.ends).remove(&id);
                }
                if let Some(waiting) = lock(&engines.waiting).remove(&id) {
                    let _ = waiting.send(result.and(process));
                }
            }
            Said::Ended { id, end } => {
                if let Some(ended) = lock(&engines.ends).remove(&id) {
                    let _ = ended.send(end);
                }
            }
        }
    }
    // Those who wait hear that nobody will tell them.
    if let Some(engines) = engines.upgrade() {
        lock(&engines.waiting).clear();
        lock(&engines.ends).clear();
        engines.lost.notify_one();
    }
}

/// Removes a group once its processes are gone, which takes the kernel a moment.
async fn remove(group: &Group) {
    for _ in 0..200 {
        if group.remove() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!(?group, "the group of an engine could not be removed");
}

impl Engines {
    /// Has the nursery make a process: `order` without its number and user.
    async fn make(&self, order: Make, descriptors: &[BorrowedFd<'_>]) -> Result<Process, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let outside = FIRST_ID + u32::from(self.unit) * IDS_OF_A_UNIT + (id as u32 * IDS) % IDS_OF_A_UNIT;
        let outside = (!self.single_user).then_some(outside);
        let (tell, told) = oneshot::channel();
        let (tell_end, end) = oneshot::channel();
        lock(&self.waiting).insert(id, tell);
        lock(&self.ends).insert(id, tell_end);
        let order = Make { id, outside, processes: self.tree.is_none().then_some(64), ..order };
        self.nursery.say(&order, descriptors).await.map_err(|error| error.to_string())?;
        let process = told.await.map_err(|_| "the nursery of engines is gone".to_owned())??;
        Ok(Process { process, end })
    }

    fn group(&self, name: &str, limits: cgroup::Limits) -> io::Result<Option<Group>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.tree.as_ref().map(|tree| tree.group(&format!("{name}-{id}"), limits)).transpose()
    }

    /// The program of this function's code, which others may use as well.
    fn program(self: &Arc<Self>, wanted: &Wanted) -> Arc<Program> {
        let mut programs = lock(&self.programs);
        programs.retain(|_, program| program.strong_count() > 0);
        let key = (wanted.engine, wanted.folder.clone(), wanted.file.clone());
        let there = programs.get(&key).and_then(Weak::upgrade);
        there.unwrap_or_else(|| {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let program = Arc::new(Program::new(id, wanted, Arc::downgrade(self)));
            programs.insert(key, Arc::downgrade(&program));
            program
        })
    }

    fn unload(&self, program: u64) {
        for engine in self.cores.iter().flat_map(Core::engines) {
            engine.unload(program);
        }
    }

    /// The engine with the fewest instances, made where it is missing: `apart` from one processor if there is another. It counts one
    /// more as long as the way is there.
    async fn engine_for(
        self: &Arc<Self>,
        kind: ::engine::Kind,
        class: EngineClass,
        apart: Option<u32>,
    ) -> Result<(Arc<EngineProcess>, Way<'_>), PrepareError> {
        let places = self.cores.iter().filter_map(|core| Some((core, core.place(kind, class)?)));
        let nearest = places.min_by_key(|(core, place)| (apart == Some(core.cpu), place.instances()));
        let (core, place) = nearest
            .ok_or_else(|| PrepareError::Sandbox(format!("this unit has no processor with an engine {class:?}")))?;
        let way = Way::to(place);
        let starting = place.starting.lock().await;
        let engine = match place.engine() {
            Some(engine) => engine,
            None => {
                let engine = self.start(core.cpu, kind, class).await?;
                *lock(&place.engine) = Some(engine.clone());
                if kind != ::engine::Kind::Kvm {
                    self.has_come(core, class, &engine);
                }
                engine
            }
        };
        drop(starting);
        engine.runs(kind).await.map_err(PrepareError::Engine)?;
        Ok((engine, way))
    }

    /// This core has another engine: the others hear of it, and of its end.
    fn has_come(self: &Arc<Self>, core: &Core, class: EngineClass, new: &EngineProcess) {
        core.settle();
        if class == EngineClass::Short {
            return;
        }
        let (engines, ended, cpu) = (Arc::downgrade(self), new.ended(), core.cpu);
        tokio::spawn(async move {
            ended.await;
            let Some(engines) = engines.upgrade() else { return };
            engines.cores.iter().filter(|core| core.cpu == cpu).for_each(Core::settle);
        });
    }

    async fn start(
        self: &Arc<Self>,
        cpu: u32,
        kind: ::engine::Kind,
        class: EngineClass,
    ) -> Result<Arc<EngineProcess>, PrepareError> {
        let failed = |error: io::Error| PrepareError::Sandbox(format!("no engine could be started: {error}"));
        let group = self.group("engine", engine::limits(0)).map_err(PrepareError::Cgroup)?;
        let entrances = group.as_ref().map(Group::entrances).transpose().map_err(PrepareError::Cgroup)?;
        let (socket, theirs) = os::seqpacket::pair().map_err(failed)?;
        let mut descriptors = vec![theirs.as_fd()];
        descriptors.extend(entrances.iter().flatten().map(AsFd::as_fd));
        let crew = match kind {
            ::engine::Kind::Wasm | ::engine::Kind::Process => Crew::Usual,
            ::engine::Kind::Kvm => Crew::Machines { limit_us: self.config.kvm_limit_us },
        };
        let for_long = class.is_long();
        let order =
            Make { id: 0, what: What::Engine { cpu: Some(cpu), crew, for_long }, outside: None, processes: None };
        let process = self.make(order, &descriptors).await.map_err(PrepareError::Sandbox)?;
        let engine = EngineProcess::new(socket, process, group).map_err(failed)?;
        tokio::spawn(end_when_idle(Arc::downgrade(&engine)));
        tokio::spawn(self.neighbours.clone().join(engine.clone()));
        Ok(engine)
    }
}

/// Ends an engine that had no instance twice in a row: at its own time where it holds items of a flow, whose steps
/// elsewhere may be slow.
async fn end_when_idle(engine: Weak<EngineProcess>) {
    let mut idle = 0;
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(engine) = engine.upgrade().filter(|engine| engine.is_alive()) else { return };
        idle = if engine.instances() == 0 { idle + 1 } else { 0 };
        match idle {
            0 | 1 => {}
            2..HELD_MAX => engine.tell(&ToEngine::Leave, &[]).await,
            // It has had a run's longest time, or is not to be believed.
            _ => return engine.kill(),
        }
    }
}

impl Backend for Pure {
    fn languages(&self) -> &[(Kind, Version)] {
        &self.languages
    }

    fn missing(&self) -> &[String] {
        &[]
    }

    fn prepare(&self, spec: TemplateSpec) -> Answer<'_, Result<Arc<dyn Template>, PrepareError>> {
        Box::pin(async move {
            let template = PureTemplate::prepare(self.engines.clone(), spec).await?;
            Ok(Arc::new(template) as Arc<dyn Template>)
        })
    }

    fn release(&self, run: [u8; 16], items: Option<&[(u32, u64)]>) {
        self.engines.neighbours.release(run, items);
    }

    fn check(&self, kind: Kind, code: Code) -> Answer<'_, Result<(), PrepareError>> {
        Box::pin(async move {
            let wanted = Wanted::of(kind, &code)?;
            let program = self.engines.program(&wanted);
            let (engine, _way) = self.engines.engine_for(wanted.engine, EngineClass::Short, None).await?;
            program.load_into(&engine, &wanted).await
        })
    }
}
