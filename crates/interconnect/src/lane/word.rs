//! A word in memory that another process maps, together with the mapping that keeps it.

use os::mapping::Mapping;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// An aligned word of a mapping, for as long as this lives.
#[derive(Clone, Debug)]
pub struct Word {
    at: NonNull<AtomicU32>,
    _keep: Keep,
}

#[derive(Clone, Debug)]
enum Keep {
    Mapping { _mapping: Arc<Mapping> },
    Own { _word: Arc<Own> },
}

/// Alone in what processors fetch at once: its neighbours may be another thread's.
#[derive(Debug)]
#[repr(align(128))]
struct Own(AtomicU32);

// SAFETY: an atomic is for use by several threads, and what keeps it alive is shared by reference count.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

impl Word {
    /// The word at byte `offset` of a mapping. One of a mapping that can only be read must not be written, which ends the
    /// process. Panics outside the mapping, or where no word is aligned.
    pub fn new(mapping: &Arc<Mapping>, offset: usize) -> Self {
        assert!(offset + 4 <= mapping.len() && offset.is_multiple_of(4), "no word of the mapping");
        let at = NonNull::new(mapping.at(offset).cast()).expect("a mapping does not lie at 0");
        Self { at, _keep: Keep::Mapping { _mapping: mapping.clone() } }
    }

    /// A word of this process alone, for ends that have no shim.
    pub fn own() -> Self {
        let word = Arc::new(Own(AtomicU32::new(0)));
        Self { at: NonNull::from(&word.0), _keep: Keep::Own { _word: word } }
    }
}

impl Deref for Word {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        // SAFETY: in bounds and aligned, by `new`; valid for as long as `_keep`.
        unsafe { self.at.as_ref() }
    }
}
