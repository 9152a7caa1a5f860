//! An attachment: one interface of one container on one network, and what was made for it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;

/// By what CNI tells attachments apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub network: String,
    pub container: String,
    pub ifname: String,
}

/// What is noted before anything is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub key: Key,
    /// The container's network namespace.
    pub namespace: PathBuf,
    pub pu: String,
    #[serde(flatten)]
    pub other: Option<Other>,
}

/// The other half of a container that is split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    #[serde(rename = "peer")]
    pub pu: String,
    #[serde(rename = "peer_namespace")]
    pub namespace: PathBuf,
}

impl Attachment {
    /// The PU and namespace of each half, the container's own first.
    pub fn halves(&self) -> impl Iterator<Item = (&String, &PathBuf)> {
        let other = self.other.iter().map(|other| (&other.pu, &other.namespace));
        std::iter::once((&self.pu, &self.namespace)).chain(other)
    }
}

impl Key {
    /// Of the network that the daemon makes, and of the files about it. Of one length, and safe as a name, whatever the
    /// container is called.
    pub fn name(&self) -> String {
        // None of the parts can have a zero in it.
        let whole = [self.network.as_str(), &self.container, &self.ifname].join("\0");
        prefix(&self.network) + &hex(&whole, 16)
    }
}

/// How the names of all attachments to a network begin.
pub fn prefix(network: &str) -> String {
    format!("cni-{}-", hex(network, 6))
}

fn hex(of: &str, bytes: usize) -> String {
    let digest = Sha256::digest(of.as_bytes());
    digest.iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attachment_has_a_name_of_its_own() {
        let key = |network: &str, container: &str, ifname: &str| {
            Key { network: network.into(), container: container.into(), ifname: ifname.into() }.name()
        };
        let names =
            [key("n", "c", "e"), key("n", "ce", ""), key("nc", "", "e"), key("n", "c", "f"), key("m", "c", "e")];
        for (at, name) in names.iter().enumerate() {
            assert_eq!(name.len(), 4 + 12 + 1 + 32);
            assert!(!names[..at].contains(name));
        }
        assert!(names[0].starts_with(&prefix("n")) && !names[4].starts_with(&prefix("n")));
    }
}
