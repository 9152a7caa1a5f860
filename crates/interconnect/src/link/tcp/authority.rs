//! The head's certificates, who may join, and who has.
//!
//! ```text
//!            token                     join                       revoke
//!   no PU ──────────▶ may join until ────────▶ member, with one ─────────▶ no PU
//!             ▲        its time is up            certificate
//!             ╰────────── a token anew ─────────────╯                its links end, and its certificate is refused
//! ```
//!
//! In a folder that only its owner reads: `keys.json` (the authority's key and the head's, made when first needed) and
//! `members.json`, the ledger. The ledger has the last word: a certificate of this authority is worth nothing unless it is
//! the one that the ledger names for a PU, so joining anew or revoking ends what was before. Everything here may be used
//! by several processes at once. It waits for files: it has no place on a path that must not block.

use super::store::{Store, StoreError};
use super::token::{Fingerprint, Token, fingerprint, is_address};
use super::verify::{self, Credentials, HEAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, SystemTime};
use thiserror::Error;

const KEYS: &str = "keys.json";
/// The ledger's name, for those who watch it.
pub(super) const LEDGER: &str = "members.json";
/// Bytes of a public key: a point of P-256, not compressed.
pub(super) const PUBLIC_KEY: usize = 65;
const POINT: u8 = 4;

/// Why the head cannot do what was asked of its authority.
#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("PU 0 is the head itself: a token is for another PU")]
    Head,
    #[error("`{0}` is no address to join at: give HOST:PORT, as the other machine reaches this one")]
    Address(String),
    #[error("a token needs an address at which the other machine reaches this one")]
    NoAddress,
}

/// Why somebody who asked to join was not let in.
#[derive(Debug, Error)]
pub enum JoinRefused {
    #[error("the token is not known here: it was used, revoked, or is another head's")]
    Unknown,
    #[error("the token's time is up")]
    Expired,
    #[error("what was sent is no public key")]
    Key,
    #[error(transparent)]
    Failed(#[from] AuthorityError),
}

/// A PU that has joined.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Member {
    pub pu: u8,
    /// Seconds since 1970.
    pub joined_at: u64,
    certificate: Fingerprint,
}

#[derive(Default, Serialize, Deserialize)]
struct Ledger {
    members: Vec<Member>,
    invited: Vec<Invited>,
}

#[derive(Serialize, Deserialize)]
struct Invited {
    pu: u8,
    /// Seconds since 1970.
    expires_at: u64,
    secret: Fingerprint,
}

#[derive(Serialize, Deserialize)]
struct Keys {
    authority: Pair,
    head: Pair,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    key: Vec<u8>,
    certificate: Vec<u8>,
}

impl Pair {
    fn credentials(&self) -> Credentials<'_> {
        Credentials { key: &self.key, certificate: &self.certificate }
    }
}

/// The head's authority.
pub struct Authority {
    store: Store,
    keys: Keys,
}

impl Authority {
    /// The authority in this folder, which is made if there is none.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let store = Store::open(folder)?;
        let locked = store.lock()?;
        let keys = match store.read(KEYS)? {
            Some(keys) => keys,
            None => {
                let keys = make_keys()?;
                store.write(&locked, KEYS, &keys)?;
                keys
            }
        };
        Ok(Self { store, keys })
    }

    /// Lets whoever has the token join as this PU, once and within `lasts`. An earlier token for this PU is void.
    pub fn invite(&self, pu: u8, addresses: Vec<String>, lasts: Duration) -> Result<Token, AuthorityError> {
        if pu == 0 {
            return Err(AuthorityError::Head);
        }
        if addresses.is_empty() {
            return Err(AuthorityError::NoAddress);
        }
        if let Some(bad) = addresses.iter().find(|address| !is_address(address)) {
            return Err(AuthorityError::Address(bad.clone()));
        }
        let secret: [u8; 16] = random();
        let expires_at = seconds(SystemTime::now() + lasts);
        self.change(|ledger| {
            ledger.invited.retain(|invited| invited.pu != pu);
            ledger.invited.push(Invited { pu, expires_at, secret: fingerprint(&secret) });
        })?;
        Ok(Token { pu, addresses, authority: fingerprint(&self.keys.authority.certificate), secret })
    }

    /// Ends a PU's membership, and voids a token for it. False: it had neither.
    pub fn revoke(&self, pu: u8) -> Result<bool, AuthorityError> {
        self.change(|ledger| {
            let before = ledger.members.len() + ledger.invited.len();
            ledger.members.retain(|member| member.pu != pu);
            ledger.invited.retain(|invited| invited.pu != pu);
            ledger.members.len() + ledger.invited.len() < before
        })
    }

    /// Who has joined.
    pub fn members(&self) -> Result<Vec<Member>, AuthorityError> {
        Ok(self.store.read::<Ledger>(LEDGER)?.unwrap_or_default().members)
    }

    /// The PU whose certificate this is, today.
    pub(super) fn member(&self, certificate: &[u8]) -> Result<Option<u8>, AuthorityError> {
        let shown = fingerprint(certificate);
        Ok(self.members()?.iter().find(|member| member.certificate == shown).map(|member| member.pu))
    }

    /// Makes whoever has this secret the PU that its token is for: its certificate.
    pub(super) fn join(&self, secret: &[u8], public_key: &[u8], now: SystemTime) -> Result<(u8, Vec<u8>), JoinRefused> {
        let public_key = PublicKey(public_key.try_into().map_err(|_| JoinRefused::Key)?);
        if public_key.0[0] != POINT {
            return Err(JoinRefused::Key);
        }
        let (secret, now) = (fingerprint(secret), seconds(now));
        let joined = self.change(|ledger| {
            let at = ledger.invited.iter().position(|invited| invited.secret == secret);
            let invited = ledger.invited.remove(at.ok_or(JoinRefused::Unknown)?);
            if invited.expires_at <= now {
                return Err(JoinRefused::Expired);
            }
            let certificate = self.certify(invited.pu, &public_key).map_err(AuthorityError::from)?;
            ledger.members.retain(|member| member.pu != invited.pu);
            let fingerprint = fingerprint(&certificate);
            ledger.members.push(Member { pu: invited.pu, joined_at: now, certificate: fingerprint });
            Ok((invited.pu, certificate))
        });
        joined?
    }

    /// What the head accepts connections with.
    pub(super) fn config(&self) -> Result<rustls::ServerConfig, rustls::Error> {
        verify::server(&self.keys.authority.certificate, &self.keys.head.credentials())
    }

    /// The folder, for those who watch the ledger.
    pub(super) fn folder(&self) -> &Path {
        self.store.folder()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> Result<T, AuthorityError> {
        let locked = self.store.lock()?;
        let mut ledger: Ledger = self.store.read(LEDGER)?.unwrap_or_default();
        let outcome = change(&mut ledger);
        self.store.write(&locked, LEDGER, &ledger)?;
        Ok(outcome)
    }

    fn certify(&self, pu: u8, public_key: &PublicKey) -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&self.keys.authority.key[..]))?;
        let issuer = Issuer::new(authority_params()?, key);
        let mut params = named(&format!("Lichen PU {pu}"), vec![])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(public_key, &issuer)?.der().to_vec())
    }
}

/// A member's public key, as it came.
struct PublicKey([u8; PUBLIC_KEY]);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn make_keys() -> Result<Keys, rcgen::Error> {
    let (authority_key, head_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let authority = authority_params()?.self_signed(&authority_key)?;
    let authority = Pair { key: authority_key.serialize_der(), certificate: authority.der().to_vec() };
    let mut params = named("Lichen head", vec![HEAD.into()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let head = params.signed_by(&head_key, &Issuer::new(authority_params()?, authority_key))?;
    let head = Pair { key: head_key.serialize_der(), certificate: head.der().to_vec() };
    Ok(Keys { authority, head })
}

fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = named("Lichen authority", vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// Valid at all times: a PU's clock may be wrong, and what ends a certificate is the ledger.
fn named(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel gives as many as were asked for once it has gathered enough to begin with.
    while rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(N) {}
    bytes
}
