//! Files, folders and symbolic links: made, linked, renamed, removed.
//!
//! Nodes lie in one vector and are named by their index. One lives as long as an entry names it or a descriptor has it
//! open. Entries of a folder have a number that never changes, so that who lists a folder while it changes misses nothing.
//! Most folders of most runs have an entry or two, and are made for each run: they are to cost next to nothing.

use super::data::{Budget, Data};
use super::errno::{Answer, Errno};
use super::name::Name;
use crate::{Arena, Limits};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

#[derive(Debug)]
pub enum Content {
    File(Data),
    Folder(Folder),
    /// A symbolic link, and where to.
    Link(Name),
}

#[derive(Debug)]
pub struct Folder {
    parent: NodeId,
    /// By their numbers, ascending.
    entries: Vec<Entry>,
    next: u64,
    /// The names' numbers, where there are more than [`FEW`].
    names: BTreeMap<Name, u64>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    name: Name,
    node: NodeId,
}

/// So many names are looked through one by one.
const FEW: usize = 16;

#[derive(Debug)]
struct Node {
    content: Content,
    /// Never used twice in a run.
    serial: u64,
    links: u32,
    opens: u32,
    read_only: bool,
    accessed: u64,
    modified: u64,
}

/// What there is to know about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub serial: u64,
    pub links: u32,
    pub size: u64,
    pub accessed: u64,
    pub modified: u64,
}

/// The files of one run.
#[derive(Debug)]
pub struct Files {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    serial: u64,
    pub budget: Budget,
    /// Nanoseconds since 1970: what is made or written now gets this time.
    pub now: u64,
}

pub const ROOT: NodeId = NodeId(0);

impl Files {
    /// Not even a root: of nobody's run.
    pub fn none(arena: Arena) -> Self {
        let budget = Budget::new(Limits::default(), arena);
        Self { nodes: Vec::new(), free: Vec::new(), serial: 0, budget, now: 0 }
    }

    /// Nothing but a root.
    pub fn new(budget: Budget, now: u64) -> Self {
        let mut files = Self { nodes: Vec::with_capacity(12), free: Vec::new(), serial: 0, budget, now };
        let root = files.add(Content::Folder(Folder::new(ROOT)), false);
        files.node_mut(root).links = 1;
        files
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.0 as usize].as_ref().expect("who names a node keeps it alive")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0 as usize].as_mut().expect("who names a node keeps it alive")
    }

    fn add(&mut self, content: Content, read_only: bool) -> NodeId {
        self.serial += 1;
        let (serial, now) = (self.serial, self.now);
        let node = Node { content, serial, links: 0, opens: 0, read_only, accessed: now, modified: now };
        match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = Some(node);
                NodeId(id)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() as u32 - 1)
            }
        }
    }

    fn drop_if_unused(&mut self, id: NodeId) {
        let node = self.node(id);
        if node.links == 0 && node.opens == 0 {
            if let Content::File(data) = &self.nodes[id.0 as usize].as_ref().expect("looked at above").content {
                data.refund(&mut self.budget);
            }
            self.nodes[id.0 as usize] = None;
            self.free.push(id.0);
        }
    }

    /// A descriptor has it open.
    pub fn open(&mut self, id: NodeId) {
        self.node_mut(id).opens += 1;
    }

    pub fn close(&mut self, id: NodeId) {
        self.node_mut(id).opens -= 1;
        self.drop_if_unused(id);
    }

    pub fn content(&self, id: NodeId) -> &Content {
        &self.node(id).content
    }

    pub fn is_folder(&self, id: NodeId) -> bool {
        matches!(self.content(id), Content::Folder(_))
    }

    pub fn is_read_only(&self, id: NodeId) -> bool {
        self.node(id).read_only
    }

    pub fn set_read_only(&mut self, id: NodeId) {
        self.node_mut(id).read_only = true;
    }

    pub fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let size = match &node.content {
            Content::File(data) => data.size(),
            Content::Folder(folder) => folder.entries.len() as u64,
            Content::Link(target) => target.len() as u64,
        };
        Stat { serial: node.serial, links: node.links, size, accessed: node.accessed, modified: node.modified }
    }

    /// Sets the times that are given.
    pub fn set_times(&mut self, id: NodeId, accessed: Option<u64>, modified: Option<u64>) -> Answer<()> {
        let node = self.node_mut(id);
        if node.read_only {
            return Err(Errno::ReadOnly.into());
        }
        node.accessed = accessed.unwrap_or(node.accessed);
        node.modified = modified.unwrap_or(node.modified);
        Ok(())
    }

    pub fn folder(&self, id: NodeId) -> Result<&Folder, Errno> {
        match self.content(id) {
            Content::Folder(folder) => Ok(folder),
            _ => Err(Errno::NotFolder),
        }
    }

    /// The folder, to change its entries.
    fn folder_mut(&mut self, id: NodeId) -> Answer<&mut Folder> {
        let now = self.now;
        let node = self.node_mut(id);
        match &mut node.content {
            Content::Folder(_) if node.read_only => Err(Errno::ReadOnly.into()),
            Content::Folder(_) if node.links == 0 => Err(Errno::NoEntry.into()),
            Content::Folder(folder) => {
                node.modified = now;
                Ok(folder)
            }
            _ => Err(Errno::NotFolder.into()),
        }
    }

    pub fn file(&self, id: NodeId) -> Result<&Data, Errno> {
        match self.content(id) {
            Content::File(data) => Ok(data),
            Content::Folder(_) => Err(Errno::IsFolder),
            Content::Link(_) => Err(Errno::Loop),
        }
    }

    /// The file's bytes to be changed, and what they are charged to.
    pub fn file_mut(&mut self, id: NodeId) -> Answer<(&mut Data, &mut Budget)> {
        let now = self.now;
        let node = self.nodes[id.0 as usize].as_mut().expect("who names a node keeps it alive");
        match &mut node.content {
            Content::File(_) if node.read_only => Err(Errno::ReadOnly.into()),
            Content::File(data) => {
                node.modified = now;
                Ok((data, &mut self.budget))
            }
            Content::Folder(_) => Err(Errno::IsFolder.into()),
            Content::Link(_) => Err(Errno::Loop.into()),
        }
    }

    /// Makes a node and names it. Charged to the run.
    pub fn create(&mut self, folder: NodeId, name: &[u8], what: Content) -> Answer<NodeId> {
        if self.folder_mut(folder)?.get(name).is_some() {
            return Err(Errno::Exists.into());
        }
        self.budget.take_entry()?;
        Ok(self.place(folder, name.into(), what, false))
    }

    /// Names a new node. What is given to a run is not charged to it. The name must be free, the folder one.
    pub fn place(&mut self, folder: NodeId, name: Name, what: Content, read_only: bool) -> NodeId {
        let id = self.add(what, read_only);
        self.enter(folder, name, id);
        id
    }

    pub fn new_folder() -> Content {
        Content::Folder(Folder::new(ROOT))
    }

    fn enter(&mut self, folder: NodeId, name: Name, id: NodeId) {
        self.node_mut(id).links += 1;
        if let Content::Folder(new) = &mut self.node_mut(id).content {
            new.parent = folder;
        }
        if let Content::Folder(its) = &mut self.node_mut(folder).content {
            its.add(name, id);
        }
    }

    /// Takes the name away; what it named is gone when nobody else has it.
    fn leave(&mut self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let Content::Folder(its) = &mut self.node_mut(folder).content else { return None };
        let id = its.take(name)?;
        self.node_mut(id).links -= 1;
        Some(id)
    }

    pub fn link(&mut self, id: NodeId, folder: NodeId, name: &[u8]) -> Answer<()> {
        if self.is_folder(id) {
            return Err(Errno::NotPermitted.into());
        }
        if self.folder_mut(folder)?.get(name).is_some() {
            return Err(Errno::Exists.into());
        }
        self.budget.take_entry()?;
        self.enter(folder, name.into(), id);
        Ok(())
    }

    /// Removes a name: of a folder, which must be empty, or of anything else.
    pub fn remove(&mut self, folder: NodeId, name: &[u8], a_folder: bool) -> Answer<()> {
        let id = self.folder_mut(folder)?.get(name).ok_or(Errno::NoEntry)?;
        match (self.content(id), a_folder) {
            (Content::Folder(its), true) if !its.entries.is_empty() => return Err(Errno::NotEmpty.into()),
            (Content::Folder(_), false) => return Err(Errno::IsFolder.into()),
            (Content::File(_) | Content::Link(_), true) => return Err(Errno::NotFolder.into()),
            _ => {}
        }
        self.leave(folder, name);
        self.budget.give_entry();
        self.drop_if_unused(id);
        Ok(())
    }

    pub fn rename(&mut self, from: (NodeId, &[u8]), to: (NodeId, &[u8])) -> Answer<()> {
        let id = self.folder_mut(from.0)?.get(from.1).ok_or(Errno::NoEntry)?;
        let over = self.folder_mut(to.0)?.get(to.1);
        if over == Some(id) {
            return Ok(());
        }
        if self.is_folder(id) && self.is_within(to.0, id) {
            return Err(Errno::Invalid.into());
        }
        if let Some(over) = over {
            if self.is_folder(over) && !self.is_folder(id) {
                return Err(Errno::IsFolder.into());
            }
            self.remove(to.0, to.1, self.is_folder(id))?;
        }
        self.leave(from.0, from.1);
        self.enter(to.0, to.1.into(), id);
        Ok(())
    }

    /// Whether `id` is `folder` or lies below it.
    fn is_within(&self, mut id: NodeId, folder: NodeId) -> bool {
        while id != folder {
            match self.content(id) {
                Content::Folder(its) if id != ROOT => id = its.parent,
                _ => return false,
            }
        }
        true
    }

    /// A file's bytes as they are now, to be kept.
    pub fn share(&mut self, id: NodeId) -> Option<crate::Blob> {
        match &mut self.node_mut(id).content {
            Content::File(data) => Some(data.share()),
            _ => None,
        }
    }
}

impl Folder {
    fn new(parent: NodeId) -> Self {
        Self { parent, entries: Vec::new(), next: 0, names: BTreeMap::new() }
    }

    pub fn get(&self, name: &[u8]) -> Option<NodeId> {
        Some(self.entries[self.place(name)?].node)
    }

    /// Where the name is among the entries.
    fn place(&self, name: &[u8]) -> Option<usize> {
        if self.entries.len() <= FEW {
            return self.entries.iter().position(|entry| *entry.name == *name);
        }
        let number = self.names.get(name)?;
        self.entries.binary_search_by_key(number, |entry| entry.number).ok()
    }

    /// A name that is not there yet.
    fn add(&mut self, name: Name, node: NodeId) {
        let number = self.next;
        self.next += 1;
        self.entries.push(Entry { number, name, node });
        if self.entries.len() > FEW {
            let unnamed = &self.entries[self.names.len()..];
            self.names.extend(unnamed.iter().map(|entry| (entry.name.clone(), entry.number)));
        }
    }

    fn take(&mut self, name: &[u8]) -> Option<NodeId> {
        let entry = self.entries.remove(self.place(name)?);
        match self.entries.len() {
            ..=FEW => self.names.clear(),
            _ => _ = self.names.remove(name),
        }
        Some(entry.node)
    }

    pub fn parent(&self) -> NodeId {
        self.parent
    }

    /// Entries from number `from` on, with their numbers.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = (u64, &[u8], NodeId)> {
        let at = self.entries.partition_point(|entry| entry.number < from);
        self.entries[at..].iter().map(|entry| (entry.number, &*entry.name, entry.node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names come and go in folders that grow beyond [`FEW`] and shrink again.
    #[test]
    fn a_folder_knows_its_names_however_many_there_are() {
        let (mut folder, mut model, mut dice) = (Folder::new(ROOT), BTreeSet::new(), 7u32);
        for step in 0..20_000u32 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = dice >> 16 & 63;
            let name = number.to_string();
            assert_eq!(folder.get(name.as_bytes()), model.contains(&number).then_some(NodeId(number)));
            // Mostly one way for a while, then mostly the other.
            let grows = (step / 500).is_multiple_of(2) != (dice >> 24).is_multiple_of(8);
            match (model.contains(&number), grows) {
                (false, true) => {
                    folder.add(name.as_bytes().into(), NodeId(number));
                    model.insert(number);
                }
                (true, false) => {
                    assert_eq!(folder.take(name.as_bytes()), Some(NodeId(number)));
                    model.remove(&number);
                }
                (false, false) => assert_eq!(folder.take(name.as_bytes()), None),
                (true, true) => {}
            }
            let listed: Vec<(u64, &[u8], NodeId)> = folder.entries(0).collect();
            assert_eq!(listed.len(), model.len());
            assert!(
                listed.is_sorted_by(|a, b| a.0 < b.0)
                    && listed.iter().all(|(_, name, id)| *name == id.0.to_string().as_bytes())
            );
            let middle = listed.len() / 2;
            if let Some((number, ..)) = listed.get(middle) {
                assert_eq!(folder.entries(*number).count(), listed.len() - middle);
            }
        }
    }
}
