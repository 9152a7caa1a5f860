//! What a guest has left, read after its end: Dandelion's structures, which it may have filled with anything.
//!
//! Nothing in them is believed: every address is looked up among what the guest was given, every count and every sum is
//! checked before anything is made of it. Small items are copied together; those of usual lengths are read where they lie, and the
//! memory serves the next guest when they have been; large ones stay there, and the memory around them is cleared.
//!
//! Not here: how the guest has ended.

use super::TEXT_SET;
use super::context::{Context, View};
use super::contexts::Contexts;
use super::inputs::REMAP_FROM;
use super::loaded::Loaded;
use crate::{Blob, Finished, Run, RunError};
use bytes::Bytes;
use sets::{Item, Set, Sets};
use std::ops::Range;

/// Shorter ones are copied: an item that keeps all of a guest's memory ought to be worth it.
const LENT_FROM: u64 = 16 << 10;
const SYSTEM: u64 = 72;
const SET: u64 = 24;
const ITEM: u64 = 40;
/// The exit code of a program whose end was never reached.
const NEVER_ENDED: i32 = 256;

/// A guest's memory after its end.
pub struct Memory<'a> {
    pub context: &'a Context,
    pub view: &'a View,
    pub program: &'a Loaded,
    pub run: &'a Run<'a>,
}

/// Bytes of an item, and where they are.
enum Data {
    /// A part of the small items' bytes.
    Small(Range<usize>),
    /// A part of the context's room.
    Large(Range<u64>),
    /// A part of an input.
    Input(Blob),
}

/// The items of a set, before all are known to be good.
type Found = Vec<Item<Data>>;

/// Reads the outputs of a guest that has ended by itself, and sees to its context.
pub fn take(context: Context, view: &View, program: &Loaded, run: &Run<'_>, contexts: &mut Contexts) -> Finished {
    let memory = Memory { context: &context, view, program, run };
    let (sets, small) = match memory.read() {
        Ok(read) => read,
        Err(error) => {
            contexts.give(context);
            return Finished::failed(error);
        }
    };
    let all = sets.iter().flat_map(|set| &set.items);
    let parts: Vec<_> =
        all.filter_map(|item| if let Data::Large(part) = &item.data { Some(part.clone()) } else { None }).collect();
    if parts.is_empty() {
        contexts.give(context);
        return finish(sets, small, run, |_| Blob::default());
    }
    if parts.iter().all(|part| part.end - part.start < REMAP_FROM) {
        let room = contexts.lend(context);
        return finish(sets, small, run, |part| Blob::new(room.slice(part.start as usize..part.end as usize)));
    }
    match context.room.keep(&parts) {
        Ok(kept) => finish(sets, small, run, kept.blobs()),
        Err(full) => Finished::failed(RunError::Busy(full.held)),
    }
}

fn finish(sets: Vec<Set<Data>>, small: Bytes, run: &Run<'_>, large: impl Fn(Range<u64>) -> Blob) -> Finished {
    let blob = |data: Data| match data {
        Data::Small(part) => Blob::new(small.slice(part)),
        Data::Large(part) => large(part),
        Data::Input(blob) => blob,
    };
    let mut sets: Sets<Blob> = sets.into_iter().map(|set| set.map(blob)).collect();
    let mut finished = Finished { outcome: Ok(Vec::new()), stdout: Vec::new(), stderr: Vec::new(), memory_peak: 0 };
    if !run.outputs.iter().any(|name| name == TEXT_SET)
        && let Some(text) = sets.pop_if(|set| set.name == TEXT_SET)
    {
        let limit = run.limits.text_bytes;
        let of = |name: &str| {
            let its = text.items.iter().find(|item| item.name == name);
            its.map(|item| item.data[..item.data.len().min(limit)].to_vec()).unwrap_or_default()
        };
        (finished.stdout, finished.stderr) = (of("stdout"), of("stderr"));
    }
    finished.outcome = Ok(sets);
    finished
}

impl Memory<'_> {
    /// Bytes at a guest's address, if they all are in one piece of its memory.
    fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        if let Some(place) = self.context.place(self.view, address, len) {
            // SAFETY: the guest has ended, by the contract of `take`'s caller: a context in our hands is lent to nobody.
            return Some(unsafe { self.context.room.bytes(place, len) });
        }
        self.program.bytes(address, len)
    }

    fn number(&self, address: u64, what: &'static str) -> Result<u64, RunError> {
        let bytes = self.bytes(address, 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| outside(what, address, 8))
    }

    fn read(&self) -> Result<(Vec<Set<Data>>, Bytes), RunError> {
        let system = self.program.image.system_data;
        let head = self.bytes(system, SYSTEM).ok_or_else(|| outside("the system data", system, SYSTEM))?;
        let exit = i32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        match exit {
            0 => {}
            NEVER_ENDED => {
                return Err(bad(
                    "the function ended before its SDK's end was reached: its outputs were not handed over",
                ));
            }
            code => return Err(RunError::Exit(code)),
        }
        let names = super::inputs::output_sets(self.run);
        let [count, sets, items] = [system + 40, system + 48, system + 64].map(|at| self.number(at, "the system data"));
        if count? != names.len() as u64 {
            return Err(bad("the number of output sets is not the one that was given"));
        }
        let (first, sets, items) = (0, sets?, items?);
        let firsts = self.firsts(sets, names.len() as u64)?;
        let total = firsts[names.len()] - firsts[first];
        if total > self.run.limits.output_items as u64 {
            return Err(RunError::TooManyItems { limit: self.run.limits.output_items });
        }
        let mut small = Vec::new();
        let mut left = self.run.limits.output_bytes;
        let mut found = Vec::with_capacity(names.len());
        for (n, name) in names.iter().enumerate() {
            let its = self.items(items, firsts[n]..firsts[n + 1], &mut left, &mut small)?;
            found.push(Set::new(*name, its));
        }
        Ok((found, small.into()))
    }

    /// Where the items of each set begin, and where the last one's end.
    fn firsts(&self, sets: u64, count: u64) -> Result<Vec<u64>, RunError> {
        let bytes =
            self.bytes(sets, (count + 1) * SET).ok_or_else(|| outside("the output sets", sets, (count + 1) * SET))?;
        let firsts: Vec<u64> = bytes.chunks_exact(SET as usize).map(|set| number(set, 16)).collect();
        match firsts.windows(2).all(|pair| pair[0] <= pair[1]) {
            true => Ok(firsts),
            false => Err(bad("an output set ends before it begins")),
        }
    }

    fn items(&self, items: u64, range: Range<u64>, left: &mut u64, small: &mut Vec<u8>) -> Result<Found, RunError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let place = range.start.checked_mul(ITEM).and_then(|before| items.checked_add(before));
        let len = (range.end - range.start) * ITEM;
        let bytes =
            place.and_then(|place| self.bytes(place, len)).ok_or_else(|| outside("the output items", items, len))?;
        let each = bytes.chunks_exact(ITEM as usize).enumerate();
        each.map(|(n, item)| self.item(n, item, left, small)).collect()
    }

    fn item(&self, n: usize, item: &[u8], left: &mut u64, small: &mut Vec<u8>) -> Result<Item<Data>, RunError> {
        let [name, name_len, data, len, key] = [0, 8, 16, 24, 32].map(|at| number(item, at));
        let name = self.name(n, name, name_len)?;
        *left = left.checked_sub(len).ok_or(RunError::OutputTooLarge { limit: self.run.limits.output_bytes })?;
        let data = match self.input(data, len) {
            Some(input) => Data::Input(input),
            None if len == 0 => Data::Small(0..0),
            None => self.data(data, len, small)?,
        };
        Ok(Item::new(name, key, data))
    }

    /// An item's name: its number where it has none. A `/` is written as folders are, in names of items.
    fn name(&self, n: usize, address: u64, len: u64) -> Result<String, RunError> {
        if len == 0 {
            return Ok(n.to_string());
        }
        if len > sets::name::LONGEST as u64 {
            return Err(bad(&format!("the name of item {n} has {len} bytes, and may have {}", sets::name::LONGEST)));
        }
        let bytes = self.bytes(address, len).ok_or_else(|| outside("the name of an item", address, len))?;
        let name = std::str::from_utf8(bytes).map_err(|_| bad(&format!("the name of item {n} is not UTF-8")))?;
        let name = if name.contains('/') { name.replace('/', "%2F") } else { name.to_owned() };
        sets::name::check(&name).map_err(|error| bad(&format!("item {n}: {error}")))?;
        Ok(name)
    }

    fn data(&self, address: u64, len: u64, small: &mut Vec<u8>) -> Result<Data, RunError> {
        if len >= LENT_FROM
            && let Some(place) = self.context.place(self.view, address, len)
        {
            return Ok(Data::Large(place..place + len));
        }
        let bytes = self.bytes(address, len).ok_or_else(|| outside("the bytes of an item", address, len))?;
        let start = small.len();
        small.extend_from_slice(bytes);
        Ok(Data::Small(start..small.len()))
    }

    /// A part of an input that lies in its own pages, handed on as it is.
    fn input(&self, address: u64, len: u64) -> Option<Blob> {
        let within = |apart: &&(u64, u64, usize, usize)| address >= apart.0 && address - apart.0 < apart.1;
        let &(start, all, set, item) = self.view.apart.iter().find(within)?;
        let from = address - start;
        let to = from.checked_add(len).filter(|to| *to <= all)?;
        Some(self.run.inputs[set].items[item].data.slice(from as usize..to as usize))
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn bad(what: &str) -> RunError {
    RunError::BadOutput(what.to_owned())
}

fn outside(what: &str, address: u64, len: u64) -> RunError {
    bad(&format!("{what} would be {len} bytes at {address:#x}, which is not in the function's memory"))
}
