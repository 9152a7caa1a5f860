//! The code of a pure function: where it is, where what was made of it is, and that engines hold it no longer than it is
//! wanted.

use super::engine::{EngineError, EngineProcess};
use super::message::Terms;
use super::package::Package;
use super::{Engines, compile};
use crate::PrepareError;
use crate::spec::{Code, Kind, NativeEngine};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::Mutex;

/// What artefacts of a package's programs are called: a folder beside the package's.
const ARTEFACTS: &str = "artefacts";
/// Bytes of text that a run may leave on each of its streams.
const TEXT: u64 = 256 << 10;
/// A run may take so much longer than it has time for it, when others of its engine come first.
const DEFAULT_OUTPUT: u64 = 64 << 20;

/// A function's configuration, as far as engines have to know it: what `runtime::dispatch::spec` writes.
#[derive(serde::Deserialize)]
struct Config {
    function_name: String,
    handler: String,
    memory_mib: u32,
    timeout_s: u32,
    #[serde(default)]
    response_max: u64,
    #[serde(default)]
    environment: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    deterministic: bool,
    #[serde(default)]
    engine: NativeEngine,
}

/// What a function is, and what holds for its runs.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub kind: Kind,
    /// What runs it.
    pub engine: ::engine::Kind,
    pub folder: PathBuf,
    /// The file in it.
    pub file: String,
    pub terms: Terms,
    /// Files of the package that every run finds.
    pub sets: Option<Arc<OwnedFd>>,
}

impl Wanted {
    pub fn of(kind: Kind, code: &Code) -> Result<Self, PrepareError> {
        let malformed = |error: serde_json::Error| PrepareError::Sandbox(format!("its configuration: {error}"));
        let config: Config = serde_json::from_str(&code.config).map_err(malformed)?;
        let output_bytes = if config.response_max > 0 { config.response_max } else { DEFAULT_OUTPUT };
        let engine = match (kind, config.engine) {
            (Kind::Native, NativeEngine::Process) => ::engine::Kind::Process,
            (Kind::Native, NativeEngine::Kvm) => ::engine::Kind::Kvm,
            (_, NativeEngine::Process) => ::engine::Kind::Wasm,
            (_, NativeEngine::Kvm) => {
                let why = "the engine kvm runs native programs, and this is WebAssembly. Deploy it without";
                return Err(PrepareError::Refused(why.to_owned()));
            }
        };
        let package = Package::of(&code.folder)?;
        let itself = vec![config.handler.clone()];
        let terms = Terms {
            name: config.function_name,
            arguments: if package.arguments.is_empty() { itself } else { package.arguments },
            environment: config.environment.into_iter().collect(),
            outputs: config.outputs,
            timeout_ms: u64::from(config.timeout_s) * 1000,
            memory: u64::from(config.memory_mib) << 20,
            output_bytes,
            text_bytes: TEXT,
            deterministic: config.deterministic,
        };
        Ok(Self { kind, engine, folder: code.folder.clone(), file: config.handler, terms, sets: package.sets })
    }

    /// The code, which may be a link within its package, and never leads out of it.
    pub fn code(&self) -> Result<File, PrepareError> {
        let failed = |error: io::Error| PrepareError::Code(self.folder.join(&self.file), error);
        let folder = File::open(&self.folder).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let lacks = || PrepareError::Refused(format!("the package has no file {}", self.file));
        let code = match openat2(&folder, &self.file, flags, Mode::empty(), inside) {
            Ok(code) => File::from(code),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::NXIO) => return Err(lacks()),
            Err(error) => return Err(failed(error.into())),
        };
        if code.metadata().map_err(failed)?.is_file() { Ok(code) } else { Err(lacks()) }
    }

    /// Where what was made of it is, or will be.
    fn artefact(&self) -> PathBuf {
        let name = self.file.replace('%', "%25").replace('/', "%2F");
        let kind = if self.kind == Kind::Wasm { "wasm" } else { "native" };
        beside(&self.folder).join(format!("{name}.{kind}"))
    }
}

/// The folder of the artefacts of this package.
fn beside(package: &Path) -> PathBuf {
    package.with_extension(ARTEFACTS)
}

/// A program that functions use at present. Dropped, it is unloaded everywhere.
pub struct Program {
    pub id: u64,
    engine: ::engine::Kind,
    artefact: Mutex<Option<OwnedFd>>,
    engines: Weak<Engines>,
}

impl Program {
    pub fn new(id: u64, wanted: &Wanted, engines: Weak<Engines>) -> Self {
        Self { id, engine: wanted.engine, artefact: Mutex::default(), engines }
    }

    /// Has an engine load it. Code of which nothing was made yet, or for another machine, is made ready first.
    pub async fn load_into(&self, engine: &Arc<EngineProcess>, wanted: &Wanted) -> Result<(), PrepareError> {
        if engine.has(self.id) {
            return Ok(());
        }
        let mut artefact = self.artefact.lock().await;
        for attempt in 0..2 {
            let file = match artefact.take() {
                Some(file) => file,
                None => self.open(wanted, attempt > 0).await?,
            };
            match engine.load(self.id, self.engine, file.as_fd()).await {
                Ok(()) => {
                    *artefact = Some(file);
                    return Ok(());
                }
                Err(EngineError::NotLoaded(why)) if why.stale && attempt == 0 => {}
                Err(error) => return Err(PrepareError::Engine(error)),
            }
        }
        Err(PrepareError::Engine(EngineError::Silent))
    }

    async fn open(&self, wanted: &Wanted, anew: bool) -> Result<OwnedFd, PrepareError> {
        let path = wanted.artefact();
        if !anew && let Ok(file) = File::open(&path) {
            return Ok(file.into());
        }
        let Some(engines) = self.engines.upgrade() else { return Err(PrepareError::Engine(EngineError::Gone)) };
        compile::make(&engines, wanted, &path).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(engines) = self.engines.upgrade() {
            engines.unload(self.id);
        }
    }
}
