//! One line of a log.

use serde::Serializer;
use std::sync::Arc;

/// Whose log: log groups of different accounts and regions are apart even under one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogGroup {
    pub account: String,
    pub region: String,
    /// `/aws/lambda/NAME` unless configured otherwise.
    pub name: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// When it was read: milliseconds since 1970.
    pub at_ms: u64,
    /// Which instance, or which dedicated template's instances: `YYYY/MM/DD/[$LATEST]HEX`.
    #[serde(serialize_with = "text")]
    pub stream: Arc<str>,
    /// Which invocation.
    #[serde(serialize_with = "text")]
    pub request_id: Arc<str>,
    /// Without its line break.
    pub text: Box<str>,
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}
