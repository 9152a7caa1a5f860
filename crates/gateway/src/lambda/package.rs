//! A function's code in a request: a zip file in base64. Other sources are told apart, and refused for now.

use super::fault::Fault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use runtime::codestore::{AdmitError, CodeStore, Held};
use serde_json::{Map, Value};
use std::sync::Arc;

const NO_SOURCE: &str = "Please provide a source for function code.";
const TWO_SOURCES: &str = "Please do not provide other FunctionCode parameters when providing a ZipFile.";
const SOURCES: [&str; 3] = ["S3Bucket", "S3Key", "ImageUri"];

/// Takes the zip file out of what a request says of its code, and stores it. Blocks on the disk.
pub fn store(code: &mut Map<String, Value>, store: &Arc<CodeStore>) -> Result<Held, Fault> {
    let other = SOURCES.into_iter().find(|source| code.get(*source).is_some_and(|value| !value.is_null()));
    let zip = match (code.remove("ZipFile"), other) {
        (Some(Value::String(zip)), None) => zip,
        (Some(Value::String(_)), Some(_)) => return Err(Fault::invalid_parameter(TWO_SOURCES)),
        (None | Some(Value::Null), None) => return Err(Fault::invalid_parameter(NO_SOURCE)),
        (None | Some(Value::Null), Some(source)) => {
            let message = format!("This node takes code as ZipFile; {source} is not available yet.");
            return Err(Fault::invalid_parameter(message));
        }
        (Some(_), _) => return Err(Fault::serialization("ZipFile is a zip file in base64")),
    };
    let zip = BASE64.decode(zip).map_err(|_| Fault::serialization("ZipFile is a zip file in base64"))?;
    store.admit(&zip).map_err(refused)
}

fn refused(error: AdmitError) -> Fault {
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
