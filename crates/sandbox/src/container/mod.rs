//! Containers, started by container fork: the backend for language runtimes.
//!
//! ```text
//! worker ─┬─ nursery                                     makes sandboxes
//!         └─ sandbox: namespaces, cgroup, root           one per template
//!            ├─ init (1)                                 makes slots, reaps, reports
//!            ├─ template                                 a language runtime at its fork point
//!            ├─ slot: namespaces, cgroup, /tmp …         one per instance
//!            │  ├─ slot's init (1)
//!            │  └─ instance (2)                          forked from the template into the slot
//!            └─ slot …                                   ready, waiting
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `language` | the interpreters of this machine |
//! | `root` | what sandboxes see of the file system |
//! | `policy` | which system calls functions may make |
//! | `nursery` `init` `slot` | the processes that make the above, from the outside in |
//! | `message` | what they say to each other |
//! | `template` `pool` `instance` | the seam's types and a template's slots, in the worker |
//! | `egress` | the way out of those that may leave |

mod egress;
mod init;
mod instance;
mod language;
mod message;
mod nursery;
mod policy;
mod pool;
mod root;
mod slot;
mod template;

use crate::config::Sdk;
use crate::conversation::Conversation;
use crate::nursery::Said;
use crate::spec::{Kind, TemplateSpec, Version};
use crate::{Answer, Backend, PrepareError, Template};
use egress::WayOut;
pub use language::{Interpreter, find as find_interpreter};
use message::{Ids, MakeSandbox};
use net::egress::resolver::Resolver;
use os::cgroup::{Bounds, Tree, TreeError};
use os::idmap;
use os::ns::{self, Kinds};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};

/// The first user id of the first sandbox, where the worker is root: far above those of people and packages.
const FIRST_ID: u32 = 1 << 28;
/// Sandboxes that have ids of their own at the same time: on the first unit, and on each further one.
const ID_RANGES: u64 = 16_384;
const ID_RANGES_OF_OTHERS: u64 = 512;

/// How often, and after which pauses, the control groups of a worker that was killed are looked for.
const SWEEPS: u32 = 200;
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// Where things are on this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An empty folder, to stage the root on.
    pub stage: PathBuf,
    /// The folder of `liblichen_python.so`, `liblichen_node.so` and `lichen_provided`.
    pub libraries: PathBuf,
    /// Where AWS's SDKs are, or will be.
    pub sdk: Sdk,
    /// Interpreters that are not on the PATH.
    pub interpreters: Vec<PathBuf>,
    pub unit: Unit,
}

/// Where sandboxes find the folder of their shim's socket.
pub const SHIM: &str = "/run/lichen";

/// The processing unit for which containers are made, where that is a part of this machine.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Units of one machine have numbers of their own, and so user ids of their own for their sandboxes.
    pub number: u8,
    /// The folder of the socket at which its processes attach to their shim: shown in sandboxes as [`SHIM`].
    pub shim: Option<PathBuf>,
    /// Why there is no way out of it; nothing where there is one.
    pub no_egress: Option<String>,
    /// What else cannot be enforced there, in sentences for people.
    pub missing: Vec<String>,
}

/// Why containers cannot be made here.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("containers must be prepared before the process has a second thread")]
    Threads,
    #[error(
        "no namespaces: this user may not make them (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
    )]
    Namespaces(#[source] io::Error),
    #[error(transparent)]
    Root(#[from] root::RootError),
    #[error(transparent)]
    Nursery(#[from] nursery::NurseryError),
}

/// What has to be done while the process has one thread: the ground on which [`Containers`] is built.
#[derive(Debug)]
pub struct Ground {
    nursery: OwnedFd,
    interpreters: Vec<Interpreter>,
    tree: Result<Tree, TreeError>,
    single_user: bool,
    resolver: Resolver,
    unit: Unit,
}

impl Ground {
    /// Moves the calling process into namespaces of its own, stages the root, and starts the nursery. The process must
    /// have one thread.
    pub fn prepare(settings: &Settings) -> Result<Self, OpenError> {
        if cfork::forkpoint::threads() != 1 {
            return Err(OpenError::Threads);
        }
        let tree = Tree::create().map(weighted);
        let single_user = !rustix::process::geteuid().is_root();
        if single_user {
            become_root_of_one().map_err(OpenError::Namespaces)?;
        }
        ns::unshare(Kinds::MOUNT).map_err(OpenError::Namespaces)?;
        os::mount::make_private().map_err(OpenError::Namespaces)?;
        let found =
            [Kind::Python, Kind::Node].into_iter().flat_map(|kind| language::find(kind, &settings.interpreters));
        let interpreters: Vec<_> = found.chain(language::native(&settings.libraries)).collect();
        let resolver = Resolver::of_this_host();
        root::build(&settings.stage, &interpreters, settings, &resolver.text)?;
        // SAFETY: one thread, as seen above; none is started here.
        let nursery = unsafe { nursery::start(settings.stage.clone()) }?;
        Ok(Self { nursery, interpreters, tree, single_user, resolver, unit: settings.unit.clone() })
    }
}

/// Gives all sandboxes together the weight of one process on each processor. A group as it is made has that of one on the whole
/// machine, and what waits in it while others work (an init that is to tell of an end, a template that is to fork) waits the
/// longer, the more processors there are. No more than that: gateway and worker compete with it.
fn weighted(mut tree: Tree) -> Tree {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    if let Err(error) = tree.bound(&Bounds { shares: Some(cores), ..Bounds::default() }) {
        tracing::info!(%error, "sandboxes weigh no more than one process, where processors are short");
    }
    tree
}

/// Gives an ordinary user a namespace in which it may make others: root there, itself outside.
fn become_root_of_one() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    ns::unshare(Kinds::USER)?;
    let own = |outside| [idmap::Range { inside: 0, outside, count: 1 }];
    idmap::write(std::process::id() as i32, &own(uid), &own(gid), true)
}

/// Removes the control groups of a worker that was killed, whose processes may still be ending.
async fn sweep(tree: Weak<Tree>) {
    for _ in 0..SWEEPS {
        match tree.upgrade() {
            Some(tree) if !tree.sweep() => {}
            _ => return,
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// The backend.
pub struct Containers {
    nursery: Conversation<MakeSandbox, Said>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Made>>>,
    interpreters: Vec<Interpreter>,
    languages: Vec<(Kind, Version)>,
    tree: Option<Arc<Tree>>,
    missing: Vec<String>,
    single_user: bool,
    unit: u8,
    way_out: WayOut,
    next: AtomicU64,
    /// The inits of all sandboxes ever made that may still live.
    inits: Mutex<Vec<OwnedFd>>,
    /// Told when the nursery is gone.
    lost: Notify,
}

type Made = Result<OwnedFd, String>;

impl Containers {
    /// The backend on its ground. Needs a tokio runtime.
    pub fn open(ground: Ground) -> io::Result<Arc<Self>> {
        let Unit { number, shim: _, no_egress, mut missing } = ground.unit;
        let tree = match ground.tree {
            Ok(tree) => Some(Arc::new(tree)),
            Err(error) => {
                missing.push(format!("memory and processor limits are not enforced: {error}"));
                None
            }
        };
        if ground.single_user {
            missing.push("network = \"egress\" needs root: instances have no network".to_owned());
        } else if let Some(why) = &no_egress {
            missing.push(format!("network = \"egress\" cannot be had: {why}"));
        }
        let containers = Arc::new(Self {
            nursery: Conversation::new(ground.nursery)?,
            waiting: Mutex::default(),
            languages: ground.interpreters.iter().map(|found| (found.kind, found.number())).collect(),
            interpreters: ground.interpreters,
            tree,
            missing,
            single_user: ground.single_user,
            unit: number,
            way_out: WayOut::new(ground.single_user, no_egress, ground.resolver),
            next: AtomicU64::new(0),
            inits: Mutex::default(),
            lost: Notify::new(),
        });
        let listener = Arc::downgrade(&containers);
        tokio::spawn(async move {
            while let Some(containers) = listener.upgrade() {
                match containers.nursery.hear().await {
                    Ok((Said::Made { id, result }, descriptors)) => containers.made(id, result, descriptors),
                    Ok((Said::Ended { .. }, _)) => {}
                    Err(_) => return containers.lost.notify_one(),
                }
            }
        });
        if let Some(tree) = &containers.tree {
            tokio::spawn(sweep(Arc::downgrade(tree)));
        }
        Ok(containers)
    }

    /// Where its groups are, and others of this worker may be; nothing where there can be none.
    pub fn tree(&self) -> Option<Arc<Tree>> {
        self.tree.clone()
    }

    /// Waits until the nursery is gone: then no sandbox can be made any more, and those that live are best ended.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Ends every sandbox at once, with all that runs in it.
    pub fn end_all(&self) {
        for init in self.inits.lock().unwrap_or_else(|e| e.into_inner()).drain(..) {
            let _ = os::pidfd::kill(&init);
        }
    }

    /// Notes a new sandbox, and forgets those that have ended.
    fn note(&self, init: &OwnedFd) {
        let mut inits = self.inits.lock().unwrap_or_else(|e| e.into_inner());
        inits.retain(|init| !os::pidfd::has_ended(init));
        inits.extend(init.try_clone());
    }

    /// Removes what containers leave on the host, once all are gone. Call it last.
    pub async fn close(&self) {
        self.way_out.close().await;
        let Some(tree) = &self.tree else { return };
        for _ in 0..400 {
            if tree.remove() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tracing::warn!(?tree, "cgroups could not be removed: processes are left in them");
    }

    fn made(&self, id: u64, result: Result<(), String>, descriptors: Vec<OwnedFd>) {
        let init = descriptors.into_iter().next().ok_or_else(|| "no descriptor of the init".to_owned());
        let waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner()).remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(result.and(init));
        }
    }

    /// Has the nursery make a sandbox.
    async fn make(&self, order: MakeSandbox, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> Made {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(|e| e.into_inner()).insert(order.id, tell);
        self.nursery.say(&order, descriptors).await.map_err(|e| e.to_string())?;
        told.await.map_err(|_| "the nursery is gone".to_owned())?
    }

    fn ids(&self, id: u64) -> Ids {
        if self.single_user {
            return Ids::Single;
        }
        let range = match u64::from(self.unit) {
            0 => id % ID_RANGES,
            unit => ID_RANGES + (unit - 1) * ID_RANGES_OF_OTHERS + id % ID_RANGES_OF_OTHERS,
        };
        Ids::Range(FIRST_ID + range as u32 * nursery::IDS)
    }

    async fn prepare(&self, spec: TemplateSpec) -> Result<Arc<dyn Template>, PrepareError> {
        let suits = |found: &&Interpreter| found.kind == spec.kind && spec.version.is(found.number());
        let interpreter = self.interpreters.iter().find(suits);
        let interpreter = interpreter
            .ok_or(PrepareError::Unsupported(spec.kind, "its interpreter is not on the PATH of `lichen serve`"))?;
        let egress = self.way_out.of(spec.network).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (init, init_theirs) = os::seqpacket::pair().map_err(|e| PrepareError::Sandbox(e.to_string()))?;
        let (control, control_theirs) = os::seqpacket::pair().map_err(|e| PrepareError::Sandbox(e.to_string()))?;
        let (log, log_theirs) = io::pipe().map_err(|e| PrepareError::Sandbox(e.to_string()))?;
        let shown =
            |folder: &PathBuf| os::mount::detached(folder).map_err(|error| PrepareError::Code(folder.clone(), error));
        let code = spec.function.as_ref().map(|code| shown(&code.folder)).transpose()?;
        let layers = spec.function.as_ref().and_then(|code| code.layers.as_ref()).map(shown).transpose()?;
        let group = match &self.tree {
            Some(tree) => Some(
                tree.group(&format!("template-{id}"), template::limits(spec.limits)).map_err(PrepareError::Cgroup)?,
            ),
            None => None,
        };
        let entrances = group.as_ref().map(|g| g.entrances()).transpose().map_err(PrepareError::Cgroup)?;
        let mut environment = interpreter.environment();
        if spec.kind == Kind::Provided {
            let interpreters = self.interpreters.iter().filter(|found| found.kind != Kind::Provided);
            let described = interpreters.map(Interpreter::described).collect::<serde_json::Value>();
            environment.push(format!("LICHEN_INTERPRETERS={described}"));
        }
        let order = MakeSandbox {
            id,
            ids: self.ids(id),
            tmp: spec.limits.tmp,
            has_code: code.is_some(),
            has_layers: layers.is_some(),
            arguments: interpreter.arguments(),
            environment,
            processes: self.tree.is_none().then_some(spec.limits.pids),
        };
        let mut descriptors = vec![init_theirs.as_fd(), control_theirs.as_fd(), log_theirs.as_fd()];
        descriptors.extend(code.iter().chain(&layers).map(AsFd::as_fd));
        descriptors.extend(entrances.iter().flatten().map(AsFd::as_fd));
        let process = self.make(order, &descriptors).await.map_err(PrepareError::Sandbox)?;
        self.note(&process);
        drop((init_theirs, control_theirs, log_theirs));
        let place = template::Place { id, tree: self.tree.clone(), group, process, log, egress };
        // A function's code may want to leave when it is loaded.
        if let Some(egress) = place.egress.as_ref().filter(|_| spec.function.is_some())
            && let Err(error) = egress::attach(egress, &place.process).await
        {
            template::clean_up(place).await;
            return Err(PrepareError::Attach(error));
        }
        template::ContainerTemplate::open(spec, place, init, control).await
    }
}

impl Backend for Containers {
    fn languages(&self) -> &[(Kind, Version)] {
        &self.languages
    }

    fn missing(&self) -> &[String] {
        &self.missing
    }

    fn prepare(&self, spec: TemplateSpec) -> Answer<'_, Result<Arc<dyn Template>, PrepareError>> {
        Box::pin(self.prepare(spec))
    }
}
