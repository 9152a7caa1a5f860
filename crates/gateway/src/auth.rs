//! Who may ask for what: Signature V4, verified where the node has keys (`[auth]`), and ignored where it has none.
//!
//! ```text
//! claim (header or query) ─▶ key known? moment near? ─▶ body read ─▶ signature right? ─▶ allowed?
//!
//! allowed: a call by another account     its key says so, and the function's policy
//!          a call within the account     its key says so, or the function's policy names the caller
//!          a URL that asks nobody        the function's policy names everybody
//!          anything else                 its key says so
//! ```
//! It guards Lambda's API, CloudWatch's and the node's own, and function URLs. Open to everybody stay probes, and metrics
//! where the configuration says so. Sessions and roles are not here.

mod claim;
mod key;
mod link;
mod policy;

pub use key::{AuthConfig, KeyConfig};

use crate::http::body::Unread;
use crate::http::guard::Callers;
use crate::lambda::{Fault, name, scope};
use crate::route::{Exchange, Route};
use crate::v1::flows;
use api::lambda::LATEST;
use api::sigv4::{self, Signed};
use bytes::Bytes;
use claim::Claim;
use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName};
use hyper::http::request::Parts;
use link::Links;
use policy::{Principal, Question, Said};
use runtime::registry::{Facet, Record};
use std::collections::HashMap;
use std::time::Duration;

/// The one operation that is for programs which cannot sign.
const METRICS: &str = "GetMetrics";

/// Whose a request was found to be: its account goes before what the request says.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: String,
    /// The account in which the function is that a caller has been let in to call: nothing for its own.
    pub reaches: Option<String>,
}

/// A function that is to be called.
struct Callee {
    account: String,
    name: String,
    /// With the qualifier.
    arn: String,
    /// What its policy is, where it has one.
    policy: Option<std::sync::Arc<runtime::registry::Attached>>,
}

/// The keys that a node knows.
pub struct Auth {
    keys: HashMap<String, KeyConfig>,
    /// What signs the links that this node gives out.
    links: Links,
    skew: Duration,
    open_metrics: bool,
}

impl Auth {
    pub fn new(config: &AuthConfig) -> Self {
        let keys = config.keys.iter().map(|key| (key.id.clone(), key.clone())).collect();
        let skew = Duration::from_secs(config.skew_s);
        Self { keys, links: Links::new(), skew, open_metrics: config.open_metrics }
    }

    fn key(&self, id: &str) -> Option<&KeyConfig> {
        self.keys.get(id).or_else(|| (id == self.links.key.id).then_some(&self.links.key))
    }

    /// The query by which anybody may get what is at a path of this node, for a while; nothing where everybody may anyway.
    pub fn link(&self, host: &str, path: &str, region: &str) -> Option<String> {
        self.is_on().then(|| self.links.query(host, path, region, api::time::now_ms()))
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

/// What calls a function by the API, and by its URL.
const INVOKE: &str = "lambda:InvokeFunction";
const INVOKE_URL: &str = "lambda:InvokeFunctionUrl";

/// Lets a request pass whose signature is right and whose key may do this, or which a function's policy permits. Its body
/// has been read then, and its account is the key's.
pub async fn admit(exchange: &mut Exchange, route: &Route, action: &str) -> Result<(), Fault> {
    let gateway = exchange.gateway.clone();
    let key = signed(exchange).await?;
    let account = key.account(&gateway.config.node).to_owned();
    if action == INVOKE {
        let callee = callee(exchange, &account)?;
        let reaches = permit(&key, &account, INVOKE, &callee, &[("lambda:InvokedViaFunctionUrl", "false")])?;
        exchange.head.extensions.insert(Caller { account, reaches });
        return Ok(());
    }
    exchange.head.extensions.insert(Caller { account: account.clone(), reaches: None });
    let (function, resource) = match function(exchange, route)? {
        Some((name, arn)) => (Some(name), arn),
        None => (None, "*".to_owned()),
    };
    match key.allows(action, function.as_deref()) {
        true => Ok(()),
        false => Err(denied(&key, &account, action, &resource, Why::NoKey)),
    }
}

/// Lets a request to a function URL pass: everybody, where its policy says so and its URL asks for no signature; else
/// who has signed and may call it.
pub async fn admit_to_url(
    exchange: &mut Exchange,
    record: &Record,
    qualifier: &str,
    wants_signature: bool,
) -> Result<(), Fault> {
    let id = &record.latest.id;
    let arn = match qualifier {
        LATEST => id.arn(),
        qualifier => format!("{}:{qualifier}", id.arn()),
    };
    let policy = record.attached(Facet::Policy, qualifier).cloned();
    let callee = Callee { account: id.account.clone(), name: id.name.clone(), arn, policy };
    let auth_type = if wants_signature { "AWS_IAM" } else { "NONE" };
    let facts = [("lambda:FunctionUrlAuthType", auth_type), ("lambda:InvokedViaFunctionUrl", "true")];
    if !wants_signature {
        let question = Question { action: INVOKE_URL, resource: &callee.arn, principal: None, facts: &facts };
        return match callee.said(question) {
            Said::May => Ok(()),
            _ => Err(Fault::access_denied(FORBIDDEN)),
        };
    }
    let gateway = exchange.gateway.clone();
    let key = signed(exchange).await.map_err(|refusal| match refusal.is_unsigned() {
        true => Fault::access_denied(FORBIDDEN),
        false => refusal,
    })?;
    let account = key.account(&gateway.config.node).to_owned();
    let reaches = permit(&key, &account, INVOKE_URL, &callee, &facts).map_err(|_| Fault::access_denied(FORBIDDEN))?;
    exchange.head.extensions.insert(Caller { account, reaches });
    Ok(())
}

/// What a function URL says to whom it does not answer.
pub const FORBIDDEN: &str = "Forbidden. For troubleshooting Function URL authorization issues, see: \
    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html";

impl Callee {
    fn said(&self, question: Question<'_>) -> Said {
        self.policy.as_ref().map_or(Said::Nothing, |policy| policy::ask(&policy.value, question))
    }
}

/// Whether a key may call a function: the account that it reaches by that, where it is another.
fn permit(
    key: &KeyConfig,
    account: &str,
    action: &str,
    callee: &Callee,
    facts: &[(&str, &str)],
) -> Result<Option<String>, Fault> {
    let user = user(account, key);
    let facts = [facts, &[("aws:PrincipalAccount", account), ("aws:PrincipalArn", &user)]].concat();
    let principal = Some(Principal { account, user: &user });
    let said = callee.said(Question { action, resource: &callee.arn, principal, facts: &facts });
    let may = key.allows(action, Some(&callee.name));
    let denied = |why| Err(denied(key, account, action, &callee.arn, why));
    match said {
        Said::MayNot => denied(Why::Denial),
        said if callee.account == account => match may || said == Said::May {
            true => Ok(None),
            false => denied(Why::NoKey),
        },
        Said::Nothing => denied(Why::NoPolicy),
        Said::May | Said::AccountMay if may => Ok(Some(callee.account.clone())),
        Said::May | Said::AccountMay => denied(Why::NoKey),
    }
}

/// The key that a request is signed by, and rightly. The body has been read then.
async fn signed(exchange: &mut Exchange) -> Result<KeyConfig, Fault> {
    let gateway = exchange.gateway.clone();
    let claim = Claim::of(&exchange.head)?;
    let key = gateway.auth.key(&claim.key).ok_or_else(Fault::unrecognized_client)?;
    claim.is_timely(api::time::now_ms(), gateway.auth.skew)?;
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, gateway.config.functions.request_max, 1).await?,
        None => Bytes::new(),
    };
    verify(exchange, &claim, key, &body)?;
    exchange.body = Some(Unread::whole(body));
    Ok(key.clone())
}

/// The access key by which a request is signed, where it is signed as it should be.
pub fn access_key(head: &Parts) -> Option<String> {
    Claim::of(head).ok().map(|claim| claim.key)
}

/// Why something is not allowed.
#[derive(Clone, Copy)]
enum Why {
    /// Its key does not say that it is.
    NoKey,
    /// The function's policy does not.
    NoPolicy,
    /// The function's policy says that it is not.
    Denial,
}

fn user(account: &str, key: &KeyConfig) -> String {
    format!("arn:aws:iam::{account}:user/{}", key.id)
}

fn denied(key: &KeyConfig, account: &str, action: &str, resource: &str, why: Why) -> Fault {
    let why = match why {
        Why::NoKey => format!("because no identity-based policy allows the {action} action"),
        Why::NoPolicy => format!("because no resource-based policy allows the {action} action"),
        Why::Denial => "with an explicit deny in a resource-based policy".to_owned(),
    };
    let user = user(account, key);
    Fault::access_denied(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}"))
}

fn verify(exchange: &Exchange, claim: &Claim, key: &KeyConfig, body: &[u8]) -> Result<(), Fault> {
    let payload = sigv4::hash(body);
    // A hash that is sent along is signed in place of the body's own: then it has to be that.
    if exchange.header("x-amz-content-sha256").is_some_and(|said| said != payload) {
        return Err(Fault::invalid_signature());
    }
    check_coverage(&exchange.head.headers, &claim.headers)?;
    let mut headers: Vec<(&str, String)> = Vec::with_capacity(claim.headers.len());
    for name in &claim.headers {
        let values = exchange.head.headers.get_all(name.as_str()).iter().map(|value| value.to_str());
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|_| Fault::invalid_signature())?;
        headers.push((name, values.join(",")));
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

/// Whether all is signed that says what is asked, and of whom: who sees a request on its way could change the rest.
fn check_coverage(headers: &HeaderMap, signed: &[String]) -> Result<(), Fault> {
    let meant = headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("x-amz-"));
    match meant.chain([HOST.as_str()]).find(|name| !signed.iter().any(|signed| signed == name)) {
        Some(unsigned) => Err(Fault::unsigned_header(unsigned)),
        None => Ok(()),
    }
}

/// The name and the ARN of the function that the path names, if it is of those that name one. Flows share the functions'
/// names, and are named by keys as they are.
fn function(exchange: &Exchange, route: &Route) -> Result<Option<(String, String)>, Fault> {
    if names_flow(route) {
        let flow = flows::id(exchange, &exchange.capture(0));
        return Ok(Some((flow.name.clone(), flow.arn())));
    }
    if !names_function(route) {
        return Ok(None);
    }
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let target = name::resolve(exchange.capture(0), None, scope)?;
    Ok(Some((target.name.to_string(), target.arn())))
}

/// By the pattern, not by the path: a client may put a slash behind `/functions`, and call a layer `functions`.
fn names_function(route: &Route) -> bool {
    route.pattern.contains("/functions/*")
}

fn names_flow(route: &Route) -> bool {
    route.pattern.starts_with("/v1/flows/*")
}

/// The function that is to be called, whoever's it is.
fn callee(exchange: &Exchange, account: &str) -> Result<Callee, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let scope = scope::Scope { account: account.into(), known: false, ..scope };
    let target = name::resolve(exchange.capture(0), exchange.query("Qualifier"), scope)?;
    let qualifier = target.qualifier.as_deref().unwrap_or(LATEST);
    let record = target.record(&exchange.gateway).ok();
    let policy = record.and_then(|record| record.attached(Facet::Policy, qualifier).cloned());
    Ok(Callee { account: target.account.to_string(), name: target.name.to_string(), arn: target.arn(), policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{health, lambda, metrics, v1};

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
    fn what_a_signature_has_to_cover() {
        let headers = HeaderMap::from_iter(
            ["host", "x-amz-tenant-id", "x-amzn-trace-id", "accept"]
                .map(|name| (HeaderName::from_static(name), hyper::header::HeaderValue::from_static("v"))),
        );
        let covers = |signed: &[&str]| {
            check_coverage(&headers, &signed.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).is_ok()
        };
        assert!(covers(&["host", "x-amz-tenant-id"]));
        assert!(!covers(&["host"]) && !covers(&["x-amz-tenant-id"]));
    }

    #[test]
    fn paths_that_name_a_function() {
        let named = lambda::function::ROUTES.iter().filter(|route| names_function(route)).map(|route| route.name);
        assert_eq!(named.collect::<Vec<_>>(), ["GetFunction", "GetFunctionConfiguration", "DeleteFunction"]);
        assert!(!lambda::layers::ROUTES.iter().any(names_function));
        let flows = v1::ROUTES.iter().filter(|route| names_flow(route)).map(|route| route.name);
        let those = ["InvokeFlow", "ListRuns", "GetFlowGraph", "GetFlow", "DeleteFlow"];
        assert_eq!(flows.collect::<Vec<_>>(), those);
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
