//! How much memory another process's control group may use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Of a process, its group by which memory is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The same for all processes of the group.
    pub group: u64,
    /// Bytes that it may use, or one above it.
    pub bytes: u64,
}

/// None where it is not bounded, or not seen from here.
pub fn room_of(process: i32) -> Option<Room> {
    let table = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let at =
        |hierarchy: &str, file| table.lines().find_map(|line| bound(Path::new(super::ROOT), hierarchy, file, line));
    at("memory", "memory.limit_in_bytes").or_else(|| at("", "memory.max"))
}

/// By a line of its table, `NUMBER:CONTROLLERS:PATH`, if it is of this hierarchy.
fn bound(root: &Path, hierarchy: &str, file: &str, line: &str) -> Option<Room> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, place) = (parts.next()?, parts.next()?);
    if !controllers.split(',').any(|controller| controller == hierarchy) {
        return None;
    }
    let top: PathBuf = if hierarchy.is_empty() { root.to_owned() } else { root.join(controllers) };
    let group = top.join(place.trim_start_matches('/'));
    let said = |folder: &Path| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let bounds = group.ancestors().take_while(|folder| folder.starts_with(&top)).filter_map(said);
    // What version 1 has for none is more than any machine has.
    let bytes = bounds.min().filter(|bytes| *bytes < 1 << 60)?;
    Some(Room { group: fs::metadata(&group).ok()?.ino(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_its_group_and_those_above_it() {
        let root = tempfile::tempdir().unwrap();
        let at = |place: &str, file: &str, text: &str| {
            fs::create_dir_all(root.path().join(place)).unwrap();
            fs::write(root.path().join(place).join(file), text).unwrap();
        };
        at("memory/a/b", "memory.limit_in_bytes", "9223372036854771712\n");
        at("memory/a", "memory.limit_in_bytes", "67108864\n");
        at("pod/one", "memory.max", "4096\n");
        at("pod", "memory.max", "max\n");
        let of = |hierarchy, file, line| bound(root.path(), hierarchy, file, line).map(|room| room.bytes);
        assert_eq!(of("memory", "memory.limit_in_bytes", "4:memory:/a/b"), Some(64 << 20));
        assert_eq!(of("memory", "memory.limit_in_bytes", "4:cpu:/a/b"), None);
        assert_eq!(of("", "memory.max", "0::/pod/one"), Some(4096));
        assert_eq!(of("", "memory.max", "0::/pod"), None);
        assert_eq!(of("", "memory.max", "0::/gone/away"), None);
    }
}
