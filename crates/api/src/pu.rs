//! Processing units in words: their kinds, prices, and the profiles by which a function says where it may run.
//!
//! ```text
//! cpu                              on the CPU
//! dpu:memory=256:price=0.4         on a DPU, with 256 MiB there, at 0.4 for a GB-second
//! ```
//! What is made of a profile is `runtime::placement`'s business.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;
use thiserror::Error;

/// What a processing unit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PuKind {
    #[default]
    Cpu,
    /// Runs a Linux of its own beside the CPU's.
    Dpu,
    Gpu,
    Fpga,
}

impl PuKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Dpu => "dpu",
            Self::Gpu => "gpu",
            Self::Fpga => "fpga",
        }
    }
}

impl Display for PuKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no profile, kind or price.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileError {
    #[error("there is cpu, dpu, gpu and fpga, and {0:?} is none of them")]
    Kind(Box<str>),
    #[error("{0:?} is no price: one is a number from 0 to 1000000 with six decimals at most, such as 0.25")]
    Price(Box<str>),
    #[error("{0:?} is no memory: one is a number of MiB from 1 to 1048576")]
    Memory(Box<str>),
    #[error("a profile is KIND[:memory=MIB][:price=P], and {0:?} is neither a memory nor a price")]
    Part(Box<str>),
}

impl FromStr for PuKind {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let kinds = [Self::Cpu, Self::Dpu, Self::Gpu, Self::Fpga];
        kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| ProfileError::Kind(text.into()))
    }
}

/// What a GB-second costs: millionths of a unit that is the operator's to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u64);

impl Price {
    const ONE: u64 = 1_000_000;
    const MAX: u64 = 1_000_000 * Self::ONE;

    /// In millionths.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// From millionths.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.min(Self::MAX))
    }

    fn from_number(number: f64) -> Result<Self, ProfileError> {
        let micros = (number * Self::ONE as f64).round();
        if !(0.0..=Self::MAX as f64).contains(&micros) {
            return Err(ProfileError::Price(number.to_string().into()));
        }
        Ok(Self(micros as u64))
    }
}

impl Default for Price {
    fn default() -> Self {
        Self(Self::ONE)
    }
}

impl FromStr for Price {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let wrong = || ProfileError::Price(text.into());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 6 {
            return Err(wrong());
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let micros = number(whole)? * Self::ONE + number(&format!("{part:0<6}"))?;
        if micros > Self::MAX { Err(wrong()) } else { Ok(Self(micros)) }
    }
}

impl Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::ONE, format!("{:06}", self.0 % Self::ONE));
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

impl Serialize for Price {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / Self::ONE as f64)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_number(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// One kind of processing unit on which a function may run, and on which terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Profile {
    pub kind: PuKind,
    /// MiB; the function's own where there is none.
    pub memory_mib: Option<u32>,
    /// The processing unit's own where there is none.
    pub price: Option<Price>,
}

/// MiB that a profile may ask for; what the node allows is less.
const MEMORY_MAX: u32 = 1 << 20;

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let mut parts = text.split(':');
        let kind = parts.next().unwrap_or_default().parse()?;
        let mut profile = Self { kind, memory_mib: None, price: None };
        for part in parts {
            match part.split_once('=') {
                Some(("memory", mib)) => {
                    let known = mib.parse().ok().filter(|mib| (1..=MEMORY_MAX).contains(mib));
                    profile.memory_mib = Some(known.ok_or_else(|| ProfileError::Memory(mib.into()))?);
                }
                Some(("price", price)) => profile.price = Some(price.parse()?),
                _ => return Err(ProfileError::Part(part.into())),
            }
        }
        Ok(profile)
    }
}

impl Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(mib) = self.memory_mib {
            write!(f, ":memory={mib}")?;
        }
        match self.price {
            Some(price) => write!(f, ":price={price}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Profile {
    type Error = ProfileError;

    fn try_from(text: String) -> Result<Self, ProfileError> {
        text.parse()
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_they_are_written() {
        for text in ["cpu", "dpu:memory=256", "dpu:memory=256:price=0.4", "fpga:price=12.000001", "gpu:price=0"] {
            assert_eq!(text.parse::<Profile>().unwrap().to_string(), text);
        }
        let profile: Profile = "dpu:price=0.25".parse().unwrap();
        assert_eq!((profile.price.unwrap().micros(), profile.memory_mib), (250_000, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let nonsense =
            ["", "tpu", "cpu:", "cpu:256", "cpu:memory=0", "cpu:memory=-1", "cpu:memory=1048577", "cpu:price="];
        let prices = ["cpu:price=1.", "cpu:price=.5", "cpu:price=-1", "cpu:price=0.1234567", "cpu:price=1000001"];
        for text in nonsense.into_iter().chain(prices) {
            assert!(text.parse::<Profile>().is_err(), "{text}");
        }
    }

    #[test]
    fn prices_are_numbers_in_files() {
        assert_eq!(serde_json::from_str::<Price>("0.4").unwrap(), Price(400_000));
        assert_eq!(serde_json::to_string(&Price(400_000)).unwrap(), "0.4");
        assert!(serde_json::from_str::<Price>("-0.4").is_err());
        assert!(serde_json::from_str::<Price>("1e300").is_err());
    }
}
