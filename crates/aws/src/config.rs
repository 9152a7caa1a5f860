//! `[aws]`: where the services are that functions' events come from and go to. Without endpoints there are none.

use crate::client::Service;
use daemon::secret::Secret;
use serde::Deserialize;
use std::path::PathBuf;
use thiserror::Error;

/// Endpoints, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AwsConfig {
    /// For every service that has none of its own below; empty for none.
    pub endpoint: Endpoint,
    pub endpoints: Endpoints,
    /// The region that requests are signed for; empty for that of what is asked for.
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    /// Certificates in PEM that TLS trusts; without one, the system's.
    pub ca_file: PathBuf,
    /// Seconds for one request; one that waits for messages has so many more.
    pub timeout_s: u64,
    /// How often a request is tried again at once that found the service busy, or not there.
    pub retries: u32,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            endpoint: Endpoint::default(),
            endpoints: Endpoints::default(),
            region: String::new(),
            access_key_id: "lichen".to_owned(),
            secret_access_key: Secret::from("lichen"),
            ca_file: PathBuf::new(),
            timeout_s: 30,
            retries: 3,
        }
    }
}

/// `[aws.endpoints]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoints {
    pub s3: Endpoint,
    pub sqs: Endpoint,
    pub sns: Endpoint,
    pub events: Endpoint,
    pub kinesis: Endpoint,
    pub dynamodb: Endpoint,
}

impl AwsConfig {
    /// Whether any endpoint is reached by TLS.
    pub fn is_any_secure(&self) -> bool {
        let Endpoints { s3, sqs, sns, events, kinesis, dynamodb } = &self.endpoints;
        [&self.endpoint, s3, sqs, sns, events, kinesis, dynamodb].iter().any(|endpoint| endpoint.is_secure)
    }

    /// Where a service is; nothing where nobody said.
    pub fn endpoint(&self, service: Service) -> Option<&Endpoint> {
        let own = match service {
            Service::S3 => &self.endpoints.s3,
            Service::Sqs => &self.endpoints.sqs,
            Service::Sns => &self.endpoints.sns,
            Service::Events => &self.endpoints.events,
            Service::Kinesis => &self.endpoints.kinesis,
            Service::DynamoDb => &self.endpoints.dynamodb,
        };
        [own, &self.endpoint].into_iter().find(|endpoint| !endpoint.authority.is_empty())
    }
}

/// An address: `http[s]://HOST[:PORT][/PREFIX]`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    /// As the `Host` header has it.
    pub authority: String,
    pub host: String,
    pub port: u16,
    /// Whether it is reached by TLS.
    pub is_secure: bool,
    /// What precedes every path.
    pub prefix: String,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("the endpoint {0:?} does not begin with http:// or https://")]
    NotHttp(String),
    #[error("the endpoint {0:?} names no host, or a port that is not a number")]
    NoHost(String),
}

impl Endpoint {
    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let schemes = [("http://", false, 80), ("https://", true, 443)];
        let known = schemes
            .iter()
            .find_map(|(scheme, is_secure, port)| text.strip_prefix(scheme).map(|rest| (rest, *is_secure, *port)));
        let (rest, is_secure, usual_port) = known.ok_or_else(|| EndpointError::NotHttp(text.clone()))?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let wrong = || EndpointError::NoHost(text.clone());
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, usual_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, is_secure, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let read = |text: &str| Endpoint::try_from(text.to_owned());
        let endpoint = read("http://localhost:4566/x/").unwrap();
        assert_eq!(
            (&*endpoint.authority, &*endpoint.host, endpoint.port, &*endpoint.prefix),
            ("localhost:4566", "localhost", 4566, "/x")
        );
        assert_eq!((read("http://[::1]:9").unwrap().host, read("http://a").unwrap().port), ("::1".to_owned(), 80));
        assert_eq!(read("").unwrap(), Endpoint::default());
        let secure = read("https://s3.us-east-1.amazonaws.com").unwrap();
        assert_eq!((secure.port, secure.scheme(), read("https://a:9").unwrap().port), (443, "https", 9));
        assert!(matches!(read("ftp://a"), Err(EndpointError::NotHttp(_))));
        for wrong in ["http://", "http://:80", "http://a:b", "http://a/\r\nx"] {
            assert!(matches!(read(wrong), Err(EndpointError::NoHost(_))), "{wrong}");
        }
    }

    #[test]
    fn a_services_own_endpoint_goes_before_the_common_one() {
        let endpoint = |text: &str| Endpoint::try_from(text.to_owned()).unwrap();
        let mut config = AwsConfig::default();
        assert_eq!(config.endpoint(Service::S3), None);
        config.endpoints.s3 = endpoint("http://one");
        assert_eq!(config.endpoint(Service::Sqs), None);
        config.endpoint = endpoint("http://all");
        let host = |service| config.endpoint(service).map(|endpoint| endpoint.host.as_str());
        assert_eq!((host(Service::S3), host(Service::Sqs)), (Some("one"), Some("all")));
    }
}
