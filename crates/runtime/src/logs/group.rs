//! What is known of a group beside its lines: `group.json` in its folder, made with the group's first line, or when
//! somebody asks for the group. What streams there are is in the lines themselves; only empty ones are listed here.

use super::record::LogGroup;
use super::segments;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;

const FILE: &str = "group.json";
const DAY: Duration = Duration::from_secs(86_400);

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Somebody made the group or set something of it: it stays when its last line has gone.
    pub asked_for: bool,
    /// The node's own setting where there is none.
    pub retention_days: Option<u32>,
    /// Streams that were made before they had lines, and when.
    pub streams: BTreeMap<String, u64>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub details: Details,
    pub stored_bytes: u64,
}

/// Why nothing was done to a group.
#[derive(Debug, Error)]
pub enum GroupError {
    #[error("The specified log group does not exist.")]
    NoGroup,
    #[error("The specified log group already exists")]
    GroupExists,
    #[error("The specified log stream does not exist.")]
    NoStream,
    #[error("The specified log stream already exists")]
    StreamExists,
    #[error("the log folder could not be read or written")]
    Store(#[from] io::Error),
}

/// All groups of a node.
#[derive(Debug)]
pub(super) struct Groups {
    root: PathBuf,
    /// Files are read, changed and written again by one at a time.
    lock: Mutex<()>,
}

impl Groups {
    pub fn new(root: PathBuf) -> Self {
        Self { root, lock: Mutex::default() }
    }

    pub fn folder(&self, group: &LogGroup) -> PathBuf {
        segments::folder(&self.root, group)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, group: &LogGroup) -> Result<Details, GroupError> {
        read(&self.folder(group))?.ok_or(GroupError::NoGroup)
    }

    /// The groups of an account in a region, by name.
    pub fn list(&self, account: &str, region: &str) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for folder in subfolders(&segments::region_folder(&self.root, account, region))? {
            if let Some(details) = read(&folder)? {
                found.push(Listed { details, stored_bytes: segments::stored_bytes(&folder)? });
            }
        }
        found.sort_by(|a, b| a.details.name.cmp(&b.details.name));
        Ok(found)
    }

    /// Makes a group that somebody asked for.
    pub fn create(&self, group: &LogGroup, now_ms: u64) -> Result<(), GroupError> {
        let _lock = self.lock();
        let folder = self.folder(group);
        if read(&folder)?.is_some() {
            return Err(GroupError::GroupExists);
        }
        write(&folder, &Details { asked_for: true, ..named(group, now_ms) })?;
        Ok(())
    }

    /// Makes a group that is about to be written to, unless there is one.
    pub fn note(&self, group: &LogGroup, now_ms: u64) -> io::Result<()> {
        let _lock = self.lock();
        let folder = self.folder(group);
        if read(&folder)?.is_none() {
            write(&folder, &named(group, now_ms))?;
        }
        Ok(())
    }

    /// Changes a group, from when on it stays.
    pub fn change(
        &self,
        group: &LogGroup,
        change: impl FnOnce(&mut Details) -> Result<(), GroupError>,
    ) -> Result<(), GroupError> {
        let _lock = self.lock();
        let folder = self.folder(group);
        let mut details = read(&folder)?.ok_or(GroupError::NoGroup)?;
        change(&mut details)?;
        details.asked_for = true;
        write(&folder, &details)?;
        Ok(())
    }

    /// Removes what is older than its group's retention, and groups that are empty then and that nobody asked for. A group
    /// in which that fails holds up no other.
    pub fn expire(&self, default: Duration) -> io::Result<()> {
        let _lock = self.lock();
        let mut outcome = Ok(());
        for account in subfolders(&self.root)? {
            for region in subfolders(&account)? {
                for group in subfolders(&region)? {
                    outcome = expire(&group, default).and(outcome);
                }
                // Refused unless it is empty.
                let _ = fs::remove_dir(&region);
            }
            let _ = fs::remove_dir(&account);
        }
        outcome
    }
}

fn expire(folder: &Path, default: Duration) -> io::Result<()> {
    let details = read(folder)?.unwrap_or_default();
    let is_empty = segments::expire(folder, details.retention_days.map_or(default, |days| DAY * days))?;
    if is_empty && !details.asked_for {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn named(group: &LogGroup, created_ms: u64) -> Details {
    Details { name: group.name.clone(), created_ms, ..Details::default() }
}

/// A file that a power cut has spoilt is as good as none: with the group's next line there is another.
fn read(folder: &Path) -> io::Result<Option<Details>> {
    match fs::read(folder.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file as a whole: whoever reads meanwhile finds the old one.
fn write(folder: &Path, details: &Details) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let new = folder.join("group.new");
    fs::write(&new, serde_json::to_vec(details)?)?;
    fs::rename(new, folder.join(FILE))
}

fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn group(name: &str) -> LogGroup {
        LogGroup { account: "0".into(), region: "r".into(), name: name.into() }
    }

    fn keep(groups: &Groups, name: &str, days: u32) {
        let set = |details: &mut Details| {
            details.retention_days = Some(days);
            Ok(())
        };
        groups.change(&group(name), set).unwrap();
    }

    fn names(groups: &Groups) -> Vec<String> {
        groups.list("0", "r").unwrap().into_iter().map(|listed| listed.details.name).collect()
    }

    #[test]
    fn groups_are_made_once_changed_and_listed_by_name() {
        let root = tempfile::tempdir().unwrap();
        let groups = Groups::new(root.path().to_owned());
        assert!(matches!(groups.get(&group("b")), Err(GroupError::NoGroup)));
        groups.create(&group("b"), 1).unwrap();
        assert!(matches!(groups.create(&group("b"), 2), Err(GroupError::GroupExists)));
        let long = "x".repeat(512);
        groups.note(&group(&long), 3).unwrap();
        groups.note(&group("b"), 3).unwrap();
        groups.note(&group("/a/b"), 3).unwrap();
        assert_eq!(names(&groups), ["/a/b", "b", &long]);
        keep(&groups, "b", 3);
        let details = groups.get(&group("b")).unwrap();
        assert_eq!((details.created_ms, details.retention_days), (1, Some(3)));
        assert!(groups.list("1", "r").unwrap().is_empty());
    }

    #[test]
    fn a_group_that_is_spoilt_is_made_anew_and_holds_up_no_other() {
        let root = tempfile::tempdir().unwrap();
        let groups = Groups::new(root.path().to_owned());
        for name in ["a", "b", "c"] {
            groups.note(&group(name), 1).unwrap();
        }
        fs::write(groups.folder(&group("a")).join(FILE), "").unwrap();
        assert_eq!(names(&groups), ["b", "c"]);
        groups.note(&group("a"), 2).unwrap();
        assert_eq!(names(&groups), ["a", "b", "c"]);
        // What is no file cannot be removed like one.
        fs::create_dir_all(groups.folder(&group("a")).join("00000001.log/x")).unwrap();
        let old = groups.folder(&group("a")).join("00000001.log");
        fs::File::open(old).unwrap().set_modified(SystemTime::now() - 2 * DAY).unwrap();
        assert!(groups.expire(DAY).is_err());
        assert_eq!(names(&groups), ["a"], "the others were empty, and are gone");
    }

    #[test]
    fn each_group_keeps_its_lines_as_long_as_it_says() {
        let root = tempfile::tempdir().unwrap();
        let groups = Groups::new(root.path().to_owned());
        let two_days_ago = SystemTime::now() - 2 * DAY;
        for name in ["one", "three", "default"] {
            groups.note(&group(name), 1).unwrap();
            let file = groups.folder(&group(name)).join("00000001.log");
            fs::write(&file, "1\ts\tr\ttext\n").unwrap();
            fs::File::options().append(true).open(&file).unwrap().set_modified(two_days_ago).unwrap();
        }
        keep(&groups, "one", 1);
        keep(&groups, "three", 3);
        groups.expire(5 * DAY).unwrap();
        let stored =
            || groups.list("0", "r").unwrap().into_iter().map(|listed| (listed.details.name, listed.stored_bytes));
        assert_eq!(stored().collect::<Vec<_>>(), [("default".into(), 11), ("one".into(), 0), ("three".into(), 11)]);
        groups.expire(DAY).unwrap();
        assert_eq!(names(&groups), ["one", "three"], "nobody asked for the other");
    }
}
