//! A native program made ready: its pages, and where each belongs.
//!
//! ```text
//!  artefact  ┌─ magic · entry · system data · regions ─┬─ regions: address · memory · stored · offset · rights ─┬─ pages
//!            0                                         32                                                         page-aligned
//! ```
//!
//! All of it is in pages, so that loading is mapping. It is made from an ELF by [`super::elf`], in a process of its own that
//! whoever sent the ELF may have taken over: so it is checked again when it is read.

use super::layout::{PAGE, PROGRAM_END, PROGRAM_FIRST, page_up};
use crate::LoadError;

const MAGIC: u64 = u64::from_le_bytes(*b"LICHENE1");
const HEAD: usize = 32;
const ENTRY: usize = 40;
/// Regions of a program, at most.
pub const REGIONS: usize = 24;
/// Bytes of `struct dandelion_system_data`.
pub const SYSTEM_DATA: u64 = 72;

/// What may be done with a region beside reading it. Never both: code cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    Read,
    Execute,
    Write,
}

/// Pages side by side with the same rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub address: u64,
    /// Bytes in memory: beyond those that are stored, zeroes.
    pub memory: u64,
    pub stored: u64,
    /// Where the stored ones lie among the image's pages.
    pub offset: u64,
    pub rights: Rights,
}

impl Region {
    pub fn end(&self) -> u64 {
        self.address + self.memory
    }

    fn holds(&self, address: u64, len: u64) -> bool {
        address >= self.address && address.checked_add(len).is_some_and(|end| end <= self.end())
    }
}

/// A program, without its pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub entry: u64,
    /// The address of `__dandelion_system_data`.
    pub system_data: u64,
    /// By address; none overlaps another.
    pub regions: Vec<Region>,
}

impl Image {
    /// Whether a program of this shape, with `pages` bytes of pages, can be loaded. Everything that loading relies on.
    pub fn check(&self, pages: u64) -> Result<(), &'static str> {
        if self.regions.is_empty() || self.regions.len() > REGIONS {
            return Err("it has no regions, or too many");
        }
        let mut last = PROGRAM_FIRST;
        for region in &self.regions {
            let numbers = [region.address, region.memory, region.stored, region.offset];
            if numbers.iter().any(|number| number % PAGE != 0 || *number > PROGRAM_END) {
                return Err("a region is not in pages");
            }
            if region.address < last || region.memory == 0 || region.end() > PROGRAM_END {
                return Err("regions overlap, or lie where programs may not");
            }
            if region.stored > region.memory || region.offset + region.stored > pages {
                return Err("a region is longer than its pages");
            }
            last = region.end();
        }
        if !self.regions.iter().any(|region| region.rights == Rights::Execute && region.holds(self.entry, 1)) {
            return Err("the entry is not in its text");
        }
        let writable = |region: &&Region| region.rights == Rights::Write && region.holds(self.system_data, SYSTEM_DATA);
        self.regions.iter().find(writable).map(drop).ok_or("__dandelion_system_data is not in writable memory")
    }

    /// Bytes of memory that every run of it needs to itself.
    pub fn writable(&self) -> u64 {
        self.regions.iter().filter(|region| region.rights == Rights::Write).map(|region| region.memory).sum()
    }

    /// The artefact: this, and its pages.
    pub fn encode(&self, pages: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(pages.len() + PAGE as usize);
        let mut put = |numbers: &[u64]| numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        put(&[MAGIC, self.entry, self.system_data, self.regions.len() as u64]);
        for region in &self.regions {
            put(&[region.address, region.memory, region.stored, region.offset, region.rights as u64]);
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
        bytes.extend(pages);
        bytes
    }

    /// Reads an artefact: the image, and its pages.
    pub fn decode(artefact: &[u8]) -> Result<(Self, &[u8]), LoadError> {
        let number = |at: usize| -> Result<u64, LoadError> {
            let bytes = artefact.get(at..at + 8).ok_or(LoadError::Damaged("it is too short"))?;
            Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| LoadError::Damaged("it is too short"))?))
        };
        if number(0)? != MAGIC {
            return Err(LoadError::Damaged("it does not begin as one"));
        }
        let count = number(24)?.min(REGIONS as u64 + 1) as usize;
        let regions = (0..count).map(|n| read_region(HEAD + n * ENTRY, &number)).collect::<Result<_, _>>()?;
        let image = Self { entry: number(8)?, system_data: number(16)?, regions };
        let head = page_up((HEAD + count * ENTRY) as u64).unwrap_or(PAGE) as usize;
        let pages = artefact.get(head..).ok_or(LoadError::Damaged("it is too short"))?;
        image.check(pages.len() as u64).map_err(LoadError::Damaged)?;
        Ok((image, pages))
    }
}

fn read_region(at: usize, number: &impl Fn(usize) -> Result<u64, LoadError>) -> Result<Region, LoadError> {
    let rights = match number(at + 32)? {
        0 => Rights::Read,
        1 => Rights::Execute,
        2 => Rights::Write,
        _ => return Err(LoadError::Damaged("a region has rights that there are not")),
    };
    let [address, memory, stored, offset] = [number(at)?, number(at + 8)?, number(at + 16)?, number(at + 24)?];
    Ok(Region { address, memory, stored, offset, rights })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let text = Region { address: 0x10000, memory: 4096, stored: 4096, offset: 0, rights: Rights::Execute };
        let data = Region { address: 0x12000, memory: 8192, stored: 4096, offset: 4096, rights: Rights::Write };
        Image { entry: 0x10010, system_data: 0x12100, regions: vec![text, data] }
    }

    #[test]
    fn an_artefact_says_what_was_put_into_it() {
        let pages = [5; 8192];
        let artefact = image().encode(&pages);
        let (read, its) = Image::decode(&artefact).unwrap();
        assert_eq!((read, its), (image(), &pages[..]));
    }

    #[test]
    fn damaged_artefacts_are_refused() {
        let artefact = image().encode(&[5; 8192]);
        for end in [0, 7, 31, 90, 4096, 8192, artefact.len() - 1] {
            assert!(Image::decode(&artefact[..end]).is_err(), "cut at {end}");
        }
        let broken = |change: fn(&mut Image)| {
            let mut image = image();
            change(&mut image);
            Image::decode(&image.encode(&[5; 8192])).is_err()
        };
        assert!(broken(|image| image.entry = 0x12000));
        assert!(broken(|image| image.entry = 0x11000));
        assert!(broken(|image| image.system_data = 0x14000 - 71));
        assert!(broken(|image| image.system_data = u64::MAX - 8));
        assert!(broken(|image| image.regions[0].address = 0x1000));
        assert!(broken(|image| image.regions[0].memory = 12288));
        assert!(broken(|image| image.regions[1].offset = 8192));
        assert!(broken(|image| image.regions[1].offset = !4095));
        assert!(broken(|image| image.regions[1].memory = PROGRAM_END));
        assert!(broken(|image| image.regions[1].stored = 12288));
        assert!(broken(|image| image.regions.clear()));
    }
}
