//! The guest's memory, as its calls name it: every address and length is hostile.
//!
//! All numbers are little-endian, as WASI says.

use crate::files::{Answer, Errno};

/// Buffers of one call, at most.
const MOST_VECTORS: u32 = 1024;

pub struct Memory<'a>(pub &'a mut [u8]);

/// Where a call's buffer lies.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Memory<'_> {
    pub fn span(&self, at: u32, len: u32) -> Result<Span, Errno> {
        let (start, end) = (at as usize, at as usize + len as usize);
        if end <= self.0.len() { Ok(Span { start, end }) } else { Err(Errno::Fault) }
    }

    pub fn bytes(&self, at: u32, len: u32) -> Result<&[u8], Errno> {
        self.span(at, len).map(|span| &self.0[span.start..span.end])
    }

    pub fn bytes_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], Errno> {
        self.span(at, len).map(|span| &mut self.0[span.start..span.end])
    }

    /// A number at `at + offset`.
    pub fn u16(&self, at: u32, offset: u32) -> Result<u16, Errno> {
        self.array(at, offset).map(u16::from_le_bytes)
    }

    pub fn u32(&self, at: u32, offset: u32) -> Result<u32, Errno> {
        self.array(at, offset).map(u32::from_le_bytes)
    }

    pub fn u64(&self, at: u32, offset: u32) -> Result<u64, Errno> {
        self.array(at, offset).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&self, at: u32, offset: u32) -> Result<[u8; N], Errno> {
        let start = at as usize + offset as usize;
        self.0.get(start..start + N).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::Fault)
    }

    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Answer<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        self.bytes_mut(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub fn put_u32(&mut self, at: u32, value: u32) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    pub fn put_u64(&mut self, at: u32, value: u64) -> Answer<()> {
        self.put(at, &value.to_le_bytes())
    }

    /// The buffers of a call, one after the other, and their bytes in all.
    pub fn vectors(&self, at: u32, count: u32) -> Result<(impl Iterator<Item = Span> + use<>, usize), Errno> {
        if count > MOST_VECTORS {
            return Err(Errno::Invalid);
        }
        let mut spans = [Span { start: 0, end: 0 }; 8];
        let mut more = Vec::new();
        let mut total = 0_usize;
        for number in 0..count {
            let span = self.span(self.u32(at, number * 8)?, self.u32(at, number * 8 + 4)?)?;
            total += span.end - span.start;
            match spans.get_mut(number as usize) {
                Some(place) => *place = span,
                None => more.push(span),
            }
        }
        // What is moved by one call fits into its answer.
        if total > u32::MAX as usize {
            return Err(Errno::Invalid);
        }
        Ok((spans.into_iter().take(count as usize).chain(more), total))
    }
}
