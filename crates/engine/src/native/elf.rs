//! Static x86-64 ELF programs, as compilers make them: refused, or turned into an [`Image`].
//!
//! What it takes: ET_EXEC linked anywhere from 0x10000 on; and static-pie, which is put there, and whose relative relocations
//! are done here. The symbol `__dandelion_system_data` says where the platform and the program meet.
//!
//! Every number in the file is whatever its sender liked. Not here: a dynamic linker, thread-local storage, other machines.

use super::image::{Image, REGIONS, Region, Rights};
use super::layout::{PAGE, PROGRAM_END, PROGRAM_FIRST, page_down, page_up};
use super::relocate;
use crate::CompileError;

/// Bytes of a file, at most.
pub const LARGEST: u64 = 256 << 20;
const SYMBOL: &[u8] = b"__dandelion_system_data\0";
/// Types of program headers.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// Types of sections.
const SYMBOLS: u32 = 2;
const DYNAMIC_SYMBOLS: u32 = 11;

/// Why a file is no program for Lichen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("it ends in the middle of {0}")]
    Short(&'static str),
    #[error("it is not for x86-64: build it for x86_64")]
    Machine,
    #[error("it is no program: it has to be linked, as a static one")]
    Type,
    #[error("it needs a dynamic linker, which pure functions do not have: link it with -static")]
    Interpreter,
    #[error("it has {0} segments; at most {REGIONS} are taken")]
    Segments(usize),
    #[error("the segment at {0:#x} is longer in the file than in memory")]
    Longer(u64),
    #[error(
        "the segment at {0:#x} is not between {PROGRAM_FIRST:#x} and {PROGRAM_END:#x}: link it with --image-base=0x10000"
    )]
    Place(u64),
    #[error("the segments at {0:#x} and before it overlap")]
    Overlap(u64),
    #[error("memory at {0:#x} is both written and executed: keep code apart from data (-z separate-code, no -N)")]
    WriteAndExecute(u64),
    #[error("it has no symbol __dandelion_system_data: link it with Lichen's SDK or Dandelion's, and do not strip it")]
    Symbol,
    #[error(
        "it has a relocation of type {0}, which only a dynamic linker can do: link it with -static, without TLS and IFUNC"
    )]
    Relocation(u32),
    #[error("a relocation is for memory at {0:#x}, which the file does not fill")]
    RelocationPlace(u64),
    #[error("{0}")]
    Shape(&'static str),
}

/// Numbers of a file, where there are such.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&self, at: u64, len: u64, what: &'static str) -> Result<&'a [u8], ElfError> {
        let end = at.checked_add(len).ok_or(ElfError::Short(what))?;
        self.0.get(at as usize..end as usize).ok_or(ElfError::Short(what))
    }

    fn number<const N: usize>(&self, at: u64, what: &'static str) -> Result<[u8; N], ElfError> {
        self.bytes(at, N as u64, what)?.try_into().map_err(|_| ElfError::Short(what))
    }

    fn u16(&self, at: u64, what: &'static str) -> Result<u16, ElfError> {
        Ok(u16::from_le_bytes(self.number(at, what)?))
    }

    fn u32(&self, at: u64, what: &'static str) -> Result<u32, ElfError> {
        Ok(u32::from_le_bytes(self.number(at, what)?))
    }

    pub fn u64(&self, at: u64, what: &'static str) -> Result<u64, ElfError> {
        Ok(u64::from_le_bytes(self.number(at, what)?))
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    memory: u64,
    offset: u64,
    stored: u64,
    rights: Rights,
}

/// What is to be loaded, and where the dynamic section lies in the file: its offset and length.
type Contents = (Vec<Segment>, Option<(u64, u64)>);

/// What compiling is for native code: the artefact of an ELF.
pub fn compile(elf: &[u8]) -> Result<Vec<u8>, CompileError> {
    if elf.len() as u64 > LARGEST {
        return Err(CompileError::TooLarge { bytes: elf.len() as u64, limit: LARGEST });
    }
    if elf.get(..4) != Some(b"\x7fELF") {
        let found = elf.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        return Err(CompileError::NotThis { expected: "an ELF program", found });
    }
    let (image, pages) = read(elf).map_err(|error| CompileError::Invalid(error.to_string()))?;
    Ok(image.encode(&pages))
}

/// The program in an ELF file, and its pages.
pub fn read(elf: &[u8]) -> Result<(Image, Vec<u8>), ElfError> {
    let file = Reader(elf);
    let what = "its head";
    if file.bytes(0, 6, what)? != b"\x7fELF\x02\x01" || file.u16(18, what)? != 62 {
        return Err(ElfError::Machine);
    }
    let movable = match file.u16(16, what)? {
        2 => false,
        3 => true,
        _ => return Err(ElfError::Type),
    };
    let (mut segments, dynamic) = segments(file)?;
    let lowest = segments.first().ok_or(ElfError::Type)?.address;
    let shift = if movable && lowest < PROGRAM_FIRST { PROGRAM_FIRST } else { 0 };
    for segment in &mut segments {
        segment.address = segment.address.checked_add(shift).ok_or(ElfError::Place(lowest))?;
    }
    let mut image = Image {
        entry: file.u64(24, what)?.checked_add(shift).ok_or(ElfError::Shape("its entry is nowhere"))?,
        system_data: symbol(file)?.checked_add(shift).ok_or(ElfError::Symbol)?,
        regions: regions(&segments)?,
    };
    let mut pages = fill(file, &segments, &mut image.regions)?;
    if let Some((offset, len)) = dynamic.filter(|_| movable) {
        relocate::all(Reader(file.bytes(offset, len, "its dynamic section")?), shift, &image.regions, &mut pages)?;
    }
    image.check(pages.len() as u64).map_err(ElfError::Shape)?;
    Ok((image, pages))
}

/// By address.
fn segments(file: Reader<'_>) -> Result<Contents, ElfError> {
    let what = "its program headers";
    let (start, size, count) = (file.u64(32, what)?, file.u16(54, what)?, file.u16(56, what)?);
    if size != 56 || count > 128 {
        return Err(ElfError::Segments(count.into()));
    }
    let (mut segments, mut dynamic) = (Vec::new(), None);
    for n in 0..u64::from(count) {
        let at = start.checked_add(n * 56).ok_or(ElfError::Short(what))?;
        let number = |n: u64| file.u64(at.saturating_add(n), what);
        match file.u32(at, what)? {
            INTERPRETER => return Err(ElfError::Interpreter),
            DYNAMIC => dynamic = Some((number(8)?, number(32)?)),
            LOAD if number(40)? > 0 => {
                let [offset, address, stored, memory] = [number(8)?, number(16)?, number(32)?, number(40)?];
                let rights = rights(file.u32(at + 4, what)?).ok_or(ElfError::WriteAndExecute(address))?;
                segments.push(Segment { address, memory, offset, stored, rights });
            }
            _ => {}
        }
    }
    if segments.len() > REGIONS {
        return Err(ElfError::Segments(segments.len()));
    }
    segments.sort_by_key(|segment| segment.address);
    Ok((segments, dynamic))
}

fn rights(flags: u32) -> Option<Rights> {
    match (flags & 1 != 0, flags & 2 != 0) {
        (true, true) => None,
        (true, false) => Some(Rights::Execute),
        (false, true) => Some(Rights::Write),
        (false, false) => Some(Rights::Read),
    }
}

/// The pages of all segments. A page in which one segment ends and another begins has the rights of both.
fn regions(segments: &[Segment]) -> Result<Vec<Region>, ElfError> {
    let mut regions: Vec<Region> = Vec::new();
    let mut last_byte = 0;
    for segment in segments {
        let end = segment.address.checked_add(segment.memory).ok_or(ElfError::Place(segment.address))?;
        if segment.address < PROGRAM_FIRST || end > PROGRAM_END {
            return Err(ElfError::Place(segment.address));
        }
        if segment.stored > segment.memory {
            return Err(ElfError::Longer(segment.address));
        }
        if segment.address < last_byte {
            return Err(ElfError::Overlap(segment.address));
        }
        last_byte = end;
        let mut start = page_down(segment.address);
        let end = page_up(end).ok_or(ElfError::Place(segment.address))?;
        if let Some(last) = regions.last_mut().filter(|last| last.end() > start) {
            let both = both(last.rights, segment.rights).ok_or(ElfError::WriteAndExecute(start))?;
            if last.address == start {
                last.rights = both;
            } else {
                last.memory -= PAGE;
                regions.push(region(start, start + PAGE, both));
            }
            start += PAGE;
        }
        if end > start {
            regions.push(region(start, end, segment.rights));
        }
    }
    Ok(regions)
}

fn region(address: u64, end: u64, rights: Rights) -> Region {
    Region { address, memory: end - address, stored: 0, offset: 0, rights }
}

fn both(one: Rights, other: Rights) -> Option<Rights> {
    match (one, other) {
        (Rights::Read, any) | (any, Rights::Read) => Some(any),
        (one, other) => (one == other).then_some(one),
    }
}

/// The pages that the file fills, of all regions one after the other.
fn fill(file: Reader<'_>, segments: &[Segment], regions: &mut [Region]) -> Result<Vec<u8>, ElfError> {
    let mut pages = Vec::new();
    for region in regions {
        let (start, last) = (region.address, region.end());
        let within = |segment: &&Segment| segment.address < last && segment.address + segment.stored > start;
        let stored = segments.iter().filter(within).map(|segment| segment.address + segment.stored).max();
        let end = stored.unwrap_or(region.address).min(region.end());
        region.stored = page_up(end).ok_or(ElfError::Place(end))? - region.address;
        region.offset = pages.len() as u64;
        // The file's own length bounds this: pages that it fills, and at most one more per segment.
        pages.resize(pages.len() + region.stored as usize, 0);
        for segment in segments.iter().filter(within) {
            let bytes = file.bytes(segment.offset, segment.stored, "a segment")?;
            let from = segment.address.max(region.address);
            let to = (segment.address + segment.stored).min(region.end());
            let part = &bytes[(from - segment.address) as usize..(to - segment.address) as usize];
            let at = (region.offset + from - region.address) as usize;
            pages[at..at + part.len()].copy_from_slice(part);
        }
    }
    Ok(pages)
}

/// The value of `__dandelion_system_data`.
fn symbol(file: Reader<'_>) -> Result<u64, ElfError> {
    let what = "its sections";
    let (start, size, count) = (file.u64(40, what)?, file.u16(58, what)?, file.u16(60, what)?);
    if size != 64 {
        return Err(ElfError::Symbol);
    }
    let section = |n: u64| start.checked_add(n * 64).ok_or(ElfError::Short(what));
    for n in 0..u64::from(count) {
        let at = section(n)?;
        if !matches!(file.u32(at.saturating_add(4), what)?, SYMBOLS | DYNAMIC_SYMBOLS) {
            continue;
        }
        let symbols = file.bytes(file.u64(at + 24, what)?, file.u64(at + 32, what)?, "its symbols")?;
        let names = section(file.u32(at + 40, what)?.into())?;
        file.bytes(names, 64, what)?;
        let names = file.bytes(file.u64(names + 24, what)?, file.u64(names + 32, what)?, "its symbols' names")?;
        let ours = |entry: &&[u8]| {
            let name = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
            entry[6..8] != [0, 0] && names.get(name..).is_some_and(|name| name.starts_with(SYMBOL))
        };
        if let Some(entry) = symbols.chunks_exact(24).find(ours) {
            return Reader(entry).u64(8, what);
        }
    }
    Err(ElfError::Symbol)
}
