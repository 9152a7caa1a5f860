//! AWS Signature Version 4: how a request says whose it is, for whoever signs and for whoever verifies.
//!
//! ```text
//! request ─▶ canonical text ─▶ text to sign (date, scope, hash) ─▶ HMAC by a key derived from secret, day, region, service
//! ```
//! Source: "Create a signed AWS API request" in AWS's IAM guide. Not here: streamed payloads, asymmetric
//! signatures. S3's exception is here: its paths are signed as they are sent.

use crate::client::encode;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What the last part of every scope is.
pub const TERMINATOR: &str = "aws4_request";

/// Where and for what a signature is good: a day (`20250131`), a region, a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    pub day: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// As it is sent.
    pub path: &'a str,
    /// As it is sent, without a signature.
    pub query: &'a str,
    /// Names in small letters, in order, and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// In hexadecimal digits: [`hash`] of the body.
    pub payload: &'a str,
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The signature of a request, in hexadecimal digits. `moment` is `20250131T120000Z`.
pub fn sign(secret: &str, moment: &str, scope: Scope<'_>, request: &Signed<'_>) -> String {
    hex(&signer(secret, moment, scope, request).finalize().into_bytes())
}

/// Whether `signature` is that of the request. How long it takes does not depend on where it differs.
pub fn is_signed(secret: &str, moment: &str, scope: Scope<'_>, request: &Signed<'_>, signature: &str) -> bool {
    let bytes = (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(signature.get(at..at + 2)?, 16).ok());
    let Some(bytes) = bytes.collect::<Option<Vec<u8>>>() else { return false };
    signer(secret, moment, scope, request).verify_slice(&bytes).is_ok()
}

fn signer(secret: &str, moment: &str, Scope { day, region, service }: Scope<'_>, request: &Signed<'_>) -> Hmac<Sha256> {
    let first = format!("AWS4{secret}").into_bytes();
    let key = [day, region, service, TERMINATOR].iter().fold(first, |key, part| {
        let mut mac = keyed(&key);
        mac.update(part.as_bytes());
        mac.finalize().into_bytes().to_vec()
    });
    let canonical = hash(canonical(request, service == "s3").as_bytes());
    let text = format!("{ALGORITHM}\n{moment}\n{day}/{region}/{service}/{TERMINATOR}\n{canonical}");
    let mut mac = keyed(&key);
    mac.update(text.as_bytes());
    mac
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn canonical(request: &Signed<'_>, path_as_sent: bool) -> String {
    let Signed { method, path, query, headers, payload } = request;
    // The path is encoded once as it is sent, and once more as it is signed.
    let path = match path_as_sent {
        _ if path.is_empty() => "/".to_owned(),
        true => (*path).to_owned(),
        false => path.split('/').map(encode).collect::<Vec<_>>().join("/"),
    };
    let mut text = format!("{method}\n{path}\n{}\n", canonical_query(query));
    for (name, value) in *headers {
        let value: Vec<&str> = value.split_ascii_whitespace().collect();
        text.push_str(&format!("{name}:{}\n", value.join(" ")));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    text.push_str(&format!("\n{}\n{payload}", names.join(";")));
    text
}

/// Parameters in order of their names, each encoded in the one way that signatures know.
fn canonical_query(query: &str) -> String {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<(String, String)> = parameters
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (encode_again(name), encode_again(value))
        })
        .collect();
    parameters.sort();
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// What is encoded in whatever way, encoded as [`encode`] does it.
fn encode_again(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escape = rest.get(..3).filter(|escape| escape.starts_with('%'));
        match escape.filter(|escape| escape.as_bytes()[1..].iter().all(u8::is_ascii_hexdigit)) {
            Some(escape) => {
                let byte = u8::from_str_radix(&escape[1..], 16).unwrap_or(b'%');
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    encoded.push(char::from(byte));
                } else {
                    encoded.push_str(&escape.to_ascii_uppercase());
                }
                rest = &rest[3..];
            }
            None => {
                let (one, others) = rest.split_at(first.len_utf8());
                encoded.push_str(&encode(one));
                rest = others;
            }
        }
    }
    encoded
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const MOMENT: &str = "20150830T123600Z";
    const SCOPE: Scope<'_> = Scope { day: "20150830", region: "us-east-1", service: "service" };
    const HEADERS: &[(&str, &str)] = &[("host", "example.amazonaws.com"), ("x-amz-date", MOMENT)];

    fn request<'a>(method: &'a str, path: &'a str, query: &'a str, payload: &'a str) -> Signed<'a> {
        Signed { method, path, query, headers: HEADERS, payload }
    }

    /// From AWS's test suite for signers: get-vanilla, post-vanilla, get-vanilla-query-order-key-case.
    #[test]
    fn signatures_of_aws_own_examples() {
        let empty = hash(b"");
        let known = [
            (request("GET", "/", "", &empty), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (request("POST", "/", "", &empty), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                request("GET", "/", "Param2=value2&Param1=value1", &empty),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ];
        for (request, signature) in known {
            assert_eq!(sign(SECRET, MOMENT, SCOPE, &request), signature);
            assert!(is_signed(SECRET, MOMENT, SCOPE, &request, signature));
        }
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let (empty, other) = (hash(b""), hash(b"{}"));
        let right = request("GET", "/a", "x=1", &empty);
        let signature = sign(SECRET, MOMENT, SCOPE, &right);
        let changed = [
            request("PUT", "/a", "x=1", &empty),
            request("GET", "/b", "x=1", &empty),
            request("GET", "/a", "x=2", &empty),
            request("GET", "/a", "x=1", &other),
            Signed { headers: &HEADERS[..1], ..right },
        ];
        for request in changed {
            assert!(!is_signed(SECRET, MOMENT, SCOPE, &request, &signature), "{request:?}");
        }
        assert!(!is_signed("another", MOMENT, SCOPE, &right, &signature));
        assert!(!is_signed(SECRET, "20150830T123601Z", SCOPE, &right, &signature));
        for nonsense in ["", "5f", "zz", "é", &signature[1..], &format!("{signature}00")] {
            assert!(!is_signed(SECRET, MOMENT, SCOPE, &right, nonsense), "{nonsense}");
        }
    }

    #[test]
    fn queries_have_one_form() {
        assert_eq!(canonical_query("b=2&a=%2f&a=1&c"), "a=%2F&a=1&b=2&c=");
        assert_eq!(canonical_query("q=a%20b+c&%7e=é%"), "q=a%20b%2Bc&~=%C3%A9%25");
    }
}
