//! What belongs to one run: its files, streams, arguments, clocks, and how it ended.

use super::console::Console;
use super::memory_limit::MemoryLimit;
use super::preview1::Descriptors;
use super::watch;
use crate::files::text::Text;
use crate::files::{Answer, Budget, Errno, Files, NodeId, layout, tree};
use crate::{Arena, Blob, Run, RunError};
use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clocks are rounded to this: finer ones measure other people's runs.
const TICK: u64 = 1_000_000;
/// The time at which deterministic runs happen: 2025 begins.
const STANDSTILL: u64 = 1_735_689_600_000_000_000;

/// Strings that a guest gets one after the other, each with a NUL at its end.
#[derive(Debug, Default)]
pub struct Strings {
    pub bytes: Vec<u8>,
    pub starts: Vec<u32>,
}

impl Strings {
    fn push(&mut self, parts: &[&str]) -> Result<(), RunError> {
        let bad = |what: &str| RunError::BadInput(format!("an argument or variable {what}"));
        self.starts.push(u32::try_from(self.bytes.len()).map_err(|_| bad("is too long"))?);
        for part in parts {
            if part.bytes().any(|byte| byte == 0) {
                return Err(bad("has a NUL byte in it"));
            }
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
        Ok(())
    }
}

impl Strings {
    /// They were UTF-8 when they came.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len() as u32]);
        self.starts
            .iter()
            .zip(ends)
            .map(|(start, end)| String::from_utf8_lossy(&self.bytes[*start as usize..end as usize - 1]).into_owned())
    }
}

pub struct Context {
    pub files: Files,
    pub descriptors: Descriptors,
    /// Folders that are open from the beginning, by their names: the root, and those of `Run::folders`.
    pub given: Vec<(Cow<'static, str>, NodeId)>,
    pub stdin: Blob,
    pub stdin_at: usize,
    pub stdout: Text,
    pub stderr: Text,
    /// Instead of these three.
    pub console: Option<Console>,
    pub arguments: Strings,
    pub environment: Strings,
    pub memory: MemoryLimit,
    /// What a component has open.
    pub resources: wasmtime::component::ResourceTable,
    /// The guest's memory, once it is there.
    pub linear: Option<wasmtime::Memory>,
    /// How the run ended, where the guest said so or a limit did: 0 is well.
    pub end: Option<RunError>,
    deterministic: bool,
    /// Of deterministic runs: what they have waited.
    waited: u64,
    dice: u64,
    began: u64,
}

impl Context {
    pub fn new(run: &Run<'_>, arena: &Arena) -> Result<Self, RunError> {
        let now = if run.deterministic { STANDSTILL } else { wall() };
        let mut files = layout::lay_out(run, Budget::new(run.limits, arena.clone()), now)?;
        let mut given = vec![(Cow::Borrowed("/"), tree::ROOT)];
        for folder in run.folders {
            let found = files.find(tree::ROOT, folder.path.trim_matches('/').as_bytes(), false);
            given.extend(found.ok().and_then(|found| found.node).map(|id| (folder.path.clone().into(), id)));
        }
        given.iter().for_each(|(_, id)| files.open(*id));
        let (mut arguments, mut environment) = (Strings::default(), Strings::default());
        run.arguments.iter().try_for_each(|argument| arguments.push(&[argument]))?;
        run.environment.iter().try_for_each(|(name, value)| environment.push(&[name, "=", value]))?;
        let console = run.streams.map(Console::new).transpose();
        let console = console.map_err(|error| RunError::Start(format!("it cannot have its streams: {error}")))?;
        let may_answer = run.outputs.len() <= 1 && run.folders.is_empty();
        Ok(Self {
            files,
            descriptors: Descriptors::new(given.iter().map(|(_, id)| *id)),
            given,
            stdin: run.stdin.cloned().unwrap_or_default(),
            stdin_at: 0,
            stdout: if may_answer { Text::whole() } else { Text::default() },
            stderr: Text::default(),
            console,
            arguments,
            environment,
            memory: MemoryLimit::new(run.limits.memory),
            resources: super::component::resources(),
            linear: None,
            end: None,
            deterministic: run.deterministic,
            waited: 0,
            dice: 0,
            began: os::monotonic_ns(),
        })
    }

    /// Of an instance that waits for a run: nothing of any.
    pub fn nobodys(arena: &Arena) -> Self {
        Self {
            files: Files::none(arena.clone()),
            descriptors: Descriptors::none(),
            given: Vec::new(),
            stdin: Blob::default(),
            stdin_at: 0,
            stdout: Text::default(),
            stderr: Text::default(),
            console: None,
            arguments: Strings::default(),
            environment: Strings::default(),
            memory: MemoryLimit::new(u64::MAX),
            resources: super::component::resources(),
            linear: None,
            end: None,
            deterministic: true,
            waited: 0,
            dice: 0,
            began: 0,
        }
    }

    /// Nanoseconds since 1970.
    pub fn wall_clock(&self) -> u64 {
        if self.deterministic { STANDSTILL + self.waited } else { wall() }
    }

    /// Nanoseconds since some time before.
    pub fn monotonic_clock(&self) -> u64 {
        if self.deterministic { self.waited } else { os::monotonic_ns() / TICK * TICK }
    }

    /// Nanoseconds that the run has used.
    pub fn run_clock(&self) -> u64 {
        if self.deterministic { self.waited } else { (os::monotonic_ns() - self.began) / TICK * TICK }
    }

    pub fn resolution() -> u64 {
        TICK
    }

    /// Fills in random bytes.
    pub fn random(&mut self, mut bytes: &mut [u8]) -> Answer<()> {
        while self.deterministic && !bytes.is_empty() {
            self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let number = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let (now, later) = bytes.split_at_mut(bytes.len().min(8));
            now.copy_from_slice(&(number ^ (number >> 31)).to_le_bytes()[..now.len()]);
            bytes = later;
        }
        while !bytes.is_empty() && watch::told().is_none() {
            let some = bytes.len().min(64 << 10);
            let flags = rustix::rand::GetRandomFlags::empty();
            let got = rustix::rand::getrandom(&mut bytes[..some], flags).map_err(|_| Errno::NotSupported)?;
            bytes = &mut bytes[got..];
        }
        Ok(())
    }

    /// Waits, unless the run is to end before.
    pub fn wait(&mut self, nanoseconds: u64) {
        if self.deterministic {
            self.waited = self.waited.saturating_add(nanoseconds);
            return;
        }
        let until = os::monotonic_ns().saturating_add(nanoseconds);
        while watch::told().is_none() {
            let left = Duration::from_nanos(until.saturating_sub(os::monotonic_ns()));
            let Ok(left) = rustix::time::Timespec::try_from(left) else { return };
            if (left.tv_sec, left.tv_nsec) == (0, 0) {
                return;
            }
            // A signal ends it early: the run's deadline, or somebody's wish.
            let _ = rustix::event::poll(&mut [], Some(&left));
        }
    }
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    since as u64 / TICK * TICK
}
