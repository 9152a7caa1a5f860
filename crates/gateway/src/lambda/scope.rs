//! Whose request: the account and the region that its credentials name.
//!
//! Where the node has keys (`auth`), the account is the key's, and no other can be reached. Where it has none, clients send
//! whatever their configuration holds: what is taken from it only says which of the node's partitions is meant, and
//! protects nothing.

use crate::auth::Caller;
use crate::http::answer::header;
use crate::http::path;
use daemon::node::{Account, Node, Region};
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use std::borrow::Cow;

/// An account and a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    pub account: Cow<'a, str>,
    pub region: Cow<'a, str>,
    /// The account is known, not only said: what a name says instead does not count.
    pub known: bool,
}

/// The scope of a request: from its `Authorization`, or from the query of a presigned one; else the node's own.
pub fn of<'a>(head: &'a Parts, node: &'a Node) -> Scope<'a> {
    let said = said(head, node);
    match head.extensions.get::<Caller>() {
        Some(Caller { account, reaches }) => {
            Scope { account: reaches.as_ref().unwrap_or(account).as_str().into(), known: true, ..said }
        }
        None => said,
    }
}

fn said<'a>(head: &'a Parts, node: &'a Node) -> Scope<'a> {
    let from_header = header(&head.headers, AUTHORIZATION).and_then(credential).map(Cow::Borrowed);
    let credential = from_header.or_else(|| path::query(head.uri.query(), "X-Amz-Credential"));
    let (account, region) = match &credential {
        Some(Cow::Borrowed(text)) => parts(text),
        Some(Cow::Owned(text)) => {
            let (account, region) = parts(text);
            return Scope {
                account: account.map_or(node.account.as_str().into(), |account| account.to_owned().into()),
                region: region.map_or(node.region.as_str().into(), |region| region.to_owned().into()),
                known: false,
            };
        }
        None => (None, None),
    };
    Scope {
        account: account.unwrap_or(node.account.as_str()).into(),
        region: region.unwrap_or(node.region.as_str()).into(),
        known: false,
    }
}

/// The credential of `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…`.
fn credential(authorization: &str) -> Option<&str> {
    let (_, rest) = authorization.split_once("Credential=")?;
    Some(rest.split([',', ' ']).next().unwrap_or(rest))
}

/// A key that is an account's number names the account.
fn parts(credential: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = credential.split('/');
    let account = parts.next().filter(|key| Account::is_valid(key));
    (account, parts.nth(1).filter(|region| Region::is_valid(region)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn scope(authorization: Option<&str>, uri: &str) -> (String, String) {
        let mut request = Request::builder().uri(uri);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let node = Node::default();
        let Scope { account, region, .. } = of(&head, &node);
        (account.into_owned(), region.into_owned())
    }

    fn pair(account: &str, region: &str) -> (String, String) {
        (account.to_owned(), region.to_owned())
    }

    #[test]
    fn scopes() {
        let signed =
            |credential: &str| format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
        let own = pair("000000000000", "us-east-1");
        assert_eq!(scope(None, "/"), own);
        assert_eq!(
            scope(Some(&signed("123456789012/20250131/eu-west-1/lambda/aws4_request")), "/"),
            pair("123456789012", "eu-west-1")
        );
        assert_eq!(
            scope(Some(&signed("AKIDEXAMPLE/20250131/eu-west-1/lambda/aws4_request")), "/"),
            pair("000000000000", "eu-west-1")
        );
        for nonsense in ["Basic dTpw", "Credential=", "Credential=a/b", "Credential=a/b/../c/d"] {
            assert_eq!(scope(Some(nonsense), "/"), own, "{nonsense}");
        }
        let presigned = "/?X-Amz-Credential=123456789012%2F20250131%2Fap-south-1%2Flambda%2Faws4_request";
        assert_eq!(scope(None, presigned), pair("123456789012", "ap-south-1"));
    }
}
