//! A name of an entry, or where a link leads: short ones, which most are, lie where they are kept.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a short one.
const SHORT: usize = 22;

#[derive(Clone)]
pub struct Name(Kept);

#[derive(Clone)]
enum Kept {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { len, bytes } => &bytes[..usize::from(*len)],
            Kept::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        if name.len() > SHORT {
            return Self(Kept::Long(name.into()));
        }
        let mut bytes = [0; SHORT];
        bytes[..name.len()].copy_from_slice(name);
        Self(Kept::Short { len: name.len() as u8, bytes })
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        name.as_bytes().into()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_their_bytes_wherever_they_lie() {
        let bytes = [b'x'; 300];
        let mut names: Vec<Name> = (0..bytes.len()).rev().map(|len| Name::from(&bytes[..len])).collect();
        assert!(names.iter().rev().enumerate().all(|(len, name)| **name == bytes[..len]));
        names.sort();
        assert!(names.is_sorted_by_key(|name| name.len()));
        assert_eq!(size_of::<Name>(), 24);
    }
}
