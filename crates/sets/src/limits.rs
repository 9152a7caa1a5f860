//! How much of everything a decoder takes: the encoded form is somebody else's, and an item costs its reader more than
//! the few bytes that it takes to write one.

/// What one collection of sets may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub sets: usize,
    /// Of all sets together.
    pub items: usize,
    /// Data of all items together, wherever it lies.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sets: 64, items: 65_536, bytes: 1 << 30 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    #[error("more than {0} sets")]
    Sets(usize),
    #[error("more than {0} items")]
    Items(usize),
    #[error("more than {0} bytes of data")]
    Bytes(u64),
}

/// What is left of the limits.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    of: Limits,
    left: Limits,
}

impl Room {
    pub(crate) fn new(of: Limits) -> Self {
        Self { of, left: of }
    }

    pub(crate) fn set(&mut self) -> Result<(), OverLimit> {
        self.left.sets = self.left.sets.checked_sub(1).ok_or(OverLimit::Sets(self.of.sets))?;
        Ok(())
    }

    pub(crate) fn item(&mut self) -> Result<(), OverLimit> {
        self.left.items = self.left.items.checked_sub(1).ok_or(OverLimit::Items(self.of.items))?;
        Ok(())
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Result<(), OverLimit> {
        self.left.bytes = self.left.bytes.checked_sub(count).ok_or(OverLimit::Bytes(self.of.bytes))?;
        Ok(())
    }
}
