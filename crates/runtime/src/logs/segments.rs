//! A group's files: `ACCOUNT/REGION/GROUP/00000001.log` and so on, appended to in order. When the newest is long enough
//! the next begins, and when they are too many the oldest goes.

use super::Query;
use super::record::{Line, LogGroup, Record};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Into so many files a group's bytes are spread: removing one forgets that fraction of the past.
const SEGMENTS: u64 = 8;
/// By how much an event may be ahead of its writing.
pub const AHEAD_MAX_MS: u64 = 2 * 3_600_000;
/// Bytes of a folder's name.
const NAME_MAX: usize = 200;

/// Where a group's files are. Names are escaped: a group cannot lie outside of `root`, or inside another.
pub(super) fn folder(root: &Path, group: &LogGroup) -> PathBuf {
    region_folder(root, &group.account, &group.region).join(escape(&group.name))
}

/// Where the groups of an account in a region are.
pub(super) fn region_folder(root: &Path, account: &str, region: &str) -> PathBuf {
    root.join(escape(account)).join(escape(region))
}

/// Letters, digits, dashes and underscores stay; every other byte becomes `%XX`. What is then too long for a file system
/// ends in its hash instead.
fn escape(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let escaped: String =
        name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    if escaped.len() > NAME_MAX {
        let hash = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        return format!("{}%{hash}", &escaped[..NAME_MAX - 1 - hash.len()]);
    }
    if escaped.is_empty() { "%".into() } else { escaped }
}

/// The numbers of the files in `folder`, ascending. A folder that does not exist holds none.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

/// A group that is being appended to.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    file: File,
    number: u64,
    len: u64,
    segment_max: u64,
}

impl Segments {
    /// Opens a group for appending; `group_max` bytes are kept of it.
    pub fn open(folder: PathBuf, group_max: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let number = numbers(&folder)?.last().copied().unwrap_or(1);
        let mut file = File::options().append(true).create(true).open(path(&folder, number))?;
        let mut len = file.metadata()?.len();
        if len > 0 {
            // The last line may have been cut off by a crash: what follows begins on its own.
            file.write_all(b"\n")?;
            len += 1;
        }
        Ok(Self { folder, file, number, len, segment_max: (group_max / SEGMENTS).max(1) })
    }

    /// Appends whole lines.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.len >= self.segment_max {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.len += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.number + 1;
        self.file = File::options().append(true).create(true).open(path(&self.folder, next))?;
        (self.number, self.len) = (next, 0);
        let numbers = numbers(&self.folder)?;
        let surplus = numbers.len().saturating_sub(SEGMENTS as usize);
        numbers[..surplus].iter().try_for_each(|number| fs::remove_file(path(&self.folder, *number)))
    }
}

/// The records of a group that `query` asks for, oldest first.
pub(super) fn read(folder: &Path, query: &Query) -> io::Result<Vec<Record>> {
    let mut found: VecDeque<Record> = VecDeque::new();
    for number in numbers(folder)?.into_iter().rev() {
        let bytes = match fs::read(path(folder, number)) {
            // Removed meanwhile: its time had come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        let room = if query.last == 0 { usize::MAX } else { query.last - found.len() };
        let wanted = lines(&bytes).rev().filter(|line| is_wanted(line, query)).take(room);
        wanted.for_each(|line| found.push_front(line.record()));
        let older_are_too_old =
            lines(&bytes).next().is_some_and(|first| first.ingested_ms() + AHEAD_MAX_MS < query.since_ms);
        if found.len() == query.last && query.last > 0 || older_are_too_old {
            break;
        }
    }
    Ok(found.into())
}

fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Line<'_>> {
    bytes.split(|byte| *byte == b'\n').filter_map(Line::parse)
}

fn is_wanted(line: &Line<'_>, query: &Query) -> bool {
    line.at_ms >= query.since_ms
        && (query.until_ms == 0 || line.at_ms < query.until_ms)
        && query.request_id.as_ref().is_none_or(|id| id == line.request_id)
}

/// Shows all lines of a group in the order in which they were written, but for files whose lines are all from before
/// `since_ms`.
pub(super) fn visit(folder: &Path, since_ms: u64, mut visit: impl FnMut(&Line<'_>)) -> io::Result<()> {
    let since = UNIX_EPOCH + Duration::from_millis(since_ms.saturating_sub(AHEAD_MAX_MS));
    for number in numbers(folder)? {
        let path = path(folder, number);
        let read = fs::metadata(&path).and_then(|metadata| metadata.modified()).and_then(|modified| {
            // Nothing in it is newer than itself, but for what was put there ahead of its time.
            if modified < since { Ok(Vec::new()) } else { fs::read(&path) }
        });
        match read {
            // Removed meanwhile: its time had come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            bytes => lines(&bytes?).for_each(|line| visit(&line)),
        }
    }
    Ok(())
}

/// Bytes of a group's lines.
pub(super) fn stored_bytes(folder: &Path) -> io::Result<u64> {
    let sizes = numbers(folder)?.into_iter().map(|number| fs::metadata(path(folder, number)).map_or(0, |m| m.len()));
    Ok(sizes.sum())
}

/// Removes a group's files that nothing was appended to for `age`; whether none are left.
pub(super) fn expire(folder: &Path, age: Duration) -> io::Result<bool> {
    let limit = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
    let mut is_empty = true;
    for number in numbers(folder)? {
        let path = path(folder, number);
        if fs::metadata(&path)?.modified()? < limit {
            fs::remove_file(&path)?;
        } else {
            is_empty = false;
        }
    }
    Ok(is_empty)
}

/// Removes a stream's lines. Files without any of them stay as they are.
pub(super) fn remove_stream(folder: &Path, stream: &str) -> io::Result<()> {
    for number in numbers(folder)? {
        let path = path(folder, number);
        let (bytes, modified) = (fs::read(&path)?, fs::metadata(&path)?.modified()?);
        let mut kept = Vec::with_capacity(bytes.len());
        lines(&bytes).filter(|line| line.stream != stream).for_each(|line| line.write(&mut kept));
        if lines(&bytes).any(|line| line.stream == stream) {
            let new = path.with_extension("new");
            fs::write(&new, kept)?;
            // Its age is still that of its lines.
            File::options().append(true).open(&new)?.set_modified(modified)?;
            fs::rename(new, path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let group = |name: &str| LogGroup { account: "0".into(), region: "r".into(), name: name.into() };
        let names = ["/aws/lambda/a", "../../etc", "..", ".", "", "a/b", "a%2Fb"].map(|name| {
            let folder = folder(Path::new("logs"), &group(name));
            folder.strip_prefix("logs/0/r").unwrap().to_str().unwrap().to_owned()
        });
        let long = folder(Path::new("logs"), &group(&"/".repeat(512)));
        assert!(long.file_name().unwrap().len() == 200 && long != folder(Path::new("logs"), &group(&"/".repeat(511))));
        assert_eq!(names, ["%2Faws%2Flambda%2Fa", "%2E%2E%2F%2E%2E%2Fetc", "%2E%2E", "%2E", "%", "a%2Fb", "a%252Fb"]);
    }

    fn write(segments: &mut Segments, at_ms: u64, request_id: &str) {
        let mut line = Vec::new();
        Line { at_ms, stream: "s", request_id, put_ms: None, text: &[b'x'; 100] }.write(&mut line);
        segments.append(&line).unwrap();
    }

    fn times(folder: &Path, query: &Query) -> Vec<u64> {
        read(folder, query).unwrap().iter().map(|record| record.at_ms).collect()
    }

    #[test]
    fn the_oldest_go_and_the_newest_are_found() {
        let root = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(root.path().to_owned(), 8 * 1000).unwrap();
        (1..=1000).for_each(|at| write(&mut segments, at, if at % 2 == 0 { "even" } else { "odd" }));
        let all = times(root.path(), &Query::default());
        assert!(numbers(root.path()).unwrap().len() <= 8);
        assert!((60..=80).contains(&all.len()), "{} of about 110 bytes each are kept", all.len());
        assert!(all.is_sorted() && all.last() == Some(&1000));
        assert_eq!(times(root.path(), &Query { last: 2, ..Query::default() }), [999, 1000]);
        let even = Query { request_id: Some("even".into()), last: 20, ..Query::default() };
        assert_eq!(times(root.path(), &even), (962..=1000).step_by(2).collect::<Vec<_>>());
        let between = Query { since_ms: 990, until_ms: 993, ..Query::default() };
        assert_eq!(times(root.path(), &between), [990, 991, 992]);
    }

    #[test]
    fn a_cut_line_costs_only_itself() {
        let root = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(root.path().to_owned(), 1 << 20).unwrap();
        write(&mut segments, 1, "r");
        segments.append(b"2\tcut of").unwrap();
        drop(segments);
        let mut segments = Segments::open(root.path().to_owned(), 1 << 20).unwrap();
        write(&mut segments, 3, "r");
        assert_eq!(times(root.path(), &Query::default()), [1, 3]);
    }

    #[test]
    fn old_files_go() {
        let root = tempfile::tempdir().unwrap();
        write(&mut Segments::open(root.path().to_owned(), 1 << 20).unwrap(), 1, "r");
        assert!(!expire(root.path(), Duration::from_secs(3600)).unwrap());
        let hours_ago = SystemTime::now() - Duration::from_secs(7200);
        File::options().append(true).open(path(root.path(), 1)).unwrap().set_modified(hours_ago).unwrap();
        assert!(expire(root.path(), Duration::from_secs(3600)).unwrap());
        assert!(read(root.path(), &Query::default()).unwrap().is_empty());
    }

    #[test]
    fn a_streams_lines_go_and_the_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let mut segments = Segments::open(root.path().to_owned(), 1 << 20).unwrap();
        let mut file = Vec::new();
        for (at_ms, stream) in [(1, "a"), (2, "b"), (3, "a")] {
            Line { at_ms, stream, request_id: "", put_ms: None, text: b"x" }.write(&mut file);
        }
        segments.append(&file).unwrap();
        remove_stream(root.path(), "a").unwrap();
        assert_eq!(times(root.path(), &Query::default()), [2]);
    }
}
