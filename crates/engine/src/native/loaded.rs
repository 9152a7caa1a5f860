//! A program whose pages are in memory.

use super::Mapping;
use super::image::{Image, Rights};
use crate::arena::room::Room;
use crate::{Arena, Artefact, Kind, LoadError};
use os::mapping::Mapping as File;

/// Ready to be run.
#[derive(Debug)]
pub struct Loaded {
    pub image: Image,
    room: Room,
}

impl Loaded {
    /// Takes in an artefact that is for `here`.
    pub fn new(arena: &Arena, code: &Artefact, here: Kind) -> Result<Self, LoadError> {
        if code.kind != here {
            return Err(LoadError::Kind { found: code.kind, here });
        }
        let len = code.file.metadata()?.len();
        if len == 0 || len > 2 * super::elf::LARGEST {
            return Err(LoadError::Damaged("it has no bytes, or too many"));
        }
        let file = File::readable(&code.file, len as usize)?;
        // SAFETY: mapped for reading until the end of this function; artefacts are not changed while they are mapped (see
        // `Artefact`).
        let bytes = unsafe { std::slice::from_raw_parts(file.at(0), len as usize) };
        Self::of(arena, bytes)
    }

    /// Takes in an artefact's bytes.
    pub fn of(arena: &Arena, artefact: &[u8]) -> Result<Self, LoadError> {
        let (image, pages) = Image::decode(artefact)?;
        let full = |full: crate::arena::Full| LoadError::Refused(full.to_string());
        let mut room = arena.room(pages.len() as u64).map_err(full)?;
        room.charge(pages.len() as u64).map_err(full)?;
        room.write(0, pages);
        Ok(Self { image, room })
    }

    /// The regions that all runs share.
    pub fn shared(&self) -> impl Iterator<Item = Mapping> {
        let offset = self.room.offset();
        let fixed = self.image.regions.iter().filter(|region| region.rights != Rights::Write && region.stored > 0);
        fixed.map(move |region| Mapping {
            address: region.address,
            len: region.stored,
            offset: offset + region.offset,
            rights: region.rights,
        })
    }

    /// The first bytes of the regions that each run has a copy of.
    pub fn initial(&self, offset: u64, len: u64) -> &[u8] {
        // SAFETY: guests map these pages for reading only.
        unsafe { self.room.bytes(offset, len) }
    }

    /// Shared bytes at a guest's address, if they all lie in one region.
    pub fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        let fixed = self.image.regions.iter().filter(|region| region.rights != Rights::Write);
        let within = |at: u64, stored: u64| at.checked_add(len).is_some_and(|end| end <= stored);
        fixed
            .filter(|region| address >= region.address)
            .find(|region| within(address - region.address, region.stored))
            .map(|region| self.initial(region.offset + (address - region.address), len))
    }
}
