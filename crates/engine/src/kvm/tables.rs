//! What the processor looks at: page tables, and the tables of segments and exceptions, in the platform's pages.
//!
//! ```text
//!  page  0           1      2       3          4 …
//!        GDT · TSS   IDT    exits   ring 0's   page tables: the first is the root
//!                                   stack
//! ```
//!
//! An exit is the instruction `out`, to the port that has the exception's number: there is one for each.

use crate::native::Mapping;
use crate::native::image::Rights;
use crate::native::layout::{PAGE, PLATFORM};

/// Pages of the platform: enough tables for any guest that fits the window.
pub const PAGES: usize = 512;
/// Where they are in the guest's physical memory, and where the window is.
pub const PLATFORM_AT: u64 = 0;
pub const WINDOW_AT: u64 = 1 << 32;

pub const GDT: u64 = PLATFORM;
pub const GDT_LIMIT: u16 = 7 * 8 - 1;
pub const TSS: u64 = PLATFORM + 0x800;
pub const TSS_LIMIT: u32 = 103;
pub const IDT: u64 = PLATFORM + PAGE;
pub const IDT_LIMIT: u16 = 4095;
const EXITS: u64 = PLATFORM + 2 * PAGE;
/// Where system calls lead to, and the number that they leave with: no exception has it.
pub const CALLS: u64 = EXITS + 0xf00;
pub const SYSTEM_CALL: u16 = 0xff;
pub const PAGE_FAULT: u16 = 14;
const RING_0_STACK: usize = 3;
const ROOT: usize = 4;
/// The root's physical address.
pub const ROOT_AT: u64 = PLATFORM_AT + ROOT as u64 * PAGE;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;
const LARGE_PAGE: u64 = 2 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What was pushed when an exception came.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub error: u64,
    pub pointer: u64,
    pub stack: u64,
}

/// The platform's pages.
#[derive(Debug)]
pub struct Tables<'a> {
    words: &'a mut [u64],
    /// The first page that is not used yet.
    next: usize,
}

impl<'a> Tables<'a> {
    /// Writes everything but the guest's own pages.
    pub fn new(words: &'a mut [u64]) -> Self {
        assert_eq!(words.len(), PAGES * 512, "the platform's pages");
        words.fill(0);
        let mut tables = Self { words, next: ROOT + 1 };
        tables.segments();
        tables.exceptions();
        for (page, flags) in [(0, NO_EXECUTE), (1, NO_EXECUTE), (2, 0), (3, NO_EXECUTE | WRITE)] {
            let at = page * PAGE;
            // The processor writes to a task's descriptor; its page is the kernel's own.
            tables.leaf(PLATFORM + at, PLATFORM_AT + at, flags | if page == 0 { WRITE } else { 0 }, false);
        }
        tables
    }

    fn segments(&mut self) {
        let tss = TSS;
        let task = u64::from(TSS_LIMIT) | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56;
        // None; ring 0's code and data; ring 3's data and code; the task.
        let all = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            task,
            tss >> 32,
        ];
        self.words[..7].copy_from_slice(&all);
        let top = PLATFORM + (RING_0_STACK as u64 + 1) * PAGE;
        // Its field of eight bytes lies at four.
        self.words[0x100] = top << 32;
        self.words[0x101] = top >> 32;
        self.words[0x10c] = 104 << 48;
    }

    fn exceptions(&mut self) {
        self.words[2 * 512 + 0xf00 / 8] = 0xf4_00e6 | u64::from(SYSTEM_CALL) << 8;
        for vector in 0..256_u64 {
            let exit = EXITS + vector * 8;
            let at = 512 + 2 * vector as usize;
            // Present, an interrupt gate, for ring 0's code; nobody in ring 3 may ask for it.
            self.words[at] = exit & 0xffff | 0x08 << 16 | 0x8e << 40 | (exit >> 16 & 0xffff) << 48;
            self.words[at + 1] = exit >> 32;
            // out vector, al; hlt
            self.words[2 * 512 + vector as usize] = 0xf4_00e6 | vector << 8;
        }
    }

    /// Shows the guest a mapping at the physical address `at`, which has to be as far from a large page as the mapping's own.
    pub fn show(&mut self, mapping: &Mapping, at: u64) -> Option<()> {
        let flags = USER
            | match mapping.rights {
                Rights::Read => NO_EXECUTE,
                Rights::Execute => 0,
                Rights::Write => WRITE | NO_EXECUTE,
            };
        let mut done = 0;
        while done < mapping.len {
            let address = mapping.address + done;
            let large = address.is_multiple_of(LARGE_PAGE) && mapping.len - done >= LARGE_PAGE;
            self.leaf(address, at + done, flags, large)?;
            done += if large { LARGE_PAGE } else { PAGE };
        }
        Some(())
    }

    fn leaf(&mut self, address: u64, at: u64, flags: u64, large: bool) -> Option<()> {
        let mut table = ROOT;
        let lowest = if large { 1 } else { 0 };
        for level in (lowest + 1..4).rev() {
            let entry = table * 512 + index(address, level);
            if self.words[entry] == 0 {
                let next = self.next;
                self.next = (next + 1 < PAGES).then_some(next + 1)?;
                self.words[entry] = (PLATFORM_AT + next as u64 * PAGE) | PRESENT | WRITE | USER;
            }
            table = ((self.words[entry] & ADDRESS) - PLATFORM_AT) as usize / PAGE as usize;
        }
        let large = if large { LARGE } else { 0 };
        self.words[table * 512 + index(address, lowest)] = at | flags | large | PRESENT;
        Some(())
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level) & 511) as usize
}

/// Where in the window mappings go: each as far from a large page as its own address. None if there is no room.
pub fn places(mappings: &[Mapping], window: u64) -> Option<Vec<u64>> {
    let mut next = WINDOW_AT;
    let place = |mapping: &Mapping| {
        let at = next + (mapping.address.wrapping_sub(next) & (LARGE_PAGE - 1));
        next = at.checked_add(mapping.len)?;
        (next <= WINDOW_AT + window).then_some(at)
    };
    mappings.iter().map(place).collect()
}

/// What the last exception pushed onto ring 0's stack, with an error code or without.
pub fn frame(words: &[u64]) -> Frame {
    let top = (RING_0_STACK + 1) * 512;
    Frame { error: words[top - 6], pointer: words[top - 5], stack: words[top - 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tables say that an address is.
    fn walk(words: &[u64], address: u64) -> Option<u64> {
        let mut table = ROOT;
        for level in (0..4).rev() {
            let entry = words[table * 512 + index(address, level)];
            if entry & PRESENT == 0 {
                return None;
            }
            let size = PAGE << (9 * level);
            if level == 0 || entry & LARGE != 0 {
                return Some((entry & ADDRESS) + address % size);
            }
            table = (entry & ADDRESS) as usize / PAGE as usize;
        }
        None
    }

    #[test]
    fn every_page_is_where_it_was_put_and_no_other_is() {
        let mapping = |address, len| Mapping { address, len, offset: 0, rights: Rights::Write };
        let mappings =
            [mapping(0x1_0000, 0x3000), mapping(0x4000_0000_0000, 0x50_1000), mapping(0x4fff_ffff_c000, 0x6000)];
        let places = places(&mappings, 1 << 30).unwrap();
        let mut words = vec![0; PAGES * 512];
        let mut tables = Tables::new(&mut words);
        for (mapping, at) in mappings.iter().zip(&places) {
            tables.show(mapping, *at).unwrap();
        }
        for (mapping, at) in mappings.iter().zip(&places) {
            for offset in [0, 1, PAGE, mapping.len - 1] {
                assert_eq!(walk(&words, mapping.address + offset), Some(at + offset));
            }
            assert_eq!(walk(&words, mapping.address + mapping.len), None);
            assert_eq!(walk(&words, mapping.address - 1), None);
        }
    }

    #[test]
    fn what_does_not_fit_the_window_is_told() {
        let mapping = Mapping { address: 0x4000_0000_0000, len: 2 << 30, offset: 0, rights: Rights::Read };
        assert!(places(&[mapping], 1 << 30).is_none());
    }
}
