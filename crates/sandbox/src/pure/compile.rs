//! Code made ready for engines: by a process of its own, confined as an engine is, bounded in memory and time.
//!
//! What it makes lies in a file beside the package, and appears there whole. Code that is not valid is refused with the
//! reason; a compiler that is broken by what it was given can write a wrong artefact for that code, and do nothing else.

use super::lanes::{Over, PATIENCE, Turn};
use super::message::{Make, What};
use super::program::Wanted;
use super::{Engines, engine};
use crate::PrepareError;
use crate::spec::Kind;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::unix::AsyncFd;

/// Bytes of memory that it may take.
const MEMORY: u64 = 2 << 30;
/// Bytes of code.
const CODE_MAX: u64 = 256 << 20;
/// Bytes of a reason.
const REASON_MAX: u64 = 16 << 10;
/// Its exit status when it has said why not.
const REFUSED: i32 = 3;

/// Is the compiler: its exit status.
pub(super) fn run(kind: Kind, code: OwnedFd, artefact: OwnedFd, report: OwnedFd) -> i32 {
    let refuse = |reason: &str| {
        let _ = File::from(report).write_all(reason.as_bytes());
        REFUSED
    };
    let mut bytes = Vec::new();
    if let Err(error) = File::from(code).take(CODE_MAX + 1).read_to_end(&mut bytes) {
        return refuse(&format!("the code cannot be read: {error}"));
    }
    if bytes.len() as u64 > CODE_MAX {
        return refuse(&format!("the code has more than {CODE_MAX} bytes"));
    }
    let kind = if kind == Kind::Wasm { ::engine::Kind::Wasm } else { ::engine::Kind::Process };
    // Compilers recurse: on a stack of their own size.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(move || ::engine::compile(kind, &bytes));
    let compiled = match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(compiled)) => compiled,
        Ok(Err(_)) => return refuse("the compiler failed at this code"),
        Err(error) => return refuse(&format!("the compiler has no thread: {error}")),
    };
    match compiled {
        Err(error) => refuse(&error.to_string()),
        Ok(made) => match File::from(artefact).write_all(&made) {
            Ok(()) => 0,
            Err(error) => refuse(&format!("the artefact cannot be written: {error}")),
        },
    }
}

/// Makes the artefact of this code, at `path`.
pub(super) async fn make(engines: &Engines, wanted: &Wanted, path: &Path) -> Result<OwnedFd, PrepareError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let failed = |error: io::Error| PrepareError::Sandbox(format!("its artefact could not be made: {error}"));
    let code = wanted.code()?;
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let staged = folder.join(format!(".new-{}-{id}", std::process::id()));
    let artefact = File::create_new(&staged).map_err(failed)?;
    let made = compiled(engines, wanted.kind, &code, &artefact).await;
    let named = made.and_then(|()| std::fs::rename(&staged, path).map_err(failed));
    if let Err(error) = named {
        let _ = std::fs::remove_file(&staged);
        return Err(error);
    }
    Ok(File::open(path).map_err(failed)?.into())
}

/// How a compiler that was not in its own code's way has ended.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    Well,
    /// It was stopped, as others were waiting: it is to begin again.
    Aside,
}

async fn compiled(engines: &Engines, kind: Kind, code: &File, artefact: &File) -> Result<(), PrepareError> {
    let failed = |error: io::Error| PrepareError::Sandbox(format!("its files could not be used again: {error}"));
    let mut turn = engines.compiling.soon().await;
    while attempt(engines, kind, code, artefact, turn).await? == Went::Aside {
        // The compiler's descriptors share their places in these files.
        [code, artefact].into_iter().try_for_each(|mut file| file.rewind()).map_err(failed)?;
        artefact.set_len(0).map_err(failed)?;
        turn = engines.compiling.long().await;
    }
    Ok(())
}

/// A compiler, for as long as its turn is.
async fn attempt(
    engines: &Engines,
    kind: Kind,
    code: &File,
    artefact: &File,
    turn: Turn<'_>,
) -> Result<Went, PrepareError> {
    let failed = |error: io::Error| PrepareError::Sandbox(format!("the compiler could not be started: {error}"));
    let group = engines.group("compiler", engine::limits(MEMORY)).map_err(failed)?;
    let (report, its_report) = io::pipe().map_err(failed)?;
    let entrances = group.as_ref().map(|group| group.entrances()).transpose().map_err(failed)?;
    let mut descriptors = vec![code.as_fd(), artefact.as_fd(), its_report.as_fd()];
    descriptors.extend(entrances.iter().flatten().map(AsFd::as_fd));
    let order = Make { id: 0, what: What::Compiler { kind }, outside: None, processes: None };
    let result = match engines.make(order, &descriptors).await {
        Ok(made) => {
            drop(its_report);
            said(made.process, report, turn).await
        }
        Err(reason) => Err(PrepareError::Sandbox(reason)),
    };
    let out_of_memory = group.as_ref().is_some_and(|group| group.out_of_memory_kills() > 0);
    if let Some(group) = &group {
        super::remove(group).await;
    }
    if out_of_memory {
        let reason = format!("compiling it takes more than {} MiB of memory", MEMORY >> 20);
        return Err(PrepareError::Refused(reason));
    }
    // An empty one is what a compiler leaves that was ended.
    let is_empty = artefact.metadata().map_or(true, |meta| meta.len() == 0);
    match result {
        Ok(Went::Well) if is_empty => {
            Err(PrepareError::Refused("the compiler ended in the middle of this code".to_owned()))
        }
        result => result,
    }
}

/// Waits for the compiler's end: what it has said.
async fn said(process: OwnedFd, report: io::PipeReader, mut turn: Turn<'_>) -> Result<Went, PrepareError> {
    let process = AsyncFd::new(process).map_err(|error| PrepareError::Sandbox(error.to_string()))?;
    let over = tokio::select! {
        biased;
        _ = process.readable() => None,
        over = turn.over() => Some(over),
    };
    if let Some(over) = over {
        let _ = os::pidfd::kill(process.get_ref());
        let _ = process.readable().await;
        return match over {
            Over::InTheWay => Ok(Went::Aside),
            Over::TooLong => {
                Err(PrepareError::Refused(format!("compiling it takes longer than {} s", PATIENCE.as_secs())))
            }
        };
    }
    let mut reason = String::new();
    // All its writers are gone. What they wrote is not theirs to choose alone, so only what is text is shown.
    let mut bytes = Vec::new();
    let _ = report.take(REASON_MAX).read_to_end(&mut bytes);
    reason.push_str(&String::from_utf8_lossy(&bytes));
    if reason.is_empty() { Ok(Went::Well) } else { Err(PrepareError::Refused(reason)) }
}
