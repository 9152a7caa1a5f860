//! What the two ends of a fabric say to each other beside it, over a link that both trust.
//!
//! | first byte | then | says |
//! |---|---|---|
//! | 0 | version, provider, tag (8), name | where this end is, and which messages it takes |
//! | 1 | count (8) | so many messages have been read here since the beginning: there is room for [`super::WINDOW`] more |
//! | 2 | count (8) | this end naps, having received so many: ring when there are more |
//! | 3 | count (8) | there are so many messages: wake, and look until they have come |
//! | 4 | count (8) | the same, and there will be no more |
//!
//! Counts are totals, little end first, so that one that is late, early or repeated does no harm.

use super::Provider;
use super::endpoint::NAME_MAX;

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Hello { provider: Provider, tag: u64, name: Vec<u8> },
    Read(u64),
    Nap(u64),
    Ring(u64),
    Bye(u64),
}

impl Word {
    pub fn encode(&self) -> Vec<u8> {
        let count = |kind: u8, count: u64| [&[kind][..], &count.to_le_bytes()].concat();
        match self {
            Self::Hello { provider, tag, name } => {
                [&[0, VERSION, provider.code()][..], &tag.to_le_bytes(), name].concat()
            }
            Self::Read(total) => count(1, *total),
            Self::Nap(total) => count(2, *total),
            Self::Ring(total) => count(3, *total),
            Self::Bye(total) => count(4, *total),
        }
    }

    /// The word, if it is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if let [0, VERSION, provider, rest @ ..] = bytes {
            let (tag, name) = rest.split_first_chunk()?;
            let provider = Provider::ALL.into_iter().find(|known| known.code() == *provider)?;
            let fits = (1..=NAME_MAX).contains(&name.len());
            return fits.then(|| Self::Hello { provider, tag: u64::from_le_bytes(*tag), name: name.to_vec() });
        }
        let (kind, total) = bytes.split_first()?;
        let total = u64::from_le_bytes(total.try_into().ok()?);
        match kind {
            1 => Some(Self::Read(total)),
            2 => Some(Self::Nap(total)),
            3 => Some(Self::Ring(total)),
            4 => Some(Self::Bye(total)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_and_nothing_else_is_one() {
        let hello = Word::Hello { provider: Provider::Shm, tag: 7, name: b"fi_shm://1\0".to_vec() };
        for word in [hello.clone(), Word::Read(1), Word::Nap(u64::MAX), Word::Ring(3), Word::Bye(0)] {
            let bytes = word.encode();
            assert_eq!(Word::decode(&bytes), Some(word));
            for len in 0..bytes.len().min(9) {
                assert_eq!(Word::decode(&bytes[..len]), None, "{len} bytes");
            }
        }
        assert_eq!(Word::decode(&[9; 9]), None);
        assert_eq!(Word::decode(&[1; 10]), None);
        let mut bytes = hello.encode();
        bytes.resize(12 + NAME_MAX, 0);
        assert_eq!(Word::decode(&bytes), None, "a name that is too long");
        assert_eq!(Word::decode(&[&[0, VERSION, 200][..], &[1; 20]].concat()), None, "a provider nobody knows");
    }
}
