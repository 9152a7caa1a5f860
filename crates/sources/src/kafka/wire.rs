//! Kafka's protocol, byte by byte. What a broker sends is not believed: every length is held against what is there.

use thiserror::Error;

/// The bytes are not what the protocol says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the broker sent what is not Kafka's protocol")]
pub struct Malformed;

/// A request being written.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn i8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A text of up to 32 KiB; names are shorter by far.
    pub fn text(self, text: &str) -> Self {
        let mut written = self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        written.0.extend(text.as_bytes());
        written
    }
}

/// An answer being read.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A number of varying length, its sign in its lowest bit.
    pub fn varint(&mut self) -> Result<i64, Malformed> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.i8()? as u8;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Malformed)
    }

    /// A text; nothing where there is none.
    pub fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        match self.i16()? {
            -1 => Ok(None),
            length => {
                let bytes = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
                std::str::from_utf8(bytes).map(Some).map_err(|_| Malformed)
            }
        }
    }

    /// Bytes whose length is a varint; nothing where there are none.
    pub fn varbytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Malformed)?).map(Some),
        }
    }

    /// Bytes; none is as good as nothing.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.i32()? {
            -1 => Ok(&[]),
            length => self.take(usize::try_from(length).map_err(|_| Malformed)?),
        }
    }

    /// A list: each of its items takes a byte at least, so no length costs more memory than was sent.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let length = usize::try_from(self.i32()?.max(0)).map_err(|_| Malformed)?;
        if length > self.0.len() {
            return Err(Malformed);
        }
        (0..length).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_varying_length() {
        for (bytes, number) in [
            (&[0][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0x80, 0x01], 64),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MIN),
        ] {
            assert_eq!(Reader(bytes).varint(), Ok(number));
        }
        assert_eq!((Reader(&[0x80]).varint(), Reader(&[0xff; 11]).varint()), (Err(Malformed), Err(Malformed)));
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(Reader(&[0x7f, 0xff]).text(), Err(Malformed));
        assert_eq!(Reader(&[0xff, 0xfe]).text(), Err(Malformed));
        assert_eq!(Reader(&[0x7f, 0xff, 0xff, 0xff, 1]).list(|list| list.i8()), Err(Malformed));
        assert_eq!(Reader(&[0x80, 0, 0, 0]).bytes(), Err(Malformed));
        assert_eq!(Reader(&[0, 0, 0, 2, 7, 8]).list(|list| list.i8()), Ok(vec![7, 8]));
    }
}
