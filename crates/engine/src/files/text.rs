//! What a run prints: kept up to a limit, and counted beyond.
//!
//! Standard output may turn out to be the run's answer. Then it is kept whole, and charged like a file.

use super::data::{Budget, Data};
use super::errno::Answer;
use crate::Blob;

#[derive(Debug, Default)]
pub struct Text {
    data: Data,
    /// Kept whole.
    whole: bool,
    dropped: u64,
}

impl Text {
    /// Text that may become an output.
    pub fn whole() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Room at the end for `len` bytes, or for as many as are kept of them.
    pub fn append(&mut self, len: usize, budget: &mut Budget) -> Answer<&mut [u8]> {
        let from = self.data.size();
        if self.whole {
            return self.data.range_mut(from, len, budget);
        }
        let kept = len.min(budget.limits().text_bytes.saturating_sub(from as usize));
        self.dropped += (len - kept) as u64;
        match &mut self.data {
            Data::Heap(bytes) => {
                bytes.resize(from as usize + kept, 0);
                Ok(&mut bytes[from as usize..])
            }
            other => other.range_mut(from, kept, budget),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.data.size() == 0
    }

    pub fn into_blob(mut self) -> Blob {
        self.data.share()
    }

    /// The text for people, with a line that says what is missing.
    pub fn into_text(self, limit: usize) -> Vec<u8> {
        let bytes = self.data.bytes();
        let dropped = self.dropped + bytes.len().saturating_sub(limit) as u64;
        if dropped == 0
            && let Data::Heap(bytes) = self.data
        {
            return bytes;
        }
        let mut text = bytes[..bytes.len().min(limit)].to_vec();
        if dropped > 0 {
            text.extend_from_slice(format!("\n[{dropped} bytes more were printed, and dropped]\n").as_bytes());
        }
        text
    }
}
