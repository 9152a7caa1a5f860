//! Writing a program down: an instruction a call, jumps to labels that may come later.

use super::Map;
use std::os::fd::{AsFd, AsRawFd};

/// R1 to R5 are a call's arguments and lost by it, R0 is its result; R6 to R9 last; R10 is the end of 512 bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much is loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

const MOVE: u8 = 0xb0;
const ADD: u8 = 0x00;
const SHIFT_LEFT: u8 = 0x60;
const SHIFT_RIGHT: u8 = 0x70;
const OR: u8 = 0x40;
const AND: u8 = 0x50;
const BY_REGISTER: u8 = 0x08;
const ARITHMETIC: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_BY_WORD: u8 = 0x06;
const EQUAL: u8 = 0x10;
const NOT_EQUAL: u8 = 0x50;
const LESS: u8 = 0xa0;
const AT_MOST: u8 = 0xb0;
const ATOMIC: u8 = 0xdb;
const FETCH_ADD: i32 = 0x01;
const COMPARE_EXCHANGE: i32 = 0xf1;

/// A program under construction.
#[derive(Debug, Default)]
pub struct Code {
    words: Vec<u64>,
    /// Where each label is, once it is known.
    places: Vec<Option<usize>>,
    /// Jumps, and where they lead.
    jumps: Vec<(usize, Label)>,
}

impl Code {
    fn put(&mut self, operation: u8, to: Reg, from: Reg, offset: i16, value: i32) -> &mut Self {
        let registers = to as u8 | (from as u8) << 4;
        let low = u64::from(operation) | u64::from(registers) << 8 | u64::from(offset as u16) << 16;
        self.words.push(low | u64::from(value as u32) << 32);
        self
    }

    /// `to = from`
    pub fn copy(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.put(MOVE | BY_REGISTER | ARITHMETIC, to, from, 0, 0)
    }

    /// `to = value`
    pub fn set(&mut self, to: Reg, value: i32) -> &mut Self {
        self.put(MOVE | ARITHMETIC, to, Reg::R0, 0, value)
    }

    /// `to += value`
    pub fn add(&mut self, to: Reg, value: i32) -> &mut Self {
        self.put(ADD | ARITHMETIC, to, Reg::R0, 0, value)
    }

    /// `to |= from`
    pub fn or(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.put(OR | BY_REGISTER | ARITHMETIC, to, from, 0, 0)
    }

    /// `to += from`
    pub fn add_register(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.put(ADD | BY_REGISTER | ARITHMETIC, to, from, 0, 0)
    }

    /// `to |= value`
    pub fn or_value(&mut self, to: Reg, value: i32) -> &mut Self {
        self.put(OR | ARITHMETIC, to, Reg::R0, 0, value)
    }

    /// `to &= value`
    pub fn and(&mut self, to: Reg, value: i32) -> &mut Self {
        self.put(AND | ARITHMETIC, to, Reg::R0, 0, value)
    }

    /// `to <<= bits`
    pub fn shift_left(&mut self, to: Reg, bits: i32) -> &mut Self {
        self.put(SHIFT_LEFT | ARITHMETIC, to, Reg::R0, 0, bits)
    }

    /// `to >>= bits`
    pub fn shift_right(&mut self, to: Reg, bits: i32) -> &mut Self {
        self.put(SHIFT_RIGHT | ARITHMETIC, to, Reg::R0, 0, bits)
    }

    /// `to =` its lower four bytes in the order of the network
    pub fn big_endian(&mut self, to: Reg) -> &mut Self {
        self.put(0xdc, to, Reg::R0, 0, 32)
    }

    /// `to = *(from + offset)`
    pub fn load(&mut self, width: Width, to: Reg, from: Reg, offset: i16) -> &mut Self {
        self.put(0x61 | width as u8, to, from, offset, 0)
    }

    /// `*(to + offset) = from`
    pub fn store(&mut self, width: Width, to: Reg, offset: i16, from: Reg) -> &mut Self {
        self.put(0x63 | width as u8, to, from, offset, 0)
    }

    /// `*(to + offset) = value`
    pub fn store_value(&mut self, width: Width, to: Reg, offset: i16, value: i32) -> &mut Self {
        self.put(0x62 | width as u8, to, Reg::R0, offset, value)
    }

    /// `add, *to += add`, where `add` becomes what was there before; eight bytes, at once.
    pub fn fetch_add(&mut self, to: Reg, add: Reg) -> &mut Self {
        self.put(ATOMIC, to, add, 0, FETCH_ADD)
    }

    /// If `*to` is R0 it becomes `new`; R0 becomes what was there before; eight bytes, at once.
    pub fn compare_exchange(&mut self, to: Reg, new: Reg) -> &mut Self {
        self.put(ATOMIC, to, new, 0, COMPARE_EXCHANGE)
    }

    /// `to =` a map, as calls take it.
    pub fn map(&mut self, to: Reg, map: impl AsFd) -> &mut Self {
        // R1 stands for "a descriptor of a map".
        self.put(0x18, to, Reg::R1, 0, map.as_fd().as_raw_fd()).put(0, Reg::R0, Reg::R0, 0, 0)
    }

    /// Calls the kernel, by the function's number.
    pub fn call(&mut self, function: i32) -> &mut Self {
        self.put(0x85, Reg::R0, Reg::R0, 0, function)
    }

    pub fn exit(&mut self) -> &mut Self {
        self.put(0x95, Reg::R0, Reg::R0, 0, 0)
    }

    /// A place that jumps can lead to, to be told by [`Self::here`].
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    pub fn here(&mut self, label: Label) -> &mut Self {
        self.places[label.0] = Some(self.words.len());
        self
    }

    fn jump(&mut self, kind: u8, a: Reg, b: Reg, value: i32, to: Label) -> &mut Self {
        self.jump_of(kind | JUMP, a, b, value, to)
    }

    fn jump_of(&mut self, operation: u8, a: Reg, b: Reg, value: i32, to: Label) -> &mut Self {
        self.jumps.push((self.words.len(), to));
        self.put(operation, a, b, 0, value)
    }

    pub fn go(&mut self, to: Label) -> &mut Self {
        self.jump(0, Reg::R0, Reg::R0, 0, to)
    }

    pub fn if_equal(&mut self, a: Reg, value: i32, to: Label) -> &mut Self {
        self.jump(EQUAL, a, Reg::R0, value, to)
    }

    pub fn if_not_equal(&mut self, a: Reg, value: i32, to: Label) -> &mut Self {
        self.jump(NOT_EQUAL, a, Reg::R0, value, to)
    }

    /// If the lower four bytes of `a` are `value`.
    pub fn if_word_equal(&mut self, a: Reg, value: i32, to: Label) -> &mut Self {
        self.jump_of(EQUAL | JUMP_BY_WORD, a, Reg::R0, value, to)
    }

    pub fn if_word_not_equal(&mut self, a: Reg, value: i32, to: Label) -> &mut Self {
        self.jump_of(NOT_EQUAL | JUMP_BY_WORD, a, Reg::R0, value, to)
    }

    pub fn if_same(&mut self, a: Reg, b: Reg, to: Label) -> &mut Self {
        self.jump(EQUAL | BY_REGISTER, a, b, 0, to)
    }

    pub fn if_different(&mut self, a: Reg, b: Reg, to: Label) -> &mut Self {
        self.jump(NOT_EQUAL | BY_REGISTER, a, b, 0, to)
    }

    /// If `a < b`, without signs.
    pub fn if_less(&mut self, a: Reg, b: Reg, to: Label) -> &mut Self {
        self.jump(LESS | BY_REGISTER, a, b, 0, to)
    }

    /// If `a <= b`, without signs.
    pub fn if_at_most(&mut self, a: Reg, b: Reg, to: Label) -> &mut Self {
        self.jump(AT_MOST | BY_REGISTER, a, b, 0, to)
    }

    /// The instructions, with all jumps in place. A label that was never placed is a mistake of the writer's.
    pub(super) fn words(&self) -> Vec<u64> {
        let mut words = self.words.clone();
        for (at, label) in &self.jumps {
            let place = self.places[label.0].expect("every label has a place");
            let distance = (place as i64 - *at as i64 - 1) as i16;
            words[*at] |= u64::from(distance as u16) << 16;
        }
        words
    }
}

impl Code {
    /// `R0 =` the address of the element whose key is on the stack, `offset` bytes below its end; 0 where there is none.
    pub fn look_up<const K: usize, const V: usize>(&mut self, map: &Map<K, V>, key: i16) -> &mut Self {
        self.map(Reg::R1, map).copy(Reg::R2, Reg::R10).add(Reg::R2, key.into()).call(1)
    }

    /// Stores an element of which key and value are on the stack. `R0 =` 0, or a negative error.
    pub fn update<const K: usize, const V: usize>(
        &mut self,
        map: &Map<K, V>,
        key: i16,
        value: i16,
        how: super::Store,
    ) -> &mut Self {
        self.map(Reg::R1, map).copy(Reg::R2, Reg::R10).add(Reg::R2, key.into());
        self.copy(Reg::R3, Reg::R10).add(Reg::R3, value.into()).set(Reg::R4, how as i32).call(2)
    }

    /// Removes the element whose key is on the stack.
    pub fn remove<const K: usize, const V: usize>(&mut self, map: &Map<K, V>, key: i16) -> &mut Self {
        self.map(Reg::R1, map).copy(Reg::R2, Reg::R10).add(Reg::R2, key.into()).call(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_as_the_kernel_documents_them() {
        let mut code = Code::default();
        let end = code.label();
        code.set(Reg::R0, 1).if_equal(Reg::R6, 0, end).load(Width::Word, Reg::R1, Reg::R6, 44);
        code.store(Width::Double, Reg::R10, -8, Reg::R1).here(end).exit();
        let expected =
            [0x0000_0001_0000_00b7, 0x0000_0000_0002_0615, 0x0000_0000_002c_6161, 0x0000_0000_fff8_1a7b, 0x95];
        assert_eq!(code.words(), expected);
    }
}
