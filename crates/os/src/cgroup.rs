//! Control groups, version 1 (one hierarchy per controller) and version 2 (one for all).
//!
//! A [`Tree`] is the place where this process may make groups; a [`Group`] is one of them, in every hierarchy. Nothing is
//! ever moved by somebody else: the kernel makes such a move wait for a grace period, about 8 ms when none was lately. A
//! process enters by itself, writing "0" to each file of [`Group::entrances`].

mod room;

pub use room::{Room, room_of};

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
const PREFIX: &str = "lichen-";
/// The group, of a bounded place in version 2, in which its owner stands: there processes are in leaves only.
const LEAF: &str = "daemons";
const ROOT: &str = "/sys/fs/cgroup";
/// Microseconds after which a processor quota is renewed.
const PERIOD_US: u64 = 100_000;

/// Why no groups can be made.
#[derive(Debug, Error)]
pub enum TreeError {
    #[error("this kernel has no cgroup controller {0}, or it is not mounted below {ROOT}")]
    Absent(&'static str),
    #[error("groups below {0} may not be made by this user; run as root, or in a delegated scope")]
    Denied(PathBuf, #[source] io::Error),
}

/// What a group may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
}

/// What everything in a place may use together; nothing for no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub memory: Option<u64>,
    /// Numbers of processors, as `0-3,6`.
    pub cpus: Option<String>,
    /// As many shares of the processors' time, where it is short, as so many processes outside of any group have.
    pub shares: Option<u32>,
}

/// The place where this process makes groups. Removed, with what is empty below, when dropped.
#[derive(Debug)]
pub struct Tree {
    unified: bool,
    /// One folder per hierarchy: three, or one.
    folders: Vec<PathBuf>,
    /// The same in the hierarchy of processor sets, where there is one and the place is bounded.
    cpuset: Option<PathBuf>,
}

/// One group in every hierarchy.
#[derive(Debug)]
pub struct Group {
    unified: bool,
    folders: Vec<PathBuf>,
}

/// Where this process stands in each hierarchy.
fn own_groups() -> Result<(bool, Vec<PathBuf>), TreeError> {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let find = |controller: &str| {
        table.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|name| name == controller).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if CONTROLLERS.iter().all(|c| find(c).is_none()) {
        let own = find("").ok_or(TreeError::Absent("memory"))?;
        let own = Path::new(ROOT).join(own);
        // Beside the leaf of a bounded place, not below it.
        let place = if own.ends_with(LEAF) { own.parent().map(Path::to_owned) } else { None };
        return Ok((true, vec![place.unwrap_or(own)]));
    }
    let folder = |c: &'static str| {
        let own = find(c).ok_or(TreeError::Absent(c))?;
        let folder = Path::new(ROOT).join(c).join(own);
        if folder.is_dir() { Ok(folder) } else { Err(TreeError::Absent(c)) }
    };
    Ok((false, CONTROLLERS.into_iter().map(folder).collect::<Result<_, _>>()?))
}

/// A name that tells whose the groups are: a process id, and when that process started. Nothing where there is no such
/// process, or only what is left of it until its parent asks how it ended.
fn owner_name(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let (state, started) = (fields.next()?, fields.nth(18)?);
    (!matches!(state, "Z" | "X")).then(|| format!("{PREFIX}{pid}-{started}"))
}

impl Tree {
    /// Makes this process's place below the groups in which it stands. Places whose owners are gone are removed first.
    pub fn create() -> Result<Self, TreeError> {
        let (unified, parents) = own_groups()?;
        sweep(&parents);
        let name = owner_name(std::process::id()).ok_or(TreeError::Absent("memory"))?;
        let tree = Self { unified, folders: parents.iter().map(|parent| parent.join(&name)).collect(), cpuset: None };
        for (folder, parent) in tree.folders.iter().zip(&parents) {
            if unified {
                enable(parent).map_err(|error| TreeError::Denied(parent.clone(), error))?;
            }
            make(folder).map_err(|error| TreeError::Denied(parent.clone(), error))?;
            if unified {
                enable(folder).map_err(|error| TreeError::Denied(parent.clone(), error))?;
            }
        }
        Ok(tree)
    }

    /// Makes a group.
    pub fn group(&self, name: &str, limits: Limits) -> io::Result<Group> {
        let folders: Vec<PathBuf> = self.folders.iter().map(|folder| folder.join(name)).collect();
        for folder in &folders {
            make(folder)?;
        }
        let group = Group { unified: self.unified, folders };
        group.limit(limits)?;
        Ok(group)
    }
}

impl Tree {
    /// Bounds the place, and so whatever enters it.
    pub fn bound(&mut self, bounds: &Bounds) -> io::Result<()> {
        if let Some(memory) = bounds.memory {
            let files = match self.unified {
                true => ["memory.max", "memory.swap.max"],
                false => ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
            };
            fs::write(self.folders[0].join(files[0]), memory.to_string())?;
            let swap = if self.unified { 0 } else { memory };
            absent_is_fine(fs::write(self.folders[0].join(files[1]), swap.to_string()))?;
        }
        if let Some(shares) = bounds.shares {
            match self.unified {
                true => {
                    fs::write(self.folders[0].join("cpu.weight"), shares.saturating_mul(100).min(10_000).to_string())?
                }
                false => fs::write(self.folders[1].join("cpu.shares"), shares.saturating_mul(1024).to_string())?,
            }
        }
        bounds.cpus.as_ref().map_or(Ok(()), |cpus| self.confine(cpus))
    }

    /// Moves the calling process, which has one thread, into the place: what it starts from then on is in it too.
    pub fn enter(&self) -> io::Result<()> {
        if self.unified {
            let leaf = self.folders[0].join(LEAF);
            make(&leaf)?;
            return fs::write(leaf.join("cgroup.procs"), "0");
        }
        self.folders.iter().chain(&self.cpuset).try_for_each(|folder| fs::write(folder.join("tasks"), "0"))
    }

    /// Confines the place to some processors. In version 1 these have a hierarchy of their own, which may be missing.
    fn confine(&mut self, cpus: &str) -> io::Result<()> {
        if self.unified {
            let parent = self.folders[0].parent().map(|parent| parent.join("cgroup.subtree_control"));
            parent.map_or(Ok(()), |file| fs::write(file, "+cpuset"))?;
            return fs::write(self.folders[0].join("cpuset.cpus"), cpus);
        }
        let table = fs::read_to_string("/proc/self/cgroup")?;
        let own =
            table.lines().find_map(|line| line.split_once(":cpuset:").map(|(_, own)| own.trim_start_matches('/')));
        let Some(parent) = own.map(|own| Path::new(ROOT).join("cpuset").join(own)).filter(|parent| parent.is_dir())
        else {
            return Ok(());
        };
        sweep(std::slice::from_ref(&parent));
        let Some(folder) = self.folders[0].file_name().map(|name| parent.join(name)) else { return Ok(()) };
        make(&folder)?;
        self.cpuset = Some(folder.clone());
        fs::write(folder.join("cpuset.mems"), fs::read(parent.join("cpuset.mems"))?)?;
        fs::write(folder.join("cpuset.cpus"), cpus)
    }

    /// Removes what owners that have ended left beside this place, as far as it is empty; whether all of it is gone. Their
    /// processes may take a while to end.
    pub fn sweep(&self) -> bool {
        let parents: Vec<PathBuf> =
            self.folders.iter().chain(&self.cpuset).filter_map(|f| Some(f.parent()?.to_owned())).collect();
        sweep(&parents)
    }

    /// Removes the place with what is empty below; whether it is gone.
    pub fn remove(&self) -> bool {
        let folders = self.folders.iter().chain(&self.cpuset);
        folders.clone().for_each(|folder| remove_tree(folder));
        folders.clone().all(|folder| !folder.exists())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.remove();
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn enable(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.subtree_control"), "+memory +cpu +pids")
}

/// Removes the places of owners that have ended, in every hierarchy; whether none is left.
fn sweep(parents: &[PathBuf]) -> bool {
    let mut clean = true;
    for entry in parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|pid: u32| owner_name(pid).as_deref() != Some(name.as_str())) {
            remove_tree(&entry.path());
            clean &= !entry.path().exists();
        }
    }
    clean
}

/// Removes a folder of groups, as far as they are empty.
fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

impl Group {
    /// Files to which a process writes "0" to enter.
    pub fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        let name = if self.unified { "cgroup.procs" } else { "tasks" };
        self.folders.iter().map(|f| Ok(OpenOptions::new().write(true).open(f.join(name))?.into())).collect()
    }

    /// Sets what the group may use.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        let quota = u64::from(limits.cpu_millis) * PERIOD_US / 1000;
        if self.unified {
            self.write(0, "memory.max", limits.memory)?;
            let swap = self.write(0, "memory.swap.max", 0);
            self.write(0, "cpu.max", format_args!("{quota} {PERIOD_US}"))?;
            self.write(0, "pids.max", limits.pids)?;
            return absent_is_fine(swap);
        }
        // The limit with swap may at no time be below the one without: up it goes first, down it goes last.
        let _ = self.write(0, "memory.memsw.limit_in_bytes", limits.memory);
        self.write(0, "memory.limit_in_bytes", limits.memory)?;
        let swap = self.write(0, "memory.memsw.limit_in_bytes", limits.memory);
        self.write(1, "cpu.cfs_quota_us", quota)?;
        self.write(2, "pids.max", limits.pids)?;
        absent_is_fine(swap)
    }

    /// Has it weigh, where processors are short, as much as one of so many groups that weigh together what any other does.
    pub fn share(&self, of: u32) -> io::Result<()> {
        let one_of = |whole: u32, least: u32| (whole / of.max(1)).max(least);
        match self.unified {
            true => self.write(0, "cpu.weight", one_of(100, 1)),
            false => self.write(1, "cpu.shares", one_of(1024, 2)),
        }
    }

    fn write(&self, hierarchy: usize, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
        let path = self.folders[hierarchy].join(file);
        OpenOptions::new().write(true).open(path)?.write_all(value.to_string().as_bytes())
    }

    fn memory_file(&self, v1: &str, v2: &str) -> PathBuf {
        self.folders[0].join(if self.unified { v2 } else { v1 })
    }

    /// A descriptor from which the peak memory use, in bytes, can be read as text at offset 0, time and again.
    pub fn peak_gauge(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open(self.memory_file("memory.max_usage_in_bytes", "memory.peak"))?.into())
    }

    /// The peak memory use in bytes; 0 where the kernel does not tell.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.memory_file("memory.max_usage_in_bytes", "memory.peak"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// How many processes the kernel has ended here because memory ran out.
    pub fn out_of_memory_kills(&self) -> u64 {
        let text = fs::read_to_string(self.memory_file("memory.oom_control", "memory.events")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Removes the group; whether it is gone. It is not while processes are in it.
    pub fn remove(&self) -> bool {
        self.folders.iter().fold(true, |gone, folder| match fs::remove_dir(folder) {
            Ok(()) => gone,
            Err(error) => gone && error.kind() == io::ErrorKind::NotFound,
        })
    }
}

/// A kernel without swap accounting has no such file, and needs none.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory: 64 << 20, cpu_millis: 500, pids: 10 };

    /// One after the other: a process has one place.
    #[test]
    fn a_place_has_groups_and_bounds() {
        a_group_limits_and_goes_away();
        a_place_bounds_whoever_enters_it();
    }

    fn a_group_limits_and_goes_away() {
        let Ok(tree) = Tree::create() else {
            println!("skip: this machine lets us make no cgroups");
            return;
        };
        let group = tree.group("test-group", LIMITS).unwrap();
        group.limit(Limits { memory: 128 << 20, ..LIMITS }).unwrap();
        group.limit(Limits { memory: 32 << 20, ..LIMITS }).unwrap();
        for (of, expected) in [(1, ["1024", "100"]), (8, ["128", "12"]), (1_000_000, ["2", "1"]), (0, ["1024", "100"])]
        {
            group.share(of).unwrap();
            let file = if group.unified { "cpu.weight" } else { "cpu.shares" };
            let weight = fs::read_to_string(group.folders[usize::from(!group.unified)].join(file)).unwrap();
            assert_eq!(weight.trim(), expected[usize::from(group.unified)]);
        }
        assert_eq!(group.entrances().unwrap().len(), group.folders.len());
        assert_eq!(group.out_of_memory_kills(), 0);
        let folders = group.folders.clone();
        assert!(group.remove() && group.remove());
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    fn a_place_bounds_whoever_enters_it() {
        let Ok(mut tree) = Tree::create() else {
            println!("skip: this machine lets us make no cgroups");
            return;
        };
        let bounds = Bounds { memory: Some(256 << 20), cpus: Some("0".to_owned()), shares: Some(2) };
        if tree.unified {
            println!("skip: version 2 moves processes as a whole, and this one has other tests");
            return;
        }
        tree.bound(&bounds).unwrap();
        let limit = fs::read_to_string(tree.folders[0].join("memory.limit_in_bytes")).unwrap();
        assert_eq!(limit.trim(), (256 << 20).to_string());
        if let Some(cpuset) = &tree.cpuset {
            assert_eq!(fs::read_to_string(cpuset.join("cpuset.cpus")).unwrap().trim(), "0");
        }
        assert_eq!(fs::read_to_string(tree.folders[1].join("cpu.shares")).unwrap().trim(), "2048");
        let place = tree.folders[0].file_name().unwrap().to_string_lossy().into_owned();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // This thread alone, which ends.
                tree.enter().unwrap();
                let group = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
                assert!(group.lines().any(|line| line.contains(":memory:") && line.ends_with(&place)), "{group}");
            });
        });
        while !tree.remove() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_owner_of_a_place_is_told_from_its_successor() {
        let own = owner_name(std::process::id()).unwrap();
        assert!(own.starts_with(&format!("lichen-{}-", std::process::id())));
        assert_eq!(owner_name(u32::MAX), None);
    }
}
