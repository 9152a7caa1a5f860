//! Links to packages, signed ahead by the node itself: who was told one may follow it for ten minutes, and needs no key.
//!
//! The key that signs them is made anew by each process and may get code, nothing else. Nobody outside ever has it.

use super::key::KeyConfig;
use api::client::encode;
use api::sigv4::{self, ALGORITHM, Scope, Signed, TERMINATOR};
use api::time;
use uuid::Uuid;

/// For as long as AWS's links to a function's code are good.
const EXPIRES_S: u64 = 600;
const SERVICE: &str = "lambda";

/// What signs links.
pub struct Links {
    pub(super) key: KeyConfig,
}

impl Links {
    pub fn new() -> Self {
        let id = format!("LICHEN{}", Uuid::new_v4().simple());
        // Two of them: 244 bits that nobody can guess.
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self { key: KeyConfig::own(id, &secret, "lichen:GetCode") }
    }

    /// The query by which a path can be got from a host.
    pub fn query(&self, host: &str, path: &str, region: &str, now_ms: u64) -> String {
        let moment = time::compact(now_ms);
        let scope = Scope { day: &moment[..8], region, service: SERVICE };
        let credential = format!("{}/{}/{region}/{SERVICE}/{TERMINATOR}", self.key.id, scope.day);
        let query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={moment}&X-Amz-Expires={EXPIRES_S}\
             &X-Amz-SignedHeaders=host",
            encode(&credential)
        );
        let payload = sigv4::hash(b"");
        let request = Signed { method: "GET", path, query: &query, headers: &[("host", host)], payload: &payload };
        let signature = sigv4::sign(self.key.secret.text(), &moment, scope, &request);
        format!("{query}&X-Amz-Signature={signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::claim::Claim;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_is_good_for_ten_minutes_and_for_code_only() {
        let links = Links::new();
        let now = time::parse_compact("20250131T120000Z").unwrap();
        let uri = format!("/v1/code/ab?{}", links.query("node:1", "/v1/code/ab", "us-east-1", now));
        let (head, ()) = hyper::Request::builder().uri(uri).body(()).unwrap().into_parts();
        let claim = Claim::of(&head).unwrap();
        let is_good = |now| claim.is_timely(now, Duration::from_secs(300)).is_ok();
        assert!(is_good(now) && is_good(now + 600_000) && !is_good(now + 601_000));
        assert_eq!((&claim.key, claim.headers.as_slice()), (&links.key.id, ["host".to_owned()].as_slice()));
        assert!(links.key.allows("lichen:GetCode", None));
        assert!(!links.key.allows("lambda:GetFunction", Some("f")) && !links.key.allows("lichen:ListDead", None));
        assert!(links.key.id != Links::new().key.id && links.key.secret != Links::new().key.secret);
    }
}
