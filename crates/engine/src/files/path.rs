//! From a folder and a path to a node, or to the place where one can be made.
//!
//! Paths are relative, and never lead above the folder that they start from: neither by `..` nor by a symbolic link.

use super::errno::Errno;
use super::name::Name;
use super::tree::{Content, Files, NodeId};
use std::borrow::Cow;

/// Bytes of a path, and of a name in it.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;
/// Symbolic links on the way.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub parent: NodeId,
    /// Empty where the path names no entry: `.`, or a folder with `/.` after it.
    pub name: Name,
    pub node: Option<NodeId>,
    /// The path ends in `/`: only a folder is meant.
    pub folder_meant: bool,
}

impl Found {
    pub fn existing(&self) -> Result<NodeId, Errno> {
        self.node.ok_or(Errno::NoEntry)
    }

    /// The entry to be made or removed; not where the path names none.
    pub fn entry(&self) -> Result<(NodeId, &[u8]), Errno> {
        if self.name.is_empty() { Err(Errno::Invalid) } else { Ok((self.parent, &self.name)) }
    }
}

/// Checks what a guest calls a path.
fn check(path: &[u8]) -> Result<(), Errno> {
    match path {
        [] => Err(Errno::NoEntry),
        [b'/', ..] => Err(Errno::NotPermitted),
        _ if path.len() > LONGEST_PATH => Err(Errno::NameTooLong),
        _ if path.contains(&0) => Err(Errno::Invalid),
        _ if std::str::from_utf8(path).is_err() => Err(Errno::IllegalBytes),
        _ => Ok(()),
    }
}

/// Splits off the first name; the slashes after it go, too.
fn first(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    let rest = &path[end..];
    let skip = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
    (&path[..end], &rest[skip..])
}

impl Files {
    /// Where `path` leads from `base`. A symbolic link at its end is followed if `follow`, or if a folder is meant.
    pub fn find(&self, base: NodeId, path: &[u8], follow: bool) -> Result<Found, Errno> {
        check(path)?;
        // How far below `base` it is.
        let (mut here, mut depth) = (base, 0_usize);
        let mut whole = Cow::Borrowed(path);
        let (mut at, mut links) = (0, 0);
        loop {
            let folder = self.folder(here)?;
            let rest = &whole[at..];
            let (name, after) = first(rest);
            let (last, folder_meant) = (after.is_empty(), after.is_empty() && rest.len() > name.len());
            match name {
                b"." | b".." => {
                    if name == b".." {
                        depth = depth.checked_sub(1).ok_or(Errno::NotPermitted)?;
                        here = folder.parent();
                    }
                    if last {
                        let name = Name::from(&b""[..]);
                        return Ok(Found { parent: here, name, node: Some(here), folder_meant: true });
                    }
                }
                _ if name.len() > LONGEST_NAME => return Err(Errno::NameTooLong),
                _ => match folder.get(name).map(|id| (id, self.content(id))) {
                    Some((_, Content::Link(to))) if !last || follow || folder_meant => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Errno::Loop);
                        }
                        check(to)?;
                        let tail = if last && !folder_meant { &b""[..] } else { b"/" };
                        (whole, at) = (Cow::Owned([to, tail, after].concat()), 0);
                        continue;
                    }
                    Some((id, Content::Folder(_))) if !last => (here, depth) = (id, depth + 1),
                    Some(_) if !last => return Err(Errno::NotFolder),
                    None if !last => return Err(Errno::NoEntry),
                    found => {
                        let node = found.map(|(id, _)| id);
                        if folder_meant && node.is_some_and(|id| !self.is_folder(id)) {
                            return Err(Errno::NotFolder);
                        }
                        return Ok(Found { parent: here, name: name.into(), node, folder_meant });
                    }
                },
            }
            at = whole.len() - after.len();
        }
    }
}
