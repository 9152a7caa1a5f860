//! What a package is called: the SHA-256 of its zip file.

use sha2::{Digest, Sha256};
use std::fmt::{self, Debug};

/// The SHA-256 of a zip file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeId([u8; 32]);

impl CodeId {
    pub fn of(zip: &[u8]) -> Self {
        Self(Sha256::digest(zip).into())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 small hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(HEX[usize::from(digit)])).collect()
    }

    /// Reads what [`CodeId::hex`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (mut bytes, text) = ([0; 32], text.as_bytes());
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |byte: u8| HEX.iter().position(|digit| *digit == byte);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }

    /// The package that a file or folder of the store belongs to.
    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        let ends = [".zip", super::ARTEFACTS];
        Self::from_hex(ends.into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Debug for CodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}
