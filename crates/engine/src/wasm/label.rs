//! What stands at the end of a WebAssembly artefact, after the engine's own object file.
//!
//! ```text
//!  ┌ object file ┬ safe ranges: (start, end) u32 each ┬ label, 64 bytes ─────────────────────────────────────────────┐
//!  │             │                                    │ magic 8 │ version u32 │ form u32 │ object u64 │ ranges u64 │ fit 32 │
//!  └─────────────┴────────────────────────────────────┴──────────────────────────────────────────────────────────────┘
//! ```
//!
//! It is at the end so that the object can be mapped where it lies. Numbers are little-endian. An artefact comes from a
//! process that had to do with hostile code: it is checked, and then believed as far as an engine's own sandbox goes.

use crate::LoadError;

pub const BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"lichen.w";
pub const VERSION: u32 = 2;
/// Ranges, at most: a program has as many as it has stretches between the ways in.
const MOST_RANGES: u64 = 1 << 20;

/// Identifies the compiler, its settings and the processor's features.
pub type Fit = [u8; 32];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Module,
    Component,
    /// A module whose instances can be made as new.
    Renewable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub form: Form,
    /// Bytes of the object file.
    pub object: u64,
    pub fit: Fit,
    /// Within the object's text: where a guest may be stopped.
    pub safe: Box<[(u32, u32)]>,
}

/// A fit, for people.
pub fn short(fit: &Fit) -> String {
    fit[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Label {
    /// What comes after the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.safe.len() * 8 + BYTES);
        for (start, end) in &self.safe {
            bytes.extend_from_slice(&start.to_le_bytes());
            bytes.extend_from_slice(&end.to_le_bytes());
        }
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.form as u32).to_le_bytes());
        bytes.extend_from_slice(&self.object.to_le_bytes());
        bytes.extend_from_slice(&(self.safe.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.fit);
        bytes
    }

    /// The label of an artefact of `len` bytes, of which `read` gives any.
    pub fn decode(len: u64, mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>) -> Result<Self, LoadError> {
        let damaged = LoadError::Damaged;
        let at = len.checked_sub(BYTES as u64).ok_or(damaged("it is too short"))?;
        let mut label = [0; BYTES];
        read(at, &mut label)?;
        let word = |at: usize| u32::from_le_bytes(label[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(label[at..at + 8].try_into().expect("eight bytes"));
        if label[..8] != MAGIC {
            return Err(damaged("its label is not one"));
        }
        if word(8) != VERSION {
            return Err(LoadError::Stale { found: format!("format {}", word(8)), here: format!("format {VERSION}") });
        }
        let form = match word(12) {
            0 => Form::Module,
            1 => Form::Component,
            2 => Form::Renewable,
            _ => return Err(damaged("it is neither a module nor a component")),
        };
        let (object, count) = (long(16), long(24));
        if count > MOST_RANGES || object.checked_add(count * 8) != Some(at) {
            return Err(damaged("its parts do not add up"));
        }
        let mut ranges = vec![0; count as usize * 8];
        read(object, &mut ranges)?;
        let pairs = ranges.chunks_exact(8).map(|pair| {
            let (start, end) = pair.split_at(4);
            let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            (number(start), number(end))
        });
        let safe: Box<[_]> = pairs.collect();
        if safe.iter().any(|(start, end)| start >= end) || safe.windows(2).any(|two| two[0].1 > two[1].0) {
            return Err(damaged("its ranges are not in order"));
        }
        Ok(Self { form, object, fit: label[32..].try_into().expect("thirty-two bytes"), safe })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Label, LoadError> {
        Label::decode(bytes.len() as u64, |at, into| {
            let at = at as usize;
            into.copy_from_slice(&bytes[at..at + into.len()]);
            Ok(())
        })
    }

    fn label() -> Label {
        Label { form: Form::Component, object: 5, fit: [7; 32], safe: Box::new([(1, 5), (5, 9)]) }
    }

    #[test]
    fn labels_come_back() {
        let bytes = [b"12345".as_slice(), &label().encode()].concat();
        assert_eq!(decode(&bytes).unwrap(), label());
    }

    #[test]
    fn damage_is_found() {
        let bytes = [b"12345".as_slice(), &label().encode()].concat();
        assert!(matches!(decode(&bytes[1..]), Err(LoadError::Damaged("its parts do not add up"))));
        assert!(matches!(decode(&bytes[..40]), Err(LoadError::Damaged(_))));
        let with = |at: usize, value: u8| {
            let mut other = bytes.clone();
            other[at] = value;
            decode(&other)
        };
        let base = bytes.len() - BYTES;
        assert!(matches!(with(base, 0), Err(LoadError::Damaged("its label is not one"))));
        assert!(matches!(with(base + 8, 9), Err(LoadError::Stale { .. })));
        assert!(matches!(with(base + 12, 3), Err(LoadError::Damaged(_))));
        assert!(matches!(with(base + 31, 0xff), Err(LoadError::Damaged("its parts do not add up"))));
        assert!(matches!(with(5, 6), Err(LoadError::Damaged("its ranges are not in order"))));
    }

    /// Labels changed in some bytes, cut, or made up: an answer each time, and none that claims what is not there.
    #[test]
    fn whatever_is_there_is_answered() {
        let good = [b"12345".as_slice(), &label().encode()].concat();
        let mut next = crate::wasm::dice();
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..next(4) {
                let at = next(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
            }
            bytes.truncate(bytes.len() - next(3) * next(40));
            if let Ok(label) = decode(&bytes) {
                assert_eq!(label.object as usize + label.safe.len() * 8 + BYTES, bytes.len());
            }
        }
    }
}
