//! The posts of a node, and which of them are awake: those that something has happened to since they were last seen to
//! have nothing. A node has ten thousand functions and a handful that are used; its upkeep looks at the handful.

use super::post::Post;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes ids that are counted here, one after the other: nobody else chooses them.
#[derive(Default)]
struct Counted(u64);

impl Hasher for Counted {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type ByCount = BuildHasherDefault<Counted>;

/// Posts by their ids.
#[derive(Default)]
pub(super) struct Posts {
    all: HashMap<u64, Post, ByCount>,
    awake: HashSet<u64, ByCount>,
}

impl Posts {
    pub fn get(&self, id: u64) -> Option<&Post> {
        self.all.get(&id)
    }

    /// Whoever may change a post wakes it.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Post> {
        let post = self.all.get_mut(&id)?;
        self.awake.insert(id);
        Some(post)
    }

    pub fn insert(&mut self, id: u64, post: Post) {
        self.all.insert(id, post);
        self.awake.insert(id);
    }

    pub fn remove(&mut self, id: u64) -> Option<Post> {
        self.awake.remove(&id);
        self.all.remove(&id)
    }

    /// All of them: for those who want to see the node.
    pub fn all(&self) -> impl Iterator<Item = &Post> {
        self.all.values()
    }

    /// Those that may have something.
    pub fn awake(&self) -> impl Iterator<Item = (u64, &Post)> {
        self.awake.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// The ids of the same, to change posts one by one.
    pub fn awake_ids(&self) -> Vec<u64> {
        self.awake.iter().copied().collect()
    }

    /// Puts those to rest that have nothing.
    pub fn rest(&mut self, has_nothing: impl Fn(&Post) -> bool) {
        let Self { all, awake } = self;
        awake.retain(|id| all.get(id).is_some_and(|post| !has_nothing(post)));
    }
}
