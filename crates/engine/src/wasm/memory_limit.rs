//! How much memory a run may have: linear memories and tables together.
//!
//! A guest whose wish to grow is refused is told so, as WebAssembly says, and may go on. Only if it fails then, that is the
//! reason that is given.

use wasmtime::ResourceLimiter;

/// Bytes that a table's element takes.
const ELEMENT: usize = size_of::<usize>();

#[derive(Debug)]
pub struct MemoryLimit {
    limit: u64,
    used: u64,
    /// A wish was refused.
    pub refused: bool,
}

impl MemoryLimit {
    pub fn new(limit: u64) -> Self {
        Self { limit, used: 0, refused: false }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Memory never shrinks: what is used is the peak.
    pub fn peak(&self) -> u64 {
        self.used
    }

    /// Takes what is there from the beginning, if that fits.
    pub fn begin_with(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.limit;
        self.used = if fits { bytes } else { 0 };
        fits
    }

    fn grow(&mut self, from: usize, to: usize) -> bool {
        let more = to.saturating_sub(from) as u64;
        let fits = self.used.saturating_add(more) <= self.limit;
        if fits {
            self.used += more;
        } else {
            self.refused = true;
        }
        fits
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond what the guest itself allows nothing grows, and nothing is charged.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The maximum may be the pool's, of which the guest knows nothing.
        self.refused |= maximum.is_some_and(|maximum| desired > maximum);
        Ok(!self.refused && self.grow(current.saturating_mul(ELEMENT), desired.saturating_mul(ELEMENT)))
    }
}
