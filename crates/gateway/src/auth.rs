//! Who may ask for what: Signature V4, verified where the node has keys (`[auth]`), and ignored where it has none.
//!
//! ```text
//! claim (header or query) ─▶ key known? moment near? ─▶ body read ─▶ signature right? ─▶ action and function allowed?
//! ```
//! It guards Lambda's API, CloudWatch's and the node's own, and function URLs that ask for it. Open to everybody stay
//! probes and the other URLs, and metrics where the configuration says so. Sessions, roles and resource policies are not here: a key says all that it may do.

mod claim;
mod key;

pub use key::{AuthConfig, KeyConfig};

use crate::http::body::Unread;
use crate::http::guard::Callers;
use crate::lambda::{Fault, name, scope};
use crate::route::{Exchange, Route};
use api::sigv4::{self, Signed};
use bytes::Bytes;
use claim::Claim;
use hyper::header::HOST;
use hyper::http::request::Parts;
use runtime::registry::FunctionId;
use std::collections::HashMap;
use std::time::Duration;

/// The one operation that is for programs which cannot sign.
const METRICS: &str = "GetMetrics";

/// Whose a request was found to be: its account goes before what the request says.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: String,
}

/// The keys that a node knows.
pub struct Auth {
    keys: HashMap<String, KeyConfig>,
    skew: Duration,
    open_metrics: bool,
}

impl Auth {
    pub fn new(config: &AuthConfig) -> Self {
        let keys = config.keys.iter().map(|key| (key.id.clone(), key.clone())).collect();
        Self { keys, skew: Duration::from_secs(config.skew_s), open_metrics: config.open_metrics }
    }

    /// Whether requests have to be signed.
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether requests for this operation have to be.
    pub fn guards(&self, route: &Route) -> bool {
        let is_open = self.open_metrics && route.name == METRICS;
        self.is_on() && route.callers == Callers::Programs && !is_open
    }
}

/// The action of an operation, by its name and path: `lambda:GetFunction`, `lichen:ListTemplates`.
pub fn action(operation: &str, path: &str) -> String {
    match operation {
        "Invoke" | "InvokeAsync" | "InvokeWithResponseStream" => "lambda:InvokeFunction".to_owned(),
        _ if path.starts_with("/v1/") => format!("lichen:{operation}"),
        _ => format!("lambda:{operation}"),
    }
}

/// Lets a request pass whose signature is right and whose key may do this, on the function that `of` names or the path
/// does. Its body has been read then, and its account is the key's.
pub async fn admit(exchange: &mut Exchange, action: &str, of: Option<&FunctionId>) -> Result<(), Fault> {
    let gateway = exchange.gateway.clone();
    let claim = Claim::of(&exchange.head)?;
    let key = gateway.auth.keys.get(&claim.key).ok_or_else(Fault::unrecognized_client)?;
    claim.is_timely(api::time::now_ms(), gateway.auth.skew)?;
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, gateway.config.functions.request_max, 1).await?,
        None => Bytes::new(),
    };
    verify(exchange, &claim, key, &body)?;
    exchange.body = Some(Unread::whole(body));
    let account = key.account(&gateway.config.node).to_owned();
    exchange.head.extensions.insert(Caller { account: account.clone() });
    let function = match of {
        Some(id) if id.account != account => return Err(denied(key, &account, action, Some(&id.name))),
        Some(id) => Some(id.name.clone()),
        None => function(exchange)?,
    };
    if key.allows(action, function.as_deref()) {
        Ok(())
    } else {
        Err(denied(key, &account, action, function.as_deref()))
    }
}

/// The access key by which a request is signed, where it is signed as it should be.
pub fn access_key(head: &Parts) -> Option<String> {
    Claim::of(head).ok().map(|claim| claim.key)
}

fn denied(key: &KeyConfig, account: &str, action: &str, function: Option<&str>) -> Fault {
    let on = function.map(|name| format!(" on function: {name}")).unwrap_or_default();
    Fault::access_denied(format!(
        "User: arn:aws:iam::{account}:user/{} is not authorized to perform: {action}{on} because its key in [auth] does \
         not allow it",
        key.id
    ))
}

fn verify(exchange: &Exchange, claim: &Claim, key: &KeyConfig, body: &[u8]) -> Result<(), Fault> {
    let payload = sigv4::hash(body);
    // A hash that is sent along is signed in place of the body's own: then it has to be that.
    if exchange.header("x-amz-content-sha256").is_some_and(|said| said != payload) {
        return Err(Fault::invalid_signature());
    }
    let mut headers: Vec<(&str, String)> = Vec::with_capacity(claim.headers.len());
    for name in &claim.headers {
        let values = exchange.head.headers.get_all(name.as_str()).iter().map(|value| value.to_str());
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|_| Fault::invalid_signature())?;
        headers.push((name, values.join(",")));
    }
    if !headers.iter().any(|(name, _)| *name == HOST.as_str()) {
        return Err(Fault::invalid_signature());
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request = Signed {
        method: exchange.head.method.as_str(),
        path: exchange.head.uri.path(),
        query: &claim.query,
        headers: &headers,
        payload: &payload,
    };
    match sigv4::is_signed(key.secret.text(), &claim.moment, claim.scope(), &request, &claim.signature) {
        true => Ok(()),
        false => Err(Fault::invalid_signature()),
    }
}

/// The name of the function that the path names, if it names one.
fn function(exchange: &Exchange) -> Result<Option<String>, Fault> {
    if !exchange.head.uri.path().contains("/functions/") {
        return Ok(None);
    }
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    Ok(Some(name::resolve(exchange.capture(0), None, scope)?.name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health, lambda, metrics};

    const KEYS: &str = r#""keys": [{ "id": "K", "secret": "S" }]"#;

    fn auth(config: &str) -> Auth {
        Auth::new(&serde_json::from_str(&format!("{{{config}}}")).unwrap())
    }

    #[test]
    fn what_has_to_be_signed() {
        let (metrics, functions) = (&metrics::ROUTES[0], &lambda::function::ROUTES[0]);
        assert!(!auth("").is_on() && !auth("").guards(functions));
        let (closed, open) = (auth(KEYS), auth(&format!("\"open_metrics\": true, {KEYS}")));
        assert!(closed.guards(functions) && closed.guards(metrics) && !closed.guards(&health::ROUTES[0]));
        assert!(open.guards(functions) && !open.guards(metrics));
    }

    #[test]
    fn actions() {
        for (operation, path, expected) in [
            ("Invoke", "/2015-03-31/functions/f/invocations", "lambda:InvokeFunction"),
            ("GetFunction", "/2015-03-31/functions/f", "lambda:GetFunction"),
            ("GetNode", "/v1/node", "lichen:GetNode"),
        ] {
            assert_eq!(action(operation, path), expected);
        }
    }
}
