//! A function's code in a request: a zip file in base64, or an object of S3. Images are told apart, and refused.

use super::fault::Fault;
use super::scope;
use crate::gateway::Gateway;
use crate::route::Exchange;
use aws::{CallError, Service};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use runtime::codestore::{AdmitError, CodeId, Held};
use serde_json::{Map, Value};

const NO_SOURCE: &str = "Please provide a source for function code.";
const TWO_SOURCES: &str = "Please do not provide other FunctionCode parameters when providing a ZipFile.";
const NO_IMAGES: &str = "This node runs functions from zip files; it takes no images yet.";
const SOURCES: [&str; 3] = ["S3Bucket", "S3Key", "ImageUri"];

/// Takes the zip file out of what a request says of its code, or fetches it from S3 in this region, and stores it. Blocks on
/// the disk and on S3; within a tokio runtime.
pub fn store(code: &mut Map<String, Value>, gateway: &Gateway, region: &str) -> Result<Held, Fault> {
    let store = gateway.registry.code();
    let other = SOURCES.into_iter().find(|source| code.get(*source).is_some_and(|value| !value.is_null()));
    match (code.remove("ZipFile").filter(|zip| !zip.is_null()), other) {
        (Some(Value::String(zip)), None) => {
            let zip = BASE64.decode(zip).map_err(|_| Fault::serialization("ZipFile is a zip file in base64"))?;
            store.admit(&zip).map_err(refused)
        }
        (Some(Value::String(_)), Some(_)) => Err(Fault::invalid_parameter(TWO_SOURCES)),
        (Some(_), _) => Err(Fault::serialization("ZipFile is a zip file in base64")),
        (None, None) => Err(Fault::invalid_parameter(NO_SOURCE)),
        (None, Some("ImageUri")) => Err(Fault::invalid_parameter(NO_IMAGES)),
        (None, Some(_)) => {
            let turn = tokio::runtime::Handle::current().block_on(gateway.fetches.acquire());
            let _turn = turn.map_err(|error| Fault::internal(&error))?;
            store.admit_fetched(&fetch(code, gateway, region)?).map_err(refused)
        }
    }
}

fn fetch(code: &Map<String, Value>, gateway: &Gateway, region: &str) -> Result<Bytes, Fault> {
    let text = |member: &str| match code.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Fault::serialization(format!("{member} is a String"))),
    };
    let (Some(bucket), Some(key)) = (text("S3Bucket")?, text("S3Key")?) else {
        return Err(Fault::invalid_parameter(NO_SOURCE));
    };
    // What a request may bring is no limit of what it may name.
    let limit = gateway.registry.code().config().unzipped_max;
    let fetched = gateway.aws.get_object(region, (bucket, key), text("S3ObjectVersion")?, limit as usize);
    tokio::runtime::Handle::current().block_on(fetched).map_err(|error| match error {
        CallError::TooLong { .. } => refused(AdmitError::UnzippedTooBig { limit }),
        error => not_fetched(&error, "GetObject", Service::S3),
    })
}

/// AWS's words for a service that did not give what a request names.
pub fn not_fetched(error: &CallError, operation: &str, service: Service) -> Fault {
    match error {
        CallError::Refused { code, message, .. } => {
            let name = service.name();
            let words = format!("Error occurred while {operation}. {name} Error Code: {code}. {name} Error Message: ");
            Fault::invalid_parameter(words + message)
        }
        error => Fault::invalid_parameter(format!("Error occurred while {operation}: {error}")),
    }
}

/// Where a package can be downloaded: on this node, by the name that the caller knows it by. Signed ahead where the node
/// has keys.
pub fn location(exchange: &Exchange, id: CodeId) -> String {
    let Gateway { config, auth, .. } = &*exchange.gateway;
    let own = config.node.listen.to_string();
    let host = exchange.header("host").unwrap_or(&own);
    let path = format!("{}/{}", crate::v1::CODE, id.hex());
    match auth.link(host, &path, &scope::of(&exchange.head, &config.node).region) {
        Some(query) => format!("http://{host}{path}?{query}"),
        None => format!("http://{host}{path}"),
    }
}

/// What it means for a caller that a package was not taken.
pub fn refused(error: AdmitError) -> Fault {
    match error {
        AdmitError::ZippedTooBig { .. } => Fault::too_large(error.to_string()),
        AdmitError::DiskFull(_) => Fault::full(error.to_string()),
        AdmitError::Disk(_) => Fault::internal(&error),
        AdmitError::UnzippedTooBig { .. }
        | AdmitError::TooManyFiles { .. }
        | AdmitError::NoZip(_)
        | AdmitError::SameName
        | AdmitError::BadEntry { .. } => Fault::invalid_parameter(error.to_string()),
    }
}
