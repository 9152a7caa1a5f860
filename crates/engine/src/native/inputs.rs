//! What a guest is given: Dandelion's structures over the input sets.
//!
//! ```text
//!  STACK_TOP   report page │ input sets + 1 │ output sets + 1 │ items │ names │ bytes of small items
//!              struct dandelion_system_data, in the program's own data, points there
//! ```
//!
//! Items are copied, which costs less than mapping them up to [`REMAP_FROM`]; larger ones that lie in the arena are shown in
//! the pages in which they are, read-only. Their last bytes are copied, since the rest of that page is somebody else's.

use super::context::{Context, View};
use super::image::Rights;
use super::layout::{INPUTS, PAGE, STACK_MOST, STACK_TOP, page_down};
use super::loaded::Loaded;
use super::{Mapping, TEXT_SET};
use crate::{Blob, Run, RunError};
use std::os::fd::{AsRawFd, BorrowedFd};

/// From here on bytes stay in their own pages.
pub const REMAP_FROM: u64 = 256 << 10;
/// Items that stay in their own pages, at most; the others are copied.
const REMAPPED_MOST: usize = 16;
/// Bytes of the structures.
const SET: u64 = 24;
const ITEM: u64 = 40;
/// What an item's bytes are aligned to.
const ALIGNED: u64 = 64;

/// The output sets that a run is asked for: those of the function, or `out` where it has none; and the one for text.
pub fn output_sets<'a>(run: &Run<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> = run.outputs.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.push("out");
    }
    if !names.contains(&TEXT_SET) {
        names.push(TEXT_SET);
    }
    names
}

/// Bytes that go one after the other, to guest's addresses from `address` on.
struct Area {
    bytes: Vec<u8>,
    address: u64,
}

impl Area {
    fn next(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }

    fn align(&mut self, to: u64) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to as usize), 0);
    }

    fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.bytes.extend_from_slice(&number.to_le_bytes()));
    }
}

/// What lies where.
struct Plan<'a> {
    run: &'a Run<'a>,
    /// Items that stay in their own pages, and at which address.
    apart: Vec<(&'a Blob, u64, u64, usize, usize)>,
    area: Area,
    /// Items that are copied, and the address that each is given.
    copied: u64,
}

/// Writes everything into the context. Answers what the guest sees.
pub fn write(context: &mut Context, program: &Loaded, run: &Run<'_>, arena: BorrowedFd<'_>) -> Result<View, RunError> {
    let outputs = output_sets(run);
    let mut plan =
        Plan { run, apart: apart(run, arena), area: Area { bytes: Vec::new(), address: STACK_TOP + PAGE }, copied: 0 };
    let [input_sets, output_sets, items] = plan.structures(&outputs)?;
    let system =
        super::layout::page_up(PAGE + plan.copied).ok_or(RunError::OutOfMemory { limit: run.limits.memory })?;
    let (mut view, ends) = context.lay_out(program, system, plan.apart.len() as u64 * PAGE)?;
    context.room.write(STACK_MOST + PAGE, &plan.area.bytes);
    plan.copy_small(context);
    plan.show_large(context, &mut view, ends);
    let mut data = Area { bytes: Vec::with_capacity(72), address: 0 };
    let counts = [run.inputs.len() as u64, outputs.len() as u64];
    let head = [256, view.heap.start, view.heap.end, counts[0], input_sets, counts[1], output_sets, items, 0];
    data.numbers(&head);
    // The exit code is the program's own to initialise: SDKs tell by it whether their end was ever reached.
    let place =
        context.place(&view, program.image.system_data, 72).ok_or(RunError::Start("no system data".to_owned()))?;
    context.room.write(place + 8, &data.bytes[8..]);
    Ok(view)
}

/// The items that stay where they are.
fn apart<'a>(run: &Run<'a>, arena: BorrowedFd<'_>) -> Vec<(&'a Blob, u64, u64, usize, usize)> {
    let mut next = INPUTS;
    let mut apart = Vec::new();
    for (set, items) in run.inputs.iter().enumerate() {
        for (item, blob) in items.items.iter().map(|item| &item.data).enumerate() {
            let Some((file, offset, len)) = blob.pages().filter(|pages| pages.2 as u64 >= REMAP_FROM) else { continue };
            if file.as_raw_fd() == arena.as_raw_fd() && offset.is_multiple_of(PAGE) && apart.len() < REMAPPED_MOST {
                apart.push((blob, offset, next, set, item));
                // A page between items, so that running over the end of one is seen.
                next += (len as u64).next_multiple_of(PAGE) + PAGE;
            }
        }
    }
    apart
}

impl Plan<'_> {
    /// Writes the structures, as if the bytes of small items followed behind. Answers where the three arrays lie.
    fn structures(&mut self, outputs: &[&str]) -> Result<[u64; 3], RunError> {
        let inputs = self.run.inputs;
        let items: u64 = inputs.iter().map(|set| set.items.len() as u64).sum();
        let names =
            |set: &sets::Set<Blob>| set.name.len() + set.items.iter().map(|item| item.name.len()).sum::<usize>();
        let names = inputs.iter().map(names).sum::<usize>() + outputs.iter().map(|name| name.len()).sum::<usize>();
        let input_sets = self.area.next();
        let output_sets = input_sets + (inputs.len() as u64 + 1) * SET;
        let bufs = output_sets + (outputs.len() as u64 + 1) * SET;
        let mut name = bufs + items * ITEM;
        let mut data = (name + names as u64).next_multiple_of(ALIGNED);
        let mut take = |bytes: usize| {
            name += bytes as u64;
            name - bytes as u64
        };
        let mut first = 0;
        for set in inputs {
            self.area.numbers(&[take(set.name.len()), set.name.len() as u64, first]);
            first += set.items.len() as u64;
        }
        self.area.numbers(&[0, 0, first]);
        for set in outputs {
            self.area.numbers(&[take(set.len()), set.len() as u64, 0]);
        }
        self.area.numbers(&[0, 0, 0]);
        for (set, item, its) in each(self.run) {
            let len = its.data.len() as u64;
            let address = match self.apart.iter().find(|apart| (apart.3, apart.4) == (set, item)) {
                Some(apart) => apart.2,
                None => {
                    data = data.next_multiple_of(ALIGNED) + len;
                    data - len
                }
            };
            self.area.numbers(&[take(its.name.len()), its.name.len() as u64, address, len, its.key]);
        }
        for set in inputs {
            self.area.put(&set.name);
        }
        outputs.iter().for_each(|set| self.area.put(set));
        each(self.run).for_each(|(_, _, item)| self.area.put(&item.name));
        self.area.align(ALIGNED);
        self.copied = data - (STACK_TOP + PAGE);
        if self.copied > self.run.limits.memory {
            return Err(RunError::OutOfMemory { limit: self.run.limits.memory });
        }
        Ok([input_sets, output_sets, bufs])
    }

    /// The bytes of small items, in the same order as their addresses were given.
    fn copy_small(&self, context: &mut Context) {
        let mut at = STACK_MOST + PAGE + self.area.bytes.len() as u64;
        for (set, item, its) in each(self.run) {
            if !self.apart.iter().any(|apart| (apart.3, apart.4) == (set, item)) {
                at = at.next_multiple_of(ALIGNED);
                context.room.write(at, &its.data);
                at += its.data.len() as u64;
            }
        }
    }

    fn show_large(&self, context: &mut Context, view: &mut View, ends: u64) {
        for (n, &(blob, offset, address, set, item)) in self.apart.iter().enumerate() {
            let len = blob.len() as u64;
            let (whole, end) = (page_down(len), ends + n as u64 * PAGE);
            view.mappings.push(Mapping { address, len: whole, offset, rights: Rights::Read });
            if whole < len {
                context.room.write(end, &blob[whole as usize..]);
                let offset = context.room.offset() + end;
                view.mappings.push(Mapping { address: address + whole, len: PAGE, offset, rights: Rights::Read });
            }
            view.apart.push((address, len, set, item));
        }
    }
}

fn each<'a>(run: &'a Run<'_>) -> impl Iterator<Item = (usize, usize, &'a sets::Item<Blob>)> {
    let sets = run.inputs.iter().enumerate();
    sets.flat_map(|(n, set)| set.items.iter().enumerate().map(move |(item, its)| (n, item, its)))
}
