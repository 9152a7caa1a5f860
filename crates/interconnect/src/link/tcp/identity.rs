//! What a member has once it has joined: as which PU, where its head is, and what to prove both with.

use super::store::{Store, StoreError};
use super::token::{Fingerprint, Token};
use super::verify::{self, Credentials};
use serde::{Deserialize, Serialize};
use std::path::Path;

const IDENTITY: &str = "identity.json";

/// A member's place among the PUs.
#[derive(Serialize, Deserialize)]
pub struct Identity {
    pub pu: u8,
    /// Where the head listens, in the order in which to try.
    pub addresses: Vec<String>,
    authority: Fingerprint,
    key: Vec<u8>,
    certificate: Vec<u8>,
}

impl Identity {
    pub(super) fn new(token: &Token, pu: u8, key: Vec<u8>, certificate: Vec<u8>) -> Self {
        Self { pu, addresses: token.addresses.clone(), authority: token.authority, key, certificate }
    }

    /// The identity that was kept in this folder.
    pub fn load(folder: &Path) -> Result<Option<Self>, StoreError> {
        Store::open(folder)?.read(IDENTITY)
    }

    /// Keeps it in this folder, for its owner's eyes only, in the place of an earlier one.
    pub fn keep(&self, folder: &Path) -> Result<(), StoreError> {
        let store = Store::open(folder)?;
        let locked = store.lock()?;
        store.write(&locked, IDENTITY, self)
    }

    /// Whether it is a membership of the node that this token is for, as the same PU.
    pub fn is_of(&self, token: &Token) -> bool {
        (self.authority, self.pu) == (token.authority, token.pu)
    }

    /// The same at the head's ports that are so many below.
    pub fn at_lower_ports(mut self, by: u16) -> Self {
        for address in &mut self.addresses {
            if let Some((host, port)) = address.rsplit_once(':')
                && let Some(port) = port.parse::<u16>().ok().and_then(|port| port.checked_sub(by))
            {
                *address = format!("{host}:{port}");
            }
        }
        self
    }

    pub(super) fn config(&self) -> Result<rustls::ClientConfig, rustls::Error> {
        let credentials = Credentials { key: &self.key, certificate: &self.certificate };
        verify::client(self.authority, Some(&credentials))
    }
}
