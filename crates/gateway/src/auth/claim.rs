//! What a request says of its signature: in `Authorization`, or in the query of one that was signed ahead.

use crate::http::answer::header;
use crate::http::path;
use crate::lambda::Fault;
use api::sigv4::{ALGORITHM, Scope, TERMINATOR};
use api::time;
use hyper::http::request::Parts;
use std::time::Duration;

/// The longest time for which a request may be signed ahead, in seconds: a week.
const EXPIRES_MAX: u64 = 604_800;
/// The parameter that is no part of what it signs.
const SIGNATURE: &str = "X-Amz-Signature";

/// A signature, and all that it takes to verify it.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: String,
    /// `DAY/REGION/SERVICE`.
    scope: [String; 3],
    /// `20250131T120000Z`.
    pub moment: String,
    /// Names of the headers that are signed, in small letters.
    pub headers: Vec<String>,
    pub signature: String,
    /// The query as it was signed.
    pub query: String,
    /// For how long it is good, where it was signed ahead.
    expires: Option<u64>,
}

impl Claim {
    /// A request's claim; Lambda's words for one that makes none, or a broken one.
    pub fn of(head: &Parts) -> Result<Self, Fault> {
        let query = head.uri.query().unwrap_or_default();
        if let Some(text) = header(&head.headers, "authorization") {
            let moment =
                header(&head.headers, "x-amz-date").ok_or_else(|| Fault::incomplete_signature("X-Amz-Date"))?;
            return Self::of_header(text, moment, query);
        }
        if path::query(Some(query), SIGNATURE).is_some() {
            return Self::of_query(query);
        }
        Err(Fault::missing_authentication_token())
    }

    fn of_header(text: &str, moment: &str, query: &str) -> Result<Self, Fault> {
        let rest = text.strip_prefix(ALGORITHM).ok_or_else(|| Fault::incomplete_signature(ALGORITHM))?;
        let part = |name: &'static str| {
            let mut parts = rest.split(',').map(str::trim);
            let value = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| Fault::incomplete_signature(name))
        };
        let (credential, headers, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        Self::of_parts(credential, headers, signature, moment, query.to_owned(), None)
    }

    fn of_query(query: &str) -> Result<Self, Fault> {
        let part = |name: &'static str| {
            path::query(Some(query), name)
                .ok_or_else(|| Fault::incomplete_signature(name))
                .map(|text| text.into_owned())
        };
        let expires = part("X-Amz-Expires")?.parse().ok().filter(|seconds| *seconds <= EXPIRES_MAX);
        let expires = expires.ok_or_else(|| Fault::incomplete_signature("X-Amz-Expires"))?;
        let own = format!("{SIGNATURE}=");
        let signed: Vec<&str> = query.split('&').filter(|parameter| !parameter.starts_with(&own)).collect();
        let (credential, headers) = (part("X-Amz-Credential")?, part("X-Amz-SignedHeaders")?);
        let (signature, moment) = (part(SIGNATURE)?, part("X-Amz-Date")?);
        Self::of_parts(&credential, &headers, &signature, &moment, signed.join("&"), Some(expires))
    }

    fn of_parts(
        credential: &str,
        headers: &str,
        signature: &str,
        moment: &str,
        query: String,
        expires: Option<u64>,
    ) -> Result<Self, Fault> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [key, day, region, service, TERMINATOR] = parts[..] else {
            return Err(Fault::incomplete_signature("Credential"));
        };
        if moment.get(..8) != Some(day) {
            return Err(Fault::incomplete_signature("X-Amz-Date"));
        }
        Ok(Self {
            key: key.to_owned(),
            scope: [day, region, service].map(str::to_owned),
            moment: moment.to_owned(),
            headers: headers.split(';').map(str::to_ascii_lowercase).collect(),
            signature: signature.to_owned(),
            query,
            expires,
        })
    }

    pub fn scope(&self) -> Scope<'_> {
        let [day, region, service] = &self.scope;
        Scope { day, region, service }
    }

    /// Whether it was made about now, or is still good.
    pub fn is_timely(&self, now_ms: u64, skew: Duration) -> Result<(), Fault> {
        let made = time::parse_compact(&self.moment).ok_or_else(|| Fault::incomplete_signature("X-Amz-Date"))?;
        let skew = skew.as_millis() as u64;
        let until = made + self.expires.map_or(skew, |seconds| seconds * 1000);
        if now_ms > until {
            return Err(Fault::signature_expired(&self.moment, &time::compact(now_ms)));
        }
        if made > now_ms + skew {
            return Err(Fault::signature_not_yet(&self.moment, &time::compact(now_ms)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    const HEADER: &str = "AWS4-HMAC-SHA256 Credential=KEY/20250131/eu-west-1/lambda/aws4_request, \
        SignedHeaders=host;X-Amz-Date, Signature=00ff";

    fn claim(authorization: Option<&str>, date: Option<&str>, uri: &str) -> Result<Claim, Fault> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in [("authorization", authorization), ("x-amz-date", date)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        Claim::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn claims_in_headers() {
        let claim = claim(Some(HEADER), Some("20250131T120000Z"), "/?a=1").unwrap();
        assert_eq!((claim.key.as_str(), claim.signature.as_str(), claim.query.as_str()), ("KEY", "00ff", "a=1"));
        assert_eq!(claim.scope(), Scope { day: "20250131", region: "eu-west-1", service: "lambda" });
        assert_eq!(claim.headers, ["host", "x-amz-date"]);
    }

    #[test]
    fn claims_in_queries() {
        let uri = "/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=KEY%2F20250131%2Fr%2Flambda%2Faws4_request\
            &X-Amz-Date=20250131T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ab&y=2";
        let claim = claim(None, None, uri).unwrap();
        assert!(claim.query.ends_with("SignedHeaders=host&y=2"), "{}", claim.query);
        let made = time::parse_compact("20250131T120000Z").unwrap();
        let timely = |after: u64| claim.is_timely(made + after, Duration::from_secs(5)).is_ok();
        assert!(timely(0) && timely(60_000) && !timely(60_001));
    }

    #[test]
    fn broken_claims_are_refused() {
        for (authorization, date, uri) in [
            (None, None, "/"),
            (Some("Basic abc"), Some("20250131T120000Z"), "/"),
            (Some(HEADER), None, "/"),
            (Some(HEADER), Some("20250201T120000Z"), "/"),
            (
                Some("AWS4-HMAC-SHA256 Credential=KEY/20250131/r/lambda, SignedHeaders=a, Signature=b"),
                Some("20250131T1"),
                "/",
            ),
            (Some("AWS4-HMAC-SHA256"), Some("é"), "/"),
            (None, None, "/?X-Amz-Signature=ab"),
        ] {
            assert!(claim(authorization, date, uri).is_err(), "{authorization:?} {uri}");
        }
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let claim = claim(Some(HEADER), Some("20250131T120000Z"), "/").unwrap();
        let made = time::parse_compact("20250131T120000Z").unwrap();
        let timely = |now: u64| claim.is_timely(now, Duration::from_secs(5)).is_ok();
        assert!(timely(made - 5000) && timely(made + 5000));
        assert!(!timely(made - 5001) && !timely(made + 5001));
    }
}
