//! The binary form of sets, for channels between gateway and engines. Numbers are little-endian and nothing is aligned:
//!
//! ```text
//! sets:  version u8 = 1 │ sets u32 │ set …
//! asking: version u8 = 2 │ run 16 bytes │ from u32 │ sets u32 │ set …
//! set:   name length u8 │ name │ items u32 │ item …
//! item:  name length u8 │ name │ key u64 │ where u8 │ where = 0: length u32 │ data
//!                                                   │ where = 1: engine u32 │ id u64 │ length u64
//! ```
//!
//! Reading copies names only: data stays where it lies in the message. What is read may have been written by an engine
//! that a guest has broken, so every number is checked before it is used, and nothing is allocated by what it says.

use std::ops::Range;

use bytes::Bytes;

use crate::limits::Room;
use crate::{Item, Limits, NameError, OverLimit, Set, Sets, name};

const VERSION: u8 = 1;
/// Sets of a request that names a run: see [`Ask`].
const ASKING: u8 = 2;
const INLINE: u8 = 0;
const HELD: u8 = 1;
/// What a set, and an item, take in the message at least; bounds what is allocated for a count that is only claimed.
const SMALLEST_SET: usize = 1 + 1 + 4;
const SMALLEST_ITEM: usize = 1 + 1 + 8 + 1 + 4;

/// Where the data of an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<B> {
    /// In the message.
    Inline(B),
    /// With an engine that has kept it.
    Held(Held),
}

/// The name of data that an engine has kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    pub engine: u32,
    pub id: u64,
    pub len: u64,
}

/// The name of a run of a flow, which nobody else can guess.
pub type RunId = [u8; 16];

/// What a request asks of its engine: data that is held is this run's, and outputs from so many bytes on are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub run: RunId,
    /// [`Ask::NOTHING`] for none.
    pub from: u32,
}

impl Ask {
    /// No output is as long.
    pub const NOTHING: u32 = u32::MAX;
}

/// What can be written as the data of an item.
pub trait Encode {
    fn data(&self) -> Data<&[u8]>;
}

impl<B: AsRef<[u8]>> Encode for Data<B> {
    fn data(&self) -> Data<&[u8]> {
        match self {
            Self::Inline(bytes) => Data::Inline(bytes.as_ref()),
            Self::Held(held) => Data::Held(*held),
        }
    }
}

impl<B: AsRef<[u8]>> Data<B> {
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.as_ref().len() as u64,
            Self::Held(held) => held.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Encode for Bytes {
    fn data(&self) -> Data<&[u8]> {
        Data::Inline(self)
    }
}

impl Encode for Vec<u8> {
    fn data(&self) -> Data<&[u8]> {
        Data::Inline(self)
    }
}

impl Encode for &[u8] {
    fn data(&self) -> Data<&[u8]> {
        Data::Inline(self)
    }
}

/// A message that sets are read from without copying their data.
pub trait Source {
    type Part;
    fn bytes(&self) -> &[u8];
    /// `range` lies within [`bytes`](Self::bytes).
    fn part(&self, range: Range<usize>) -> Self::Part;
    /// What follows those bytes and lies elsewhere: its length, and itself.
    fn tail(&self) -> Option<(usize, Self::Part)> {
        None
    }
}

/// A message whose last item's data lies apart: all that is to be understood is in the front.
pub struct Split {
    pub front: Bytes,
    pub tail: Option<Bytes>,
}

impl Source for Split {
    type Part = Bytes;

    fn bytes(&self) -> &[u8] {
        &self.front
    }

    fn part(&self, range: Range<usize>) -> Bytes {
        self.front.slice(range)
    }

    fn tail(&self) -> Option<(usize, Bytes)> {
        self.tail.as_ref().map(|tail| (tail.len(), tail.clone()))
    }
}

impl Source for Bytes {
    type Part = Bytes;

    fn bytes(&self) -> &[u8] {
        self
    }

    fn part(&self, range: Range<usize>) -> Bytes {
        self.slice(range)
    }
}

impl<'a> Source for &'a [u8] {
    type Part = &'a [u8];

    fn bytes(&self) -> &[u8] {
        self
    }

    fn part(&self, range: Range<usize>) -> &'a [u8] {
        &self[range]
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("set or item '{name}': {error}")]
    Name { name: String, error: NameError },
    #[error("item '{0}' has 4 GiB or more: hold it, and send its name")]
    Large(String),
    #[error("more sets or items than can be counted in 32 bits")]
    Many,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message ends at byte {0}, in the middle")]
    Short(usize),
    #[error("the message is of version {0}; this program reads {VERSION}")]
    Version(u8),
    #[error("{0} bytes follow the last set")]
    Trailing(usize),
    #[error("a name at byte {0} is not UTF-8")]
    NotText(usize),
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("data at byte {at} is said to lie at place {place}, which there is not")]
    Place { at: usize, place: u8 },
    #[error("{0}")]
    Limit(#[from] OverLimit),
}

/// The bytes that [`encode`] will write.
pub fn encoded_len<D: Encode>(sets: &[Set<D>]) -> usize {
    let item = |item: &Item<D>| {
        let data = match item.data.data() {
            Data::Inline(bytes) => 4 + bytes.len(),
            Data::Held(_) => 4 + 8 + 8,
        };
        1 + item.name.len() + 8 + 1 + data
    };
    let set = |set: &Set<D>| 1 + set.name.len() + 4 + set.items.iter().map(item).sum::<usize>();
    1 + 4 + sets.iter().map(set).sum::<usize>()
}

/// Appends the binary form to `out`.
pub fn encode<D: Encode>(sets: &[Set<D>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.reserve(encoded_len(sets));
    encode_parts(sets, |part| out.extend_from_slice(part))
}

/// The same for a request that asks for something.
pub fn encode_asking<D: Encode>(ask: Ask, sets: &[Set<D>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let begin = out.len();
    out.reserve(encoded_len(sets) + 20);
    out.push(ASKING);
    out.extend_from_slice(&ask.run);
    out.extend_from_slice(&ask.from.to_le_bytes());
    let mut is_first = true;
    // The version of the sets has been written already.
    let written = encode_parts(sets, |part| out.extend_from_slice(&part[usize::from(std::mem::take(&mut is_first))..]));
    if written.is_err() {
        out.truncate(begin);
    }
    written
}

/// Appends the binary form of one set with one item to `out`, but for the item's `len` bytes, which follow.
pub fn encode_head(set: &str, item: &str, len: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let len = u32::try_from(len).map_err(|_| EncodeError::Large(item.to_owned()))?;
    out.push(VERSION);
    push_count(out, 1)?;
    push_name(out, set)?;
    push_count(out, 1)?;
    push_name(out, item)?;
    out.extend_from_slice(&0_u64.to_le_bytes());
    out.push(INLINE);
    out.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Writes the binary form in parts, in order: for those who write into a ring, or gather. Parts that were written before
/// an error are to be thrown away.
pub fn encode_parts<D: Encode>(sets: &[Set<D>], mut out: impl FnMut(&[u8])) -> Result<(), EncodeError> {
    let mut head = Vec::with_capacity(512);
    head.push(VERSION);
    push_count(&mut head, sets.len())?;
    for set in sets {
        push_name(&mut head, &set.name)?;
        push_count(&mut head, set.items.len())?;
        for item in &set.items {
            push_name(&mut head, &item.name)?;
            head.extend_from_slice(&item.key.to_le_bytes());
            match item.data.data() {
                Data::Inline(bytes) => {
                    let len = u32::try_from(bytes.len()).map_err(|_| EncodeError::Large(item.name.clone()))?;
                    head.push(INLINE);
                    head.extend_from_slice(&len.to_le_bytes());
                    out(&head);
                    head.clear();
                    out(bytes);
                }
                Data::Held(held) => {
                    head.push(HELD);
                    head.extend_from_slice(&held.engine.to_le_bytes());
                    head.extend_from_slice(&held.id.to_le_bytes());
                    head.extend_from_slice(&held.len.to_le_bytes());
                }
            }
        }
    }
    out(&head);
    Ok(())
}

/// The data of the last item of all, which is the end of the binary form. None if it is not in the message, or sets follow.
pub fn last<D: Encode>(sets: &[Set<D>]) -> Option<&[u8]> {
    match sets.last()?.items.last()?.data.data() {
        Data::Inline(bytes) => Some(bytes),
        Data::Held(_) => None,
    }
}

/// Appends the binary form to `out` but for its end, the [`last`] item's data: the front of a [`Split`].
pub fn encode_front<D: Encode>(sets: &[Set<D>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut left = encoded_len(sets) - last(sets).map_or(0, <[u8]>::len);
    out.reserve(left);
    encode_parts(sets, |part| {
        let part = &part[..part.len().min(left)];
        left -= part.len();
        out.extend_from_slice(part);
    })
}

fn push_count(head: &mut Vec<u8>, count: usize) -> Result<(), EncodeError> {
    let count = u32::try_from(count).map_err(|_| EncodeError::Many)?;
    head.extend_from_slice(&count.to_le_bytes());
    Ok(())
}

fn push_name(head: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    name::check(text).map_err(|error| EncodeError::Name { name: text.to_owned(), error })?;
    // A name that is allowed has 255 bytes at most.
    head.push(text.len() as u8);
    head.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Reads sets that take the whole of `message`.
pub fn decode<S: Source>(message: &S, limits: Limits) -> Result<Sets<Data<S::Part>>, DecodeError> {
    let mut reader = Reader::new(message, limits);
    match reader.u8()? {
        VERSION => reader.sets(message),
        version => Err(DecodeError::Version(version)),
    }
}

/// Sets, and what is asked with them.
pub type Asked<P> = (Option<Ask>, Sets<Data<P>>);

/// Reads a request: sets, and what it may ask.
pub fn decode_asking<S: Source>(message: &S, limits: Limits) -> Result<Asked<S::Part>, DecodeError> {
    let mut reader = Reader::new(message, limits);
    let ask = match reader.u8()? {
        VERSION => None,
        ASKING => Some(Ask { run: reader.array()?, from: reader.u32()? }),
        version => return Err(DecodeError::Version(version)),
    };
    Ok((ask, reader.sets(message)?))
}

struct Reader<'a, P> {
    bytes: &'a [u8],
    at: usize,
    room: Room,
    /// What lies elsewhere, until it was come to.
    tail: Option<(usize, P)>,
}

impl<'a, P> Reader<'a, P> {
    fn new<S: Source<Part = P>>(message: &'a S, limits: Limits) -> Self {
        Self { bytes: message.bytes(), at: 0, room: Room::new(limits), tail: message.tail() }
    }

    fn sets<S: Source<Part = P>>(mut self, message: &S) -> Result<Sets<Data<P>>, DecodeError> {
        let count = self.u32()?;
        let mut sets = Vec::with_capacity(self.plausible(count, SMALLEST_SET));
        for _ in 0..count {
            sets.push(self.set(message)?);
        }
        match self.bytes.len() - self.at + self.tail.map_or(0, |(len, _)| len) {
            0 => Ok(sets),
            more => Err(DecodeError::Trailing(more)),
        }
    }

    fn set<S: Source<Part = P>>(&mut self, message: &S) -> Result<Set<Data<P>>, DecodeError> {
        self.room.set()?;
        let name = self.name()?;
        let count = self.u32()?;
        let mut items = Vec::with_capacity(self.plausible(count, SMALLEST_ITEM));
        for _ in 0..count {
            items.push(self.item(message)?);
        }
        Ok(Set { name, items })
    }

    fn item<S: Source<Part = P>>(&mut self, message: &S) -> Result<Item<Data<P>>, DecodeError> {
        self.room.item()?;
        let name = self.name()?;
        let key = self.u64()?;
        let at = self.at;
        let data = match self.u8()? {
            INLINE => {
                let len = self.u32()?;
                self.room.bytes(u64::from(len))?;
                let at_end = self.at == self.bytes.len();
                match self.tail.take_if(|(tail, _)| at_end && *tail == len as usize) {
                    Some((_, tail)) => Data::Inline(tail),
                    None => Data::Inline(message.part(self.take(len as usize)?)),
                }
            }
            HELD => {
                let held = Held { engine: self.u32()?, id: self.u64()?, len: self.u64()? };
                self.room.bytes(held.len)?;
                Data::Held(held)
            }
            place => return Err(DecodeError::Place { at, place }),
        };
        Ok(Item { name, key, data })
    }

    fn name(&mut self) -> Result<String, DecodeError> {
        let len = self.u8()?;
        let at = self.at;
        let range = self.take(usize::from(len))?;
        let text = std::str::from_utf8(&self.bytes[range]).map_err(|_| DecodeError::NotText(at))?;
        name::check(text)?;
        Ok(text.to_owned())
    }

    /// How many of `count` things the rest of the message has room for.
    fn plausible(&self, count: u32, smallest: usize) -> usize {
        (count as usize).min((self.bytes.len() - self.at) / smallest)
    }

    fn take(&mut self, len: usize) -> Result<Range<usize>, DecodeError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(DecodeError::Short(self.bytes.len()))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }
}
