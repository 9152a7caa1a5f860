//! The relocations of a static-pie: addresses within itself, to which the address is added at which it was put.
//!
//! Not here: anything that names a symbol, since there is nobody else to have one.

use super::elf::{ElfError, Reader};
use super::image::Region;

/// Tags of the dynamic section.
const RELA: u64 = 7;
const RELA_SIZE: u64 = 8;
const RELR_SIZE: u64 = 35;
const RELR: u64 = 36;
/// Types of relocations.
const NONE: u32 = 0;
const RELATIVE: u32 = 8;

/// The pages that are being made ready.
struct Memory<'a> {
    regions: &'a [Region],
    pages: &'a mut [u8],
}

impl Memory<'_> {
    /// Where the stored bytes from `address` on lie among the pages.
    fn place(&self, address: u64, len: u64) -> Result<usize, ElfError> {
        let within = |region: &&Region| address >= region.address && address - region.address < region.stored;
        let region = self.regions.iter().find(within).ok_or(ElfError::RelocationPlace(address))?;
        let start = address - region.address;
        let ends_within = start.checked_add(len).is_some_and(|end| end <= region.stored);
        ends_within.then_some((region.offset + start) as usize).ok_or(ElfError::RelocationPlace(address))
    }

    fn number(&self, address: u64) -> Result<u64, ElfError> {
        let at = self.place(address, 8)?;
        Reader(self.pages).u64(at as u64, "a relocation")
    }

    fn set(&mut self, address: u64, number: u64) -> Result<(), ElfError> {
        let at = self.place(address, 8)?;
        self.pages[at..at + 8].copy_from_slice(&number.to_le_bytes());
        Ok(())
    }
}

/// Does all that the dynamic section asks for. Addresses in `regions` have `shift` in them, those in the file do not.
pub fn all(dynamic: Reader<'_>, shift: u64, regions: &[Region], pages: &mut [u8]) -> Result<(), ElfError> {
    let entries = dynamic.0.chunks_exact(16).map(Reader);
    let entries: Result<Vec<_>, _> = entries.map(|entry| Ok((entry.u64(0, "")?, entry.u64(8, "")?))).collect();
    let entries = entries?;
    let tag = |wanted| {
        entries.iter().take_while(|(tag, _)| *tag != 0).find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
    };
    let mut memory = Memory { regions, pages };
    if let (Some(at), Some(len)) = (tag(RELA), tag(RELA_SIZE)) {
        with_addends(&mut memory, at.wrapping_add(shift), len, shift)?;
    }
    if let (Some(at), Some(len)) = (tag(RELR), tag(RELR_SIZE)) {
        packed(&mut memory, at.wrapping_add(shift), len, shift)?;
    }
    Ok(())
}

fn with_addends(memory: &mut Memory<'_>, at: u64, len: u64, shift: u64) -> Result<(), ElfError> {
    memory.place(at, len.max(1))?;
    for at in (0..len / 24).map(|n| at + n * 24) {
        let [place, kind, addend] = [memory.number(at)?, memory.number(at + 8)?, memory.number(at + 16)?];
        match kind as u32 {
            NONE => {}
            RELATIVE => memory.set(place.wrapping_add(shift), addend.wrapping_add(shift))?,
            other => return Err(ElfError::Relocation(other)),
        }
    }
    Ok(())
}

/// An even word is the address of one; an odd one says by its bits which of the 63 words that follow are some, too.
fn packed(memory: &mut Memory<'_>, at: u64, len: u64, shift: u64) -> Result<(), ElfError> {
    memory.place(at, len.max(1))?;
    let mut next = 0_u64;
    let add = |memory: &mut Memory<'_>, place| memory.set(place, memory.number(place)?.wrapping_add(shift));
    for at in (0..len / 8).map(|n| at + n * 8) {
        let word = memory.number(at)?;
        if word & 1 == 0 {
            let place = word.wrapping_add(shift);
            add(memory, place)?;
            next = place.wrapping_add(8);
            continue;
        }
        for bit in (0..63).filter(|bit| word >> (bit + 1) & 1 == 1) {
            add(memory, next.wrapping_add(bit * 8))?;
        }
        next = next.wrapping_add(63 * 8);
    }
    Ok(())
}
