//! Isolated places for functions, behind one seam.
//!
//! ```text
//! TemplateSpec ──Backend::prepare──▶ Template ──spawn──▶ Instance ──retire──▶ Usage
//!                pays once           one answer          speaks through its channel
//!                                    per start           with whoever made it
//! ```
//!
//! The life cycle is in the types: an instance comes only from a template, and its bill is what is left of it. The one
//! who asks for an instance makes its channel ([`interconnect::channel`]) and keeps the host's end, so that no daemon is
//! on the data path, and a request can wait in memory before its instance exists.
//!
//! [`container`] is the backend for language runtimes, [`pure`] the one for functions that only compute. What holds for every backend is tested in `tests/conformance`. Which function
//! runs where and when is decided above, in `runtime`.

pub mod config;
pub mod container;
pub mod conversation;
mod nursery;
pub mod pure;
pub mod spec;

use spec::{Code, End, Kind, StartSpec, TemplateSpec, Version};
use std::future::Future;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use thiserror::Error;

/// What an asynchronous method of the seam answers: boxed, so that backends can stand side by side.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One kind of isolation on one kind of processing unit.
pub trait Backend: Send + Sync {
    /// Which functions it runs: of each kind the versions, first the one for those who want no other.
    fn languages(&self) -> &[(Kind, Version)];
    /// What it cannot enforce on this machine, in sentences for people.
    fn missing(&self) -> &[String];
    /// Pays once for everything that can be paid once.
    fn prepare(&self, spec: TemplateSpec) -> Answer<'_, Result<Arc<dyn Template>, PrepareError>>;
    /// Looks at new code as far as it can before its first use: for kinds that are compiled, does that.
    fn check(&self, _kind: Kind, _code: Code) -> Answer<'_, Result<(), PrepareError>> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Items that it holds for a run of a flow are wanted no more, each named by its holder and its id; none: no item of the
    /// run, nor what may come of it yet.
    fn release(&self, _run: [u8; 16], _items: Option<&[(u32, u64)]>) {}
}

/// Several backends, each for its own kinds.
pub struct Backends {
    each: Vec<Arc<dyn Backend>>,
    languages: Vec<(Kind, Version)>,
    missing: Vec<String>,
}

impl Backends {
    pub fn new(each: Vec<Arc<dyn Backend>>) -> Self {
        let languages = each.iter().flat_map(|backend| backend.languages().to_vec()).collect();
        let missing = each.iter().flat_map(|backend| backend.missing().to_vec()).collect();
        Self { each, languages, missing }
    }

    fn of(&self, kind: Kind) -> Result<&Arc<dyn Backend>, PrepareError> {
        let runs = |backend: &&Arc<dyn Backend>| backend.languages().iter().any(|(known, _)| *known == kind);
        let missing = PrepareError::Unsupported(kind, "no backend of this worker runs them");
        self.each.iter().find(runs).ok_or(missing)
    }
}

impl Backend for Backends {
    fn languages(&self) -> &[(Kind, Version)] {
        &self.languages
    }

    fn missing(&self) -> &[String] {
        &self.missing
    }

    fn prepare(&self, spec: TemplateSpec) -> Answer<'_, Result<Arc<dyn Template>, PrepareError>> {
        match self.of(spec.kind) {
            Ok(backend) => backend.prepare(spec),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn release(&self, run: [u8; 16], items: Option<&[(u32, u64)]>) {
        self.each.iter().for_each(|backend| backend.release(run, items));
    }

    fn check(&self, kind: Kind, code: Code) -> Answer<'_, Result<(), PrepareError>> {
        match self.of(kind) {
            Ok(backend) => backend.check(kind, code),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// A function, or a language, ready to be forked.
pub trait Template: Send + Sync {
    /// What the language runtime says of itself (JSON, see `lang/README.md`).
    fn report(&self) -> &str;
    /// Keeps this many slots ready from now on.
    fn reserve(&self, slots: usize);
    /// The vectorized start: one answer per element; a failed one never fails its neighbour.
    fn spawn(&self, starts: Vec<Start>) -> Answer<'_, Vec<Result<Box<dyn Instance>, SpawnError>>>;
    /// Completes when the template can be used no more: it has crashed, or was discarded.
    fn ended(&self) -> Answer<'_, ()>;
    /// Drops the template, its slots and its instances.
    fn discard(&self);
}

/// One instance, running.
pub trait Instance: Send {
    /// A file from which its peak memory use can be read, where there is one.
    fn memory_gauge(&self) -> Option<BorrowedFd<'_>>;
    /// Ends it, whatever it does. [`Instance::ended`] follows.
    fn kill(&self);
    /// Completes when it has ended, however that came about.
    fn ended(&mut self) -> Answer<'_, End>;
    /// Ends it and leaves nothing behind. Its bill is the answer.
    fn retire(self: Box<Self>) -> Answer<'static, Usage>;
}

/// One instance to start, and what its starter has made for it.
#[derive(Debug)]
pub struct Start {
    pub spec: StartSpec,
    /// The guest's end of its channel.
    pub channel: interconnect::channel::Descriptors,
    /// Where its standard output and error go.
    pub log: OwnedFd,
}

/// What an instance has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, 0 where unknown.
    pub memory_peak: u64,
}

/// Why there is no template.
#[derive(Debug, Error)]
pub enum PrepareError {
    #[error("functions of kind {0:?} cannot be run here: {1}")]
    Unsupported(Kind, &'static str),
    #[error("the code folder {0} cannot be shown to a sandbox")]
    Code(std::path::PathBuf, #[source] std::io::Error),
    #[error("no cgroup for the template")]
    Cgroup(#[source] std::io::Error),
    #[error("network = \"egress\" needs root: run `lichen serve` as root, or the function without a network")]
    EgressNeedsRoot,
    #[error("network = \"egress\" cannot be had on this processing unit: {0}")]
    EgressClosed(Box<str>),
    #[error("network = \"egress\" cannot be had here")]
    Egress(#[source] net::egress::OpenError),
    #[error("the sandbox could not be given its way out")]
    Attach(#[source] net::egress::AttachError),
    #[error("the sandbox could not be made: {0}")]
    Sandbox(String),
    #[error("the template ended before its fork point{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Ended(String),
    #[error("the template was not at its fork point within {0} s")]
    Late(u64),
    #[error("children of this template would not be sound: {0}")]
    NotForkable(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Engine(pure::EngineError),
}

impl PrepareError {
    /// Whether another attempt would end in the same way.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Unsupported(..) | Self::EgressNeedsRoot | Self::EgressClosed(_) => true,
            Self::NotForkable(_) | Self::Refused(_) => true,
            Self::Engine(error) => matches!(error, pure::EngineError::Unsupported(..)),
            _ => false,
        }
    }
}

/// Why an instance was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("the template is gone")]
    TemplateGone,
    #[error("no slot could be made: {0}")]
    Slot(String),
    #[error("a slot could not be given its way out")]
    Attach(#[source] net::egress::AttachError),
    #[error("the code folder {0} cannot be shown to a sandbox")]
    Code(std::path::PathBuf, #[source] std::io::Error),
    #[error("its limits could not be set")]
    Limits(#[source] std::io::Error),
    #[error("the template did not fork")]
    Fork(#[source] std::io::Error),
    #[error("the template did not answer within {0} ms")]
    Silent(u64),
    #[error(transparent)]
    Engine(Box<PrepareError>),
}
