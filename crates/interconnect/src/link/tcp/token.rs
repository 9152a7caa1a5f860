//! What is handed to whoever may join: where the head is, how to know it, as which PU to join, and a secret.
//!
//! As text it is `lichen1.` and base64 (the one for URLs) of:
//!
//! ```text
//!  0        4     5              37        53
//!  ├────────┼─────┼──────────────┼─────────┼─ … ────────────────────┤
//!  │checksum│PU   │fingerprint of│secret   │addresses, as HOST:PORT,│
//!  │        │     │the authority │         │commas between them     │
//!  └────────┴─────┴──────────────┴─────────┴─ … ────────────────────┘
//! ```
//!
//! The checksum finds what was copied in part; it protects nothing. Whoever has the text may join: it is shown once, and
//! the head keeps a hash of its secret only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const PREFIX: &str = "lichen1.";
const CHECKSUM: usize = 4;
const SECRET: usize = 16;
/// Bytes of all addresses together, and so the limit on a token's text.
const ADDRESSES_MAX: usize = 1024;
const TEXT_MAX: usize = 1600;

/// A hash that names a certificate or a secret.
pub type Fingerprint = [u8; 32];

/// The fingerprint of these bytes.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As which PU to join.
    pub pu: u8,
    /// Where the head listens, in the order in which to try: `HOST:PORT`.
    pub addresses: Vec<String>,
    /// What the head's authority is known by.
    pub(super) authority: Fingerprint,
    pub(super) secret: [u8; SECRET],
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("a join token begins with `{PREFIX}`: print one on the head with `lichen pu token NAME`")]
    Foreign,
    #[error("the join token is damaged: copy the whole line that `lichen pu token` printed")]
    Damaged,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the secret: this ends up in logs.
        f.debug_struct("Token").field("pu", &self.pu).field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Token {
    /// The token as text, secret and all.
    pub fn reveal(&self) -> String {
        let mut body = vec![self.pu];
        body.extend(self.authority);
        body.extend(self.secret);
        body.extend(self.addresses.join(",").bytes());
        let mut bytes = fingerprint(&body)[..CHECKSUM].to_vec();
        bytes.extend(body);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Foreign)?;
        if text.len() > TEXT_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Damaged)?;
        let (checksum, body) = bytes.split_first_chunk::<CHECKSUM>().ok_or(TokenError::Damaged)?;
        if fingerprint(body)[..CHECKSUM] != checksum[..] {
            return Err(TokenError::Damaged);
        }
        let ([pu], rest) = body.split_first_chunk().ok_or(TokenError::Damaged)?;
        let (authority, rest) = rest.split_first_chunk().ok_or(TokenError::Damaged)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(TokenError::Damaged)?;
        let addresses = std::str::from_utf8(rest).map_err(|_| TokenError::Damaged)?;
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if rest.len() > ADDRESSES_MAX || !addresses.iter().all(|address| is_address(address)) {
            return Err(TokenError::Damaged);
        }
        Ok(Self { pu: *pu, addresses, authority: *authority, secret: *secret })
    }
}

/// Whether this may be a host and a port; what the host's name means is the resolver's business.
pub(super) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]%".contains(c));
    named && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let addresses = vec!["10.0.0.7:7117".into(), "[fd00::1]:7117".into(), "head.example:1".into()];
        Token { pu: 3, addresses, authority: [7; 32], secret: [9; SECRET] }
    }

    #[test]
    fn a_token_survives_being_written_and_read() {
        let text = token().reveal();
        assert!(text.parse::<Token>().unwrap() == token());
        assert!(format!(" {text}\n").parse::<Token>().unwrap() == token(), "as it is copied");
        assert!(!format!("{:?}", token()).contains("9, 9"), "its secret is not for logs");
    }

    #[test]
    fn whatever_is_no_token_is_refused() {
        let text = token().reveal();
        for len in PREFIX.len()..text.len() {
            assert_eq!(text[..len].parse::<Token>(), Err(TokenError::Damaged), "{len} characters of it");
        }
        for at in PREFIX.len()..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(other.parse::<Token>(), Err(TokenError::Damaged), "character {at} changed");
        }
        assert_eq!("".parse::<Token>(), Err(TokenError::Foreign));
        assert_eq!("swarm-1".parse::<Token>(), Err(TokenError::Foreign));
        assert_eq!(format!("{PREFIX}{}", "A".repeat(1 << 20)).parse::<Token>(), Err(TokenError::Damaged));
        for bad in ["", "host", ":1", "host:0", "host:70000", "ho st:1", "host:1/x"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
