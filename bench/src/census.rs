//! What a node consists of at a moment, as the kernel tells it: processes, memory, descriptors, cgroups, mounts.
//!
//! ```text
//! lichen ─┬─ lichen-gateway
//!         └─ lichen-worker ── lichen-nursery ─┬─ lichen-init ─┬─ python3 (template: one pid namespace down)
//!                                             │               ├─ lichen-slot (a slot's first process)
//!                                             │               └─ python3 (instance: two pid namespaces down)
//!                                             └─ …
//! ```

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What the kernel tells times in, of a second: the same everywhere.
const TICKS: f64 = 100.0;

/// What a process is to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Supervisor,
    Gateway,
    Worker,
    Nursery,
    /// The first process of a template's sandbox.
    Init,
    Template,
    /// The first process of a slot, occupied or not.
    Slot,
    /// An interpreter in a slot, or what it has started.
    Instance,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub part: Part,
    /// Its pid namespace, by the kernel's number.
    pub namespace: u64,
}

/// All processes of a node.
#[derive(Clone, Debug, Default)]
pub struct Census {
    pub processes: Vec<Process>,
}

impl Census {
    /// The processes that descend from `supervisor`, and it.
    pub fn take(supervisor: u32) -> Self {
        let outer = depth(supervisor);
        let mut processes = Vec::new();
        for pid in descend(supervisor) {
            // One that ends meanwhile is not counted.
            if let (Some(part), Some(namespace)) = (part(pid, supervisor, outer), namespace(pid)) {
                processes.push(Process { pid, part, namespace });
            }
        }
        Self { processes }
    }

    pub fn of(&self, part: Part) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.part == part)
    }

    /// For each instance the memory of all processes in its slot, in MiB: its share of pages by the number of those who
    /// share them (PSS).
    pub fn instances_mib(&self) -> Vec<f64> {
        let mut slots: HashMap<u64, f64> = HashMap::new();
        let mut occupied = Vec::new();
        for process in &self.processes {
            if matches!(process.part, Part::Slot | Part::Instance) {
                *slots.entry(process.namespace).or_default() += pss_mib(process.pid);
            }
            if process.part == Part::Instance && !occupied.contains(&process.namespace) {
                occupied.push(process.namespace);
            }
        }
        occupied.iter().filter_map(|slot| slots.get(slot).copied()).collect()
    }
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn part(pid: u32, supervisor: u32, outer: usize) -> Option<Part> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let below = depth(pid).checked_sub(outer)?;
    Some(match (name.trim_end(), below) {
        _ if pid == supervisor => Part::Supervisor,
        ("lichen-gateway", 0) => Part::Gateway,
        ("lichen-worker", 0) => Part::Worker,
        ("lichen-nursery", 0) => Part::Nursery,
        ("lichen-init", _) => Part::Init,
        ("lichen-slot", _) => Part::Slot,
        (_, 1) => Part::Template,
        (_, 2..) => Part::Instance,
        // A program that the node runs for a moment.
        _ => return None,
    })
}

/// In how many pid namespaces a process has an id.
fn depth(pid: u32) -> usize {
    field(pid, "NSpid:").map_or(0, |ids| ids.split_whitespace().count())
}

fn namespace(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

fn field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

/// A process and all that descend from it.
pub fn descend(ancestor: u32) -> impl Iterator<Item = u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some(parent) = field(pid, "PPid:").and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut next = vec![ancestor];
    std::iter::from_fn(move || {
        let pid = next.pop()?;
        next.extend(children.remove(&pid).unwrap_or_default());
        Some(pid)
    })
}

/// Nanoseconds for which a process and all that descend from it have had a processor.
pub fn processor_ns(ancestor: u32) -> u64 {
    let tasks = |pid: u32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = |task: fs::DirEntry| {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
    };
    descend(ancestor).flat_map(tasks).filter_map(spent).sum::<u64>()
}

/// Seconds for which processes of this name that descend from one, and those that they have waited for, have had a processor.
pub fn processor_seconds(ancestor: u32, name: &str) -> f64 {
    let ticks = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may have spaces, the first field is the third; times are the 14th to 17th.
        let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
        Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>())
    };
    let all = descend(ancestor).filter(|pid| is_called(*pid, name)).filter_map(ticks).sum::<u64>();
    all as f64 / TICKS
}

/// Whether a process has this name.
pub fn is_called(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}

/// A process's share of memory, in MiB; 0 where it has ended.
pub fn pss_mib(pid: u32) -> f64 {
    rollup(pid, "Pss:")
}

/// Memory of a process that nobody shares, in MiB.
pub fn private_mib(pid: u32) -> f64 {
    rollup(pid, "Private_Dirty:") + rollup(pid, "Private_Clean:")
}

/// The memory that a process has had resident at most, in MiB.
pub fn peak_mib(pid: u32) -> f64 {
    let kib = field(pid, "VmHWM:").and_then(|value| value.strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn rollup(pid: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Mounts that a process sees.
pub fn mounts(pid: u32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_or(0, |text| text.lines().count())
}

/// Control groups of the worker with this id, in all hierarchies.
pub fn cgroups(worker: u32) -> usize {
    count_cgroups(Path::new("/sys/fs/cgroup"), &format!("lichen-{worker}-"), false, 0)
}

fn count_cgroups(folder: &Path, prefix: &str, inside: bool, depth: usize) -> usize {
    // Hierarchies are nested a few levels deep at most.
    if depth > 8 {
        return 0;
    }
    let mut count = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A link to a hierarchy would show it twice.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let here = inside || entry.file_name().to_string_lossy().starts_with(prefix);
            count += usize::from(here) + count_cgroups(&entry.path(), prefix, here, depth + 1);
        }
    }
    count
}

/// Memory that the kernel could still give away, in MiB.
pub fn available_mib() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        assert!(pss_mib(me) > 0.1 && private_mib(me) > 0.0 && descriptors(me) >= 3 && mounts(me) > 0);
        assert!(available_mib() > 1.0);
        assert_eq!(Census::take(me).of(Part::Supervisor).count(), 1);
        assert_eq!(Census::take(me).of(Part::Instance).count(), 0);
        assert_eq!((pss_mib(u32::MAX), descriptors(u32::MAX), mounts(u32::MAX)), (0.0, 0, 0));
    }
}
