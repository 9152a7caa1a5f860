//! The table: operations, and the shapes that their requests are made of.

use super::super::bounds::Bounds;
use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

/// Read when it is first asked for.
pub static MODEL: LazyLock<Model> = LazyLock::new(|| {
    // It is part of the program, and a test reads it.
    serde_json::from_str(include_str!("../model.json")).unwrap_or_default()
});

#[derive(Default, Deserialize)]
pub struct Model {
    pub operations: HashMap<String, Operation>,
    pub shapes: HashMap<String, Shape>,
}

/// One operation.
#[derive(Deserialize)]
pub struct Operation {
    /// What its routes are compared with.
    #[cfg(test)]
    pub method: String,
    /// `/2015-03-31/functions/{FunctionName}/aliases/{Name}`.
    pub path: String,
    /// The shape of its request.
    pub input: String,
}

impl Operation {
    /// Which star of its route's pattern stands for a part of the path.
    pub fn star(&self, name: &str) -> Option<usize> {
        let parts = self.path.split('/').filter_map(|part| part.strip_prefix('{'));
        parts.map(|part| part.trim_end_matches('}')).position(|part| part == name)
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Blob,
    Boolean,
    Double,
    Float,
    Integer,
    List,
    Long,
    Map,
    String,
    Structure,
    Timestamp,
}

/// A kind of value, and what must hold of it.
#[derive(Deserialize)]
pub struct Shape {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of a text's characters, a list's items, or a number.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// As AWS writes it.
    pub pattern: Option<String>,
    /// The same for our engine, where it cannot read AWS's: what must match, and what must not.
    #[serde(rename = "match")]
    matching: Option<String>,
    except: Option<String>,
    #[serde(default, rename = "enum")]
    pub words: Vec<String>,
    /// Its values are not repeated in messages.
    #[serde(default)]
    pub sensitive: bool,
    #[serde(default)]
    pub required: Vec<String>,
    #[serde(default, deserialize_with = "in_order")]
    pub members: Vec<(String, Member)>,
    member: Option<String>,
    key: Option<String>,
    value: Option<String>,
    #[serde(skip)]
    patterns: OnceLock<[Option<Regex>; 2]>,
}

/// A member of a structure.
#[derive(Deserialize)]
pub struct Member {
    #[serde(rename = "shape")]
    pub of: String,
    /// `uri`, `querystring` or `header`; nothing in the body.
    #[serde(rename = "in")]
    pub place: Option<String>,
    /// By which name it is found there.
    #[serde(default, rename = "as")]
    pub called: String,
}

impl Member {
    pub fn shape(&self) -> Option<(&'static str, &'static Shape)> {
        shape(&self.of)
    }
}

/// A shape with its name.
pub type Named = (&'static str, &'static Shape);

fn shape(name: &str) -> Option<Named> {
    MODEL.shapes.get_key_value(name).map(|(name, shape)| (name.as_str(), shape))
}

impl Shape {
    pub fn item(&self) -> Option<Named> {
        shape(self.member.as_deref()?)
    }

    pub fn key(&self) -> Option<Named> {
        shape(self.key.as_deref()?)
    }

    pub fn value(&self) -> Option<Named> {
        shape(self.value.as_deref()?)
    }

    /// Whether a text is as the pattern has it, from end to end.
    pub fn matches(&self, text: &str) -> bool {
        let [matching, except] = self.patterns();
        matching.as_ref().is_none_or(|matching| matching.is_match(text))
            && !except.as_ref().is_some_and(|except| except.is_match(text))
    }

    fn patterns(&self) -> &[Option<Regex>; 2] {
        self.patterns.get_or_init(|| {
            let matching = self.matching.as_deref().or(self.pattern.as_deref());
            [matching, self.except.as_deref()].map(|pattern| pattern.and_then(whole))
        })
    }

    #[cfg(test)]
    pub fn has_pattern(&self) -> bool {
        let [matching, except] = self.patterns();
        matching.is_some() && except.is_some() == self.except.is_some()
    }

    /// Its highest value: the node's own where its configuration has one.
    pub fn max(&self, name: &str, bounds: &Bounds) -> Option<f64> {
        match name {
            "Timeout" => Some(bounds.timeout_max_s.into()),
            "MemorySize" => Some(bounds.memory_max_mib.into()),
            "ResourcePolicy" => Some(bounds.policy_max as f64),
            "EphemeralStorageSize" => Some(bounds.tmp_max_mib.into()),
            _ => self.max,
        }
    }
}

fn whole(pattern: &str) -> Option<Regex> {
    let regex = Regex::new(&format!("^(?:{pattern})$"));
    regex.inspect_err(|error| tracing::error!(pattern, %error, "a pattern of AWS's model cannot be read")).ok()
}

/// Members in the order of the model, which is that of AWS's complaints.
fn in_order<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, Member)>, D::Error> {
    let members = Map::<String, Value>::deserialize(from)?;
    let read = |(name, member)| Ok((name, serde_json::from_value(member).map_err(serde::de::Error::custom)?));
    members.into_iter().map(read).collect()
}

/// All operations: name, method, path.
#[cfg(test)]
pub fn operations() -> Vec<(&'static str, &'static str, &'static str)> {
    let all = MODEL.operations.iter();
    all.map(|(name, operation)| (name.as_str(), operation.method.as_str(), operation.path.as_str())).collect()
}
