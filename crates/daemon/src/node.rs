//! The section `[node]`: who this node is and where it lives.

use serde::Deserialize;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// Where functions, their code, their logs and their bills are kept.
    pub data_dir: PathBuf,
    /// The account of requests whose credentials name none.
    pub account: Account,
    /// The region of requests whose credentials name none.
    pub region: Region,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)),
            data_dir: default_data_dir(),
            account: Account("000000000000".to_owned()),
            region: Region("us-east-1".to_owned()),
        }
    }
}

/// `/var/lib/lichen` for root; else the user's own folder for data.
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/lichen");
    }
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")));
    data.unwrap_or_default().join("lichen")
}

/// Why a text names no account or region.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    #[error("an account is 12 digits, and {0:?} is not")]
    Account(String),
    #[error("a region is small letters, digits and dashes, as in us-east-1, and {0:?} is not")]
    Region(String),
}

/// An AWS account: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Account(String);

/// An AWS region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Region(String);

impl Account {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_valid(text: &str) -> bool {
        text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_valid(text: &str) -> bool {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=32).contains(&text.len()) && text.bytes().all(is_part) && text.as_bytes()[0].is_ascii_lowercase()
    }
}

impl TryFrom<String> for Account {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if Self::is_valid(&text) { Ok(Self(text)) } else { Err(NameError::Account(text)) }
    }
}

impl TryFrom<String> for Region {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if Self::is_valid(&text) { Ok(Self(text)) } else { Err(NameError::Region(text)) }
    }
}

impl FromStr for Account {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl FromStr for Region {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("123456789012".parse::<Account>().is_ok());
        assert!("us-gov-west-1".parse::<Region>().is_ok());
        for wrong in ["", "12345678901", "1234567890123", "12345678901x"] {
            assert_eq!(wrong.parse::<Account>(), Err(NameError::Account(wrong.to_owned())));
        }
        for wrong in ["", "US-EAST-1", "us/east", "-x", "a-region-with-a-name-that-is-too-long"] {
            assert_eq!(wrong.parse::<Region>(), Err(NameError::Region(wrong.to_owned())));
        }
    }
}
