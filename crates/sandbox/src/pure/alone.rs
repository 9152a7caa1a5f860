//! A program compiled and run once, for a person and without a worker: `lichen run FILE.wasm`.
//!
//! ```text
//! caller ──fork──▶ compiler  code ─▶ artefact          each confined as engines are: user, root, network, processes of its
//!        ──fork──▶ runner    artefact, inputs ─▶ report    own, a filter; both end with the caller
//! ```
//!
//! The runner inherits its inputs by the fork, and its caller's standard streams, which the program reads and writes as it
//! goes. Its report is read when it has ended, and is checked like any message of a stranger. No cgroup limits it: its
//! memory is what the engine gives the program.

use super::confine::{self, confine};
use super::message::{Crew, Make, What};
use super::{FIRST_ID, IDS, IDS_OF_A_UNIT, compile, policy};
use crate::spec::Kind;
use ::engine::{Artefact, Blob, Folder, Limits, LoadError, Prepared, Run, RunError, SelfTestError, Stop, Streams};
use bytes::Bytes;
use os::idmap::{self, Range};
use os::ns::Kinds;
use os::process::{self, End};
use os::seccomp::Filter;
use serde::{Deserialize, Serialize};
use sets::{Sets, wire};
use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Users of these processes: above those of all units' engines.
const UNITS: u32 = 256;
/// Bytes of a report, outputs and text together.
const REPORT_MAX: u64 = 2 << 30;
/// Bytes of stack of the thread that computes: programs have their own.
const STACK: usize = 8 << 20;
/// Bytes of a reason.
const REASON_MAX: u64 = 16 << 10;

/// Why nothing came of it. What a program itself does wrong is no such error: see [`Left::failed`].
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    #[error("its process could not be made")]
    Process(#[source] io::Error),
    #[error("the processes' system call filter is not accepted")]
    Filter(#[source] os::seccomp::FilterError),
    #[error("its file cannot be used")]
    File(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("what was compiled is not for this machine any more")]
    Stale,
    #[error("its process ended before it was done ({0})")]
    Ended(String),
    #[error("what its process has left cannot be understood")]
    Report,
}

/// What to run, and with what.
#[derive(Debug)]
pub struct Order {
    pub inputs: Sets<Vec<u8>>,
    pub folders: Vec<Folder>,
    /// The program's name first.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub limits: Limits,
    pub timeout: Duration,
}

/// What a program has left.
#[derive(Debug)]
pub struct Left {
    pub failed: Option<Failed>,
    pub outputs: Sets<Bytes>,
}

/// How a program failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Where it has ended by itself.
    pub exit: Option<i32>,
    pub message: String,
    /// Whether the platform is to blame.
    pub is_platforms: bool,
}

/// Before the outputs in a report.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Done,
    Failed(Failed),
    /// The artefact is not for this engine.
    Stale,
}

/// Where programs are compiled and run: makes the processes.
pub struct Alone {
    stage: PathBuf,
    filter: Filter,
}

impl Alone {
    /// `stage` is a folder that the processes may cover with their root. The calling process must have one thread whenever
    /// it asks for something.
    pub fn new(stage: &Path) -> Result<Self, AloneError> {
        Ok(Self { stage: stage.to_owned(), filter: policy::ENGINE.compile().map_err(AloneError::Filter)? })
    }

    /// Makes the artefact of this code.
    pub fn compile(&self, kind: Kind, code: File, artefact: &File) -> Result<(), AloneError> {
        let (report, its_report) = io::pipe().map_err(AloneError::Process)?;
        let artefact = artefact.try_clone().map_err(AloneError::File)?;
        let given = vec![code.into(), artefact.into(), its_report.into()];
        let end = self.confined(What::Compiler { kind }, given, |given, _| {
            let Ok([code, artefact, report]) = <[OwnedFd; 3]>::try_from(given) else { return 1 };
            compile::run(kind, code, artefact, report)
        })?;
        let mut reason = Vec::new();
        report.take(REASON_MAX).read_to_end(&mut reason).map_err(AloneError::Process)?;
        match end {
            End::Exit(0) => Ok(()),
            _ if !reason.is_empty() => Err(AloneError::Refused(String::from_utf8_lossy(&reason).into_owned())),
            end => Err(AloneError::Ended(format!("{end:?}"))),
        }
    }

    /// Runs it, with the calling process's standard streams.
    pub fn run(&self, artefact: File, order: &Order) -> Result<Left, AloneError> {
        let report = rustix::fs::memfd_create("report", rustix::fs::MemfdFlags::CLOEXEC);
        let report = File::from(report.map_err(|error| AloneError::Process(error.into()))?);
        let its_report = report.try_clone().map_err(AloneError::Process)?;
        let streams =
            [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()].map(|one| one.try_clone_to_owned());
        let [input, output, errors] = streams;
        let terminals = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
        let given = [Ok(artefact.into()), Ok(its_report.into()), input, output, errors];
        let given = given.into_iter().collect::<io::Result<_>>().map_err(AloneError::Process)?;
        let end =
            self.confined(What::Engine { cpu: None, crew: Crew::Usual, for_long: false }, given, |given, prepared| {
                let Ok([artefact, report, streams @ ..]) = <[OwnedFd; 5]>::try_from(given) else { return 1 };
                // A thread of its own: what a run leaves on its stack is wiped, and only of such a stack the bounds are known.
                let run = move || {
                    let streams = Streams { descriptors: streams.each_ref().map(AsFd::as_fd), terminals };
                    let (head, outputs) = run_here(prepared, artefact.into(), order, streams);
                    i32::from(write_report(report.into(), &head, &outputs).is_err())
                };
                std::thread::scope(|scope| {
                    let compute = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
                    compute.ok().and_then(|compute| compute.join().ok()).unwrap_or(101)
                })
            })?;
        match end {
            End::Exit(0) => read_report(report),
            end => Err(AloneError::Ended(format!("{end:?}"))),
        }
    }

    /// Has a process of its own do something, which is given only these descriptors, and waits for its end.
    fn confined(
        &self,
        what: What,
        given: Vec<OwnedFd>,
        life: impl FnOnce(Vec<OwnedFd>, Option<Prepared>) -> i32,
    ) -> Result<End, AloneError> {
        let (its_mapped, tell_mapped) = io::pipe().map_err(AloneError::Process)?;
        let outside = rustix::process::geteuid().is_root().then(|| {
            let number = std::process::id() % (IDS_OF_A_UNIT / IDS);
            FIRST_ID + UNITS * IDS_OF_A_UNIT + number * IDS
        });
        let make = Make { id: 0, what, outside, processes: Some(64) };
        let mut ends = Some((given, its_mapped, tell_mapped));
        let (pid, _process) = process::fork_unit(Kinds::WITHOUT_CGROUP, || {
            let Some((given, its_mapped, tell_mapped)) = ends.take() else { return 1 };
            drop(tell_mapped);
            self.begin(&make, given, its_mapped, life)
        })
        .map_err(AloneError::Process)?;
        let Some((given, its_mapped, tell_mapped)) = ends.take() else { return Err(AloneError::Report) };
        drop((given, its_mapped));
        let mapped = map(pid, outside, tell_mapped);
        let end = process::wait(pid).map_err(AloneError::Process)?;
        mapped.map_err(AloneError::Process)?;
        Ok(end)
    }

    fn begin(
        &self,
        make: &Make,
        given: Vec<OwnedFd>,
        mut mapped: PipeReader,
        life: impl FnOnce(Vec<OwnedFd>, Option<Prepared>) -> i32,
    ) -> i32 {
        if !matches!(mapped.read(&mut [0]), Ok(1)) {
            return 1;
        }
        drop(mapped);
        // Its engine has descriptors of its own from now on.
        let stderr = io::stderr();
        process::close_all_but(&given.iter().map(|one| one as &dyn AsRawFd).chain([&stderr as _]).collect::<Vec<_>>());
        let prepared = matches!(make.what, What::Engine { .. }).then(|| ::engine::prepare(::engine::Crew::Usual));
        if let Err((step, error)) = confine(make, &self.stage, &self.filter, Vec::new()) {
            let _ = writeln!(io::stderr(), "lichen: the program's process could not {step}: {error}");
            return 1;
        }
        life(given, prepared)
    }
}

/// Tells the process who it is.
fn map(pid: i32, outside: Option<u32>, mut tell: PipeWriter) -> io::Result<()> {
    match outside {
        Some(outside) => {
            let range = [Range { inside: 0, outside, count: confine::ID + 1 }];
            idmap::write(pid, &range, &range, false)?;
        }
        None => {
            let uid = [Range { inside: confine::ID, outside: rustix::process::geteuid().as_raw(), count: 1 }];
            let gid = [Range { inside: confine::ID, outside: rustix::process::getegid().as_raw(), count: 1 }];
            idmap::write(pid, &uid, &gid, true)?;
        }
    }
    tell.write_all(b"m")
}

/// In the runner.
fn run_here(prepared: Option<Prepared>, artefact: File, order: &Order, streams: Streams<'_>) -> (Head, Sets<Blob>) {
    let nothing = |outcome| (Head { outcome }, Vec::new());
    let platforms = |message: String| nothing(Outcome::Failed(Failed { exit: None, message, is_platforms: true }));
    let made = prepared.map_or_else(|| Err(SelfTestError::Lacks("an engine".into())), Prepared::wasm);
    let mut engine = match made.and_then(|mut engine| engine.self_test().map(|()| engine)) {
        Ok(engine) => engine,
        Err(error) => return platforms(format!("no engine runs WebAssembly here: {error}")),
    };
    let mut program = match engine.load(&Artefact { kind: ::engine::Kind::Wasm, file: artefact }) {
        Ok(program) => program,
        Err(LoadError::Stale { .. } | LoadError::Damaged(_)) => return nothing(Outcome::Stale),
        Err(error) => return platforms(error.to_string()),
    };
    let stop = match Stop::new() {
        Ok(stop) => stop,
        Err(error) => return platforms(format!("it cannot be stopped: {error}")),
    };
    let inputs = order.inputs.iter().map(|set| set.clone().map(Blob::from)).collect::<Vec<_>>();
    let finished = program.run(&Run {
        inputs: &inputs,
        outputs: &[],
        folders: &order.folders,
        arguments: &order.arguments,
        environment: &order.environment,
        stdin: None,
        streams: Some(streams),
        limits: order.limits,
        deadline: Instant::now() + order.timeout,
        stop: &stop,
        deterministic: false,
    });
    match finished.outcome {
        Ok(outputs) => (Head { outcome: Outcome::Done }, outputs),
        Err(error) => nothing(Outcome::Failed(Failed::of(&error))),
    }
}

impl Failed {
    fn of(error: &RunError) -> Self {
        let exit = if let RunError::Exit(code) = error { Some(*code) } else { None };
        Self { exit, message: error.to_string(), is_platforms: error.is_platforms() }
    }
}

/// The head's length, the head, the outputs.
fn write_report(mut report: File, head: &Head, outputs: &Sets<Blob>) -> io::Result<()> {
    let head = postcard::to_stdvec(head).map_err(io::Error::other)?;
    report.write_all(&(head.len() as u64).to_le_bytes())?;
    report.write_all(&head)?;
    let borrowed: Sets<&[u8]> =
        outputs.iter().map(|set| sets::Set::new(&set.name, set.items.iter().map(borrow).collect())).collect();
    let mut written = Ok(());
    let encoded = wire::encode_parts(&borrowed, |part| {
        if written.is_ok() {
            written = report.write_all(part);
        }
    });
    encoded.map_err(io::Error::other)?;
    written
}

fn borrow(item: &sets::Item<Blob>) -> sets::Item<&[u8]> {
    sets::Item::new(&item.name, item.key, item.data.as_ref())
}

/// Nobody writes it any more: all processes of its namespace have ended with the first one.
fn read_report(mut report: File) -> Result<Left, AloneError> {
    let length = report.seek(SeekFrom::End(0)).map_err(AloneError::Process)?;
    if length > REPORT_MAX {
        return Err(AloneError::Report);
    }
    report.seek(SeekFrom::Start(0)).map_err(AloneError::Process)?;
    let mut bytes = Vec::with_capacity(length as usize);
    report.take(length).read_to_end(&mut bytes).map_err(AloneError::Process)?;
    understand(bytes.into()).ok_or(AloneError::Report)?
}

fn understand(report: Bytes) -> Option<Result<Left, AloneError>> {
    let (length, rest) = report.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= rest.len())?;
    let head: Head = postcard::from_bytes(&rest[..length]).ok()?;
    let failed = match head.outcome {
        Outcome::Done => None,
        Outcome::Failed(failed) => Some(failed),
        Outcome::Stale => return Some(Err(AloneError::Stale)),
    };
    let limits = sets::Limits { sets: 4096, items: 1 << 20, bytes: REPORT_MAX };
    let outputs = wire::decode(&report.slice(8 + length..), limits).ok()?;
    let inline = |set: sets::Set<wire::Data<Bytes>>| {
        let items = set.items.into_iter().map(|item| match item.data {
            wire::Data::Inline(data) => Some(sets::Item::new(item.name, item.key, data)),
            wire::Data::Held(_) => None,
        });
        items.collect::<Option<Vec<_>>>().map(|items| sets::Set::new(set.name, items))
    };
    let outputs = outputs.into_iter().map(inline).collect::<Option<Sets<Bytes>>>()?;
    Some(Ok(Left { failed, outputs }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(head: &Head, outputs: &Sets<Blob>) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        write_report(file.try_clone().unwrap(), head, outputs).unwrap();
        let mut bytes = Vec::new();
        (&file).seek(SeekFrom::Start(0)).unwrap();
        (&file).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn reports_are_read_as_written_and_others_refused() {
        let head = Head { outcome: Outcome::Done };
        let item = sets::Item::new("a%2Fb", 0, Blob::from(b"data".to_vec()));
        let bytes = report(&head, &vec![sets::Set::new("s", vec![item])]);
        let left = understand(bytes.clone().into()).unwrap().unwrap();
        assert_eq!(left.failed, None);
        assert_eq!(left.outputs[0].items[0].data, "data");
        for end in 0..bytes.len() {
            assert!(understand(Bytes::copy_from_slice(&bytes[..end])).is_none(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x80;
            // Whatever it is taken for, it is bounded and breaks nothing.
            let _ = understand(broken.into());
        }
    }
}
