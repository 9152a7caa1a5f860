//! `[[pu]]`: the processing units of a node. The first, number 0, is the host itself; it may be left out.
//!
//! What is started for each is the supervisor's business, what runs where `runtime::placement`'s.

use api::pu::{Price, PuKind};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::OnceLock;
use thiserror::Error;

/// The most processing units of one node.
const PUS_MAX: usize = 32;
/// Bytes of a name: it is a host name's first part too.
const NAME_MAX: usize = 32;
/// MiB without which no worker starts.
const MEMORY_MIN_MIB: u64 = 256;
/// Processors that a kernel can have.
const CPUS_MAX: u16 = 8192;

/// What plays a processing unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The machine that the node runs on.
    Host,
    /// A part of it, in namespaces of its own.
    #[default]
    Namespace,
    /// Another machine, which joins the node.
    Remote,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Namespace => "namespace",
            Self::Remote => "remote",
        }
    }
}

/// Numbers of processors, as `0-3,6`; ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpus(Vec<u16>);

impl Cpus {
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|number| usize::from(*number))
    }

    pub fn count(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Why a text is no list of processors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no list of processors, such as 0-3,6")]
pub struct CpusError(Box<str>);

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let wrong = || CpusError(text.into());
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|number| *number < CPUS_MAX).ok_or_else(wrong);
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(Self(numbers))
    }
}

impl Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some(first) = rest.first() {
            let run =
                rest.iter().enumerate().take_while(|(i, number)| usize::from(**number) == usize::from(*first) + i);
            let length = run.count();
            let comma = if rest.len() == self.0.len() { "" } else { "," };
            match length {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", rest[length - 1])?,
            }
            rest = &rest[length..];
        }
        Ok(())
    }
}

impl TryFrom<String> for Cpus {
    type Error = CpusError;

    fn try_from(text: String) -> Result<Self, CpusError> {
        text.parse()
    }
}

impl From<Cpus> for String {
    fn from(cpus: Cpus) -> Self {
        cpus.to_string()
    }
}

/// One processing unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pu {
    pub name: String,
    #[serde(default)]
    pub kind: PuKind,
    #[serde(default)]
    pub tier: Tier,
    /// Its processors; all of the machine where there is none.
    pub cpus: Option<Cpus>,
    /// MiB for everything on it; nothing for no limit of its own.
    pub memory_mib: Option<u64>,
    #[serde(default)]
    pub price: Price,
}

impl Pu {
    fn host() -> Self {
        Self { name: "host".to_owned(), tier: Tier::Host, ..Self::default() }
    }

    /// How many processors it has.
    pub fn cores(&self) -> u32 {
        self.cpus.as_ref().map_or_else(processors, Cpus::count)
    }
}

/// How many processors this process may use. Looked up once, by whoever asks first: that is not to be a thread that stays
/// on one of them, which is told of one.
pub fn processors() -> u32 {
    static COUNT: OnceLock<u32> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u32))
}

/// Why the processing units of a file are none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PusError {
    #[error(
        "{0:?} is no name of a PU: one has lower-case letters, digits and hyphens, {NAME_MAX} at most, and begins with a letter"
    )]
    Name(Box<str>),
    #[error("two PUs are called {0:?}")]
    Twice(Box<str>),
    #[error("only the first PU can be the host itself, and {0:?} is not the first")]
    SecondHost(Box<str>),
    #[error("{0:?} is the host itself: its processors are all of the machine's, and its memory what the machine has")]
    HostLimits(Box<str>),
    #[error("{name:?} has {mib} MiB, and needs {MEMORY_MIN_MIB} at least")]
    Memory { name: Box<str>, mib: u64 },
    #[error("there are {0} PUs, and {PUS_MAX} are possible")]
    TooMany(usize),
    #[error("{0:?} is a {1}: a PU that runs a worker is a cpu or a dpu")]
    Kind(Box<str>, PuKind),
}

/// All of a node, by their numbers: the host itself is 0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Pu>")]
pub struct Pus(Vec<Pu>);

impl Default for Pus {
    fn default() -> Self {
        Self(vec![Pu::host()])
    }
}

impl Pus {
    /// The host itself.
    pub fn host(&self) -> &Pu {
        &self.0[0]
    }

    pub fn all(&self) -> &[Pu] {
        &self.0
    }

    /// With their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Pu)> {
        self.0.iter().enumerate().map(|(number, pu)| (number as u8, pu))
    }
}

impl TryFrom<Vec<Pu>> for Pus {
    type Error = PusError;

    fn try_from(mut pus: Vec<Pu>) -> Result<Self, PusError> {
        if pus.first().is_none_or(|first| first.tier != Tier::Host) {
            pus.insert(0, Pu::host());
        }
        if pus.len() > PUS_MAX {
            return Err(PusError::TooMany(pus.len()));
        }
        let mut names = HashSet::new();
        for (number, pu) in pus.iter().enumerate() {
            check(number, pu)?;
            if !names.insert(pu.name.as_str()) {
                return Err(PusError::Twice(pu.name.as_str().into()));
            }
        }
        Ok(Self(pus))
    }
}

fn check(number: usize, pu: &Pu) -> Result<(), PusError> {
    let name = || pu.name.as_str().into();
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = pu.name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || pu.name.len() > NAME_MAX || !pu.name.bytes().all(is_word) {
        return Err(PusError::Name(name()));
    }
    if !matches!(pu.kind, PuKind::Cpu | PuKind::Dpu) {
        return Err(PusError::Kind(name(), pu.kind));
    }
    match (number, pu.tier) {
        (1.., Tier::Host) => return Err(PusError::SecondHost(name())),
        (_, Tier::Host) if pu.cpus.is_some() || pu.memory_mib.is_some() => return Err(PusError::HostLimits(name())),
        _ => {}
    }
    match pu.memory_mib.filter(|mib| *mib < MEMORY_MIN_MIB) {
        Some(mib) => Err(PusError::Memory { name: name(), mib }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pus, String> {
        let source = crate::config::Source::of("lichen.toml", text);
        source.parse().unwrap().take("pu").map_err(|error| error.to_string())
    }

    #[test]
    fn without_any_there_is_the_host() {
        assert_eq!(read("").unwrap(), Pus::default());
        assert_eq!((Pus::default().host().name.as_str(), Pus::default().all().len()), ("host", 1));
    }

    #[test]
    fn the_host_is_the_first_whether_it_is_named_or_not() {
        let dpu = "[[pu]]\nname = \"bf0\"\nkind = \"dpu\"\ncpus = \"1,0\"\nmemory_mib = 512\nprice = 0.4\n";
        let pus = read(dpu).unwrap();
        assert_eq!((pus.host().tier, pus.all()[1].name.as_str()), (Tier::Host, "bf0"));
        let bf0 = &pus.all()[1];
        assert_eq!((bf0.kind, bf0.tier, bf0.cores(), bf0.price.micros()), (PuKind::Dpu, Tier::Namespace, 2, 400_000));
        let named = read(&format!("[[pu]]\nname = \"big\"\ntier = \"host\"\nprice = 2\n{dpu}")).unwrap();
        assert_eq!((named.host().name.as_str(), named.host().price.micros(), named.all().len()), ("big", 2_000_000, 2));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = [
            ("[[pu]]\nname = \"A\"", "is no name of a PU"),
            ("[[pu]]\nkind = \"dpu\"", "missing field `name`"),
            ("[[pu]]\nname = \"a\"\n[[pu]]\nname = \"a\"", "two PUs are called \"a\""),
            ("[[pu]]\nname = \"a\"\n[[pu]]\nname = \"b\"\ntier = \"host\"", "only the first"),
            ("[[pu]]\nname = \"a\"\ntier = \"host\"\nmemory_mib = 512", "is the host itself"),
            ("[[pu]]\nname = \"a\"\nmemory_mib = 1", "needs 256"),
            ("[[pu]]\nname = \"a\"\ncpus = \"3-1\"", "no list of processors"),
            ("[[pu]]\nname = \"a\"\nkind = \"gpu\"", "is a gpu"),
            ("[[pu]]\nname = \"a\"\nprice = -1", "no price"),
            ("[[pu]]\nname = \"a\"\ncolour = 1", "unknown field `colour`"),
            ("[[pu]]\nname = \"host\"", "two PUs are called \"host\""),
        ];
        for (text, words) in refused {
            let message = read(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn lists_of_processors_are_told_as_they_are_written() {
        for (text, told) in [("0", "0"), ("0-3,6", "0-3,6"), ("6,0-3,2", "0-3,6"), ("1,2", "1-2"), ("0,2", "0,2")] {
            assert_eq!(text.parse::<Cpus>().unwrap().to_string(), told);
        }
        assert!(["", "-", "1-", "a", "99999", "0-8192"].iter().all(|text| text.parse::<Cpus>().is_err()));
    }
}
