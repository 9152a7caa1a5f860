//! The pages on which processes write down to which members they have sent something.

use socket::layout::Calls;
use socket::stream;

/// What the processes say that send to members.
pub struct Board {
    pub of: stream::Board,
    /// What was read of it.
    pub read: u32,
    /// The places of members by the ways that they receive on, and 1 more.
    ways: Vec<u32>,
    members: usize,
}

impl Board {
    /// One of which nothing is to be read that is there already.
    pub fn new(of: stream::Board) -> Self {
        let mut board = Self { of, read: 0, ways: Vec::new(), members: 0 };
        board.read = board.theirs().written();
        board
    }

    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    pub fn theirs(&self) -> &Calls {
        // SAFETY: its members are in sets, whose memory is there; see [`Member::said`].
        unsafe { &*self.of.theirs }
    }

    pub fn own(&self) -> &Calls {
        // SAFETY: as above.
        unsafe { &*self.of.own }
    }

    pub fn place(&self, way: u32) -> Option<usize> {
        self.ways.get(way as usize).and_then(|place| (*place as usize).checked_sub(1))
    }

    pub fn put(&mut self, way: u32, at: usize) {
        let way = way as usize;
        if way >= self.ways.len() {
            self.ways.resize(way + 1, 0);
        }
        self.members += usize::from(self.ways[way] == 0);
        self.ways[way] = at as u32 + 1;
    }

    /// This member receives on that way no more.
    pub fn remove(&mut self, way: u32, at: usize) {
        if self.place(way) == Some(at) {
            self.ways[way as usize] = 0;
            self.members -= 1;
        }
    }
}
