//! The contexts of one program: used again and again, and lent to whoever reads the outputs in them.
//!
//! ```text
//!  clean ──take──▶ a guest's ──┬──────────────────give──▶ used ──clear──▶ clean
//!                              ╰─lend──▶ outputs, until the last is dropped ─▲
//! ```
//!
//! What a guest has left is taken away when its answer has been sent, so that nobody waits for that.

use super::context::Context;
use crate::{Arena, RunError};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Contexts that are kept.
const SPARE: usize = 2;

#[derive(Debug)]
pub struct Contexts {
    arena: Arena,
    clean: Vec<Context>,
    used: Used,
}

/// Those that have a guest's bytes in them.
#[derive(Debug, Clone, Default)]
struct Used(Arc<Mutex<Vec<Context>>>);

impl Used {
    fn all(&self) -> MutexGuard<'_, Vec<Context>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A context whose bytes are read.
struct Lent {
    context: Option<Context>,
    used: Used,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: its guest has ended, and it is given to another one only when this is dropped.
        self.context.as_ref().map_or(&[], |context| unsafe { context.room.bytes(0, context.room.len()) })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.used.all().extend(self.context.take());
    }
}

impl Contexts {
    pub fn new(arena: &Arena) -> Self {
        Self { arena: arena.clone(), clean: Vec::new(), used: Used::default() }
    }

    /// One for a run with `memory` bytes.
    pub fn take(&mut self, memory: u64) -> Result<Context, RunError> {
        self.clear();
        // Another limit than before: the old ones will not be asked for again.
        self.clean.retain(|context| context.fits(memory));
        match self.clean.pop() {
            Some(context) => Ok(context),
            None => Context::new(&self.arena, memory).map_err(|full| RunError::Busy(full.held)),
        }
    }

    /// Its guest has ended.
    pub fn give(&mut self, context: Context) {
        self.used.all().push(context);
    }

    /// All bytes of its room, to be read; when nobody does any more, it is given back. Its guest has ended.
    pub fn lend(&mut self, context: Context) -> Bytes {
        Bytes::from_owner(Lent { context: Some(context), used: self.used.clone() })
    }

    /// Takes away what guests have left.
    pub fn clear(&mut self) {
        for mut context in self.used.all().drain(..) {
            if self.clean.len() < SPARE {
                context.scrub();
                self.clean.push(context);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::layout::STACK_MOST;

    #[test]
    fn what_is_lent_is_nobody_elses_until_it_is_dropped() {
        let mut contexts = Contexts::new(&Arena::new(64 << 20).unwrap());
        let mut context = contexts.take(1 << 20).unwrap();
        context.room.write(STACK_MOST, b"secret");
        let part = contexts.lend(context).slice(STACK_MOST as usize..STACK_MOST as usize + 6);
        let mut other = contexts.take(1 << 20).unwrap();
        other.room.write(STACK_MOST, b"other");
        contexts.give(other);
        contexts.clear();
        assert_eq!(part, "secret");
        drop(part);
        let both = [contexts.take(1 << 20).unwrap(), contexts.take(1 << 20).unwrap()];
        for context in both {
            // SAFETY: lent to nobody.
            let bytes = unsafe { context.room.bytes(STACK_MOST, 4096) };
            assert!(bytes.iter().all(|byte| *byte == 0), "bytes of the last guest are still there");
        }
    }
}
