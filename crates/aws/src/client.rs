//! Calls of services: signed (Signature V4), within a time, tried again where the service is busy.

use crate::config::AwsConfig;
use crate::fault::CallError;
use crate::tls::{Tls, Trust, TrustError};
use crate::{http, xml};
use api::sigv4::{self, Scope, Signed};
use api::time;
use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// The longest answer of a call that brings no object: ten messages of a mebibyte, every byte of them escaped.
const ANSWER_MAX: usize = 64 << 20;
/// Before a busy service is tried again; doubled each time.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Services that this client speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    S3,
    Sqs,
    Sns,
    Events,
    Kinesis,
    DynamoDb,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Sqs => "SQS",
            Self::Sns => "SNS",
            Self::Events => "EventBridge",
            Self::Kinesis => "Kinesis",
            Self::DynamoDb => "DynamoDB",
        }
    }

    /// As it is called in scopes of signatures, in ARNs, and in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::Events => "events",
            Self::Kinesis => "kinesis",
            Self::DynamoDb => "dynamodb",
        }
    }
}

/// A request.
pub struct Call<'a> {
    pub service: Service,
    pub region: &'a str,
    pub method: &'static str,
    /// Encoded.
    pub path: &'a str,
    /// Encoded, without its question mark.
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Bytes,
    /// What the service itself may wait before it answers.
    pub wait: Duration,
    pub answer_max: usize,
}

impl<'a> Call<'a> {
    pub fn new(service: Service, region: &'a str, method: &'static str, path: &'a str) -> Self {
        let (body, wait) = (Bytes::new(), Duration::ZERO);
        Self { service, region, method, path, query: "", headers: &[], body, wait, answer_max: ANSWER_MAX }
    }
}

/// What came back, of a status below 300.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A client of all services.
#[derive(Clone, Debug, Default)]
pub struct Aws {
    config: AwsConfig,
    /// None where no endpoint asks for it.
    tls: Option<Tls>,
}

impl Aws {
    /// Reads the certificates that are trusted, where an endpoint is reached by TLS.
    pub fn open(config: AwsConfig) -> Result<Self, TrustError> {
        let trusted = || Trust::open(&config.ca_file, "aws")?.agreeing(&[b"http/1.1"]);
        let tls = if config.is_any_secure() { Some(trusted()?) } else { None };
        Ok(Self { config, tls })
    }

    /// Whether anything is known of a service.
    pub fn check(&self, service: Service) -> Result<(), CallError> {
        match self.config.endpoint(service) {
            Some(_) => Ok(()),
            None => Err(CallError::NotConfigured { service: service.name(), key: service.word() }),
        }
    }

    /// What the addresses of a service begin with.
    pub(crate) fn origin(&self, service: Service) -> String {
        let endpoint = self.config.endpoint(service);
        endpoint.map(|it| format!("{}://{}{}", it.scheme(), it.authority, it.prefix)).unwrap_or_default()
    }

    /// Asks until there is an answer that counts. A call of which nobody knows what became is not repeated.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        let mut tried = 0;
        loop {
            match self.once(call).await {
                Err(error) if error.is_untouched() && tried < self.config.retries => {
                    tracing::debug!(%error, tried, "a service is asked once more");
                    tokio::time::sleep(BACK_OFF * (1 << tried.min(8))).await;
                    tried += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        let Some(endpoint) = self.config.endpoint(call.service) else {
            return Err(CallError::NotConfigured { service: call.service.name(), key: call.service.word() });
        };
        let headers = self.signed(call, &endpoint.authority, &endpoint.prefix);
        let patience = Duration::from_secs(self.config.timeout_s) + call.wait;
        let exchanged = http::exchange(endpoint, self.tls.as_ref(), call, &headers);
        let Ok(answer) = tokio::time::timeout(patience, exchanged).await else {
            let endpoint = endpoint.authority.clone();
            return Err(CallError::Silent { service: call.service.name(), endpoint, patience });
        };
        let answer = answer?;
        if answer.status < 300 { Ok(answer) } else { Err(refusal(&answer)) }
    }

    /// The headers of a call, with those by which it is signed.
    fn signed(&self, call: &Call<'_>, authority: &str, prefix: &str) -> Vec<(String, String)> {
        let moment = time::compact(time::now_ms());
        let region = if self.config.region.is_empty() { call.region } else { &self.config.region };
        let scope = Scope { day: &moment[..8], region, service: call.service.word() };
        let payload = sigv4::hash(&call.body);
        let mut signed: Vec<(&str, &str)> =
            vec![("host", authority), ("x-amz-content-sha256", &payload), ("x-amz-date", &moment)];
        signed.extend(call.headers);
        signed.sort();
        let path = format!("{prefix}{}", call.path);
        let request =
            Signed { method: call.method, path: &path, query: call.query, headers: &signed, payload: &payload };
        let signature = sigv4::sign(self.config.secret_access_key.text(), &moment, scope, &request);
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let authorization = format!(
            "{} Credential={}/{}/{region}/{}/{}, SignedHeaders={}, Signature={signature}",
            sigv4::ALGORITHM,
            self.config.access_key_id,
            scope.day,
            scope.service,
            sigv4::TERMINATOR,
            names.join(";"),
        );
        let sent = signed.iter().filter(|(name, _)| *name != "host");
        let mut headers: Vec<(String, String)> =
            sent.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        headers.push(("authorization".to_owned(), authorization));
        headers
    }

    /// An operation of the services that speak JSON: `target` is `Kinesis_20131202.GetRecords`, `version` 1.0 or 1.1.
    pub async fn json(
        &self,
        (service, region): (Service, &str),
        (version, target): (&str, &str),
        request: &Value,
        wait: Duration,
    ) -> Result<Value, CallError> {
        let content_type = format!("application/x-amz-json-{version}");
        let headers = [("content-type", content_type.as_str()), ("x-amz-target", target)];
        let body = Bytes::from(request.to_string());
        let call = Call { headers: &headers, body, wait, ..Call::new(service, region, "POST", "/") };
        let answer = self.call(&call).await?.body;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        let foreign = |_| CallError::Foreign { service: service.name(), what: "it is no JSON" };
        serde_json::from_slice(&answer).map_err(foreign)
    }
}

/// An error in whatever form the service has: JSON with `__type`, or XML with `Code`.
fn refusal(answer: &Answer) -> CallError {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let text = String::from_utf8_lossy(&answer.body);
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let member = |names: [&str; 2]| names.into_iter().find_map(|name| json.get(name)?.as_str());
    // Old clients of SQS know other codes; these are the ones that AWS's own texts have.
    let old = header("x-amzn-query-error").and_then(|error| error.split(';').next()).map(str::to_owned);
    let named = member(["__type", "code"]).or(header("x-amzn-errortype"));
    let named = named.map(|name| name.rsplit('#').next().unwrap_or(name).split(':').next().unwrap_or(name).to_owned());
    let code = old.or(named).or_else(|| xml::text(&text, "Code"));
    let message = member(["message", "Message"]).map(str::to_owned).or_else(|| xml::text(&text, "Message"));
    CallError::Refused {
        status: answer.status,
        code: code.unwrap_or_else(|| format!("Status{}", answer.status)),
        message: message.unwrap_or_else(|| "the service gave no reason".to_owned()),
    }
}
