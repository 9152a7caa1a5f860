//! What a request may contain, as tables of rules; and how AWS says that something breaks one.
//!
//! A rule is data, so that an operation's constraints can be read at a glance. Lambda's own requests are checked by AWS's
//! model of them ([`super::model`]); the tables here are for services of which the node has only a part.

use super::fault::Fault;
use serde_json::{Map, Value};

/// What a member of a request has to be.
#[derive(Clone, Copy)]
pub enum Shape {
    Text,
    Integer,
    Flag,
    List,
}

/// One thing that must hold of a value.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Of a text's characters.
    Length {
        min: usize,
        max: usize,
    },
    AtLeast(i64),
    OneOf(&'static [&'static str]),
    /// AWS's pattern, and the same as a function.
    Pattern(&'static str, fn(&str) -> bool),
    /// Of a list.
    Items {
        min: usize,
        max: usize,
    },
}

/// One member of a request, by its path, and what must hold of it.
pub struct Member {
    /// `VpcConfig.SubnetIds`.
    pub path: &'static str,
    pub shape: Shape,
    pub rules: &'static [Rule],
}

/// A member of a table.
pub const fn member(path: &'static str, shape: Shape, rules: &'static [Rule]) -> Member {
    Member { path, shape, rules }
}

/// Checks a request: wrong types first, then missing members and broken rules, all of them in one message.
pub fn check(request: &Map<String, Value>, members: &[Member], required: &[&str]) -> Result<(), Fault> {
    let mut broken: Vec<String> = Vec::new();
    for path in required.iter().filter(|path| find(request, path).is_none()) {
        broken.push(complaint(path, Some("null"), "Member must not be null"));
    }
    for member in members {
        let Some(value) = find(request, member.path) else { continue };
        member.shape.check(value)?;
        let rules = member.rules.iter().filter_map(|rule| rule.complaint(value));
        broken.extend(rules.map(|rule| complaint(member.path, Some(&quoted(value)), &rule)));
    }
    if broken.is_empty() { Ok(()) } else { Err(Fault::validation(counted(&broken))) }
}

/// A single broken rule, as a fault.
pub fn violation(field: &str, value: &str, rule: &str) -> Fault {
    Fault::validation(sentence(field, value, rule))
}

/// A single broken rule, in words.
pub fn sentence(field: &str, value: &str, rule: &str) -> String {
    counted(&[complaint(field, Some(&format!("'{value}'")), rule)])
}

/// Complaints in one message.
pub fn counted(broken: &[String]) -> String {
    let errors = if broken.len() == 1 { "error" } else { "errors" };
    format!("{} validation {errors} detected: {}", broken.len(), broken.join("; "))
}

/// What is wrong with a value, which is not repeated where it is a secret.
pub fn complaint(path: &str, value: Option<&str>, rule: &str) -> String {
    let value = value.map(|value| format!("{value} ")).unwrap_or_default();
    format!("Value {value}at '{}' failed to satisfy constraint: {rule}", field(path))
}

/// A path as AWS writes it in messages: every part begins small.
fn field(path: &str) -> String {
    let small = |part: &str| {
        let mut letters = part.chars();
        letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    path.split('.').map(small).collect::<Vec<_>>().join(".")
}

/// The value at a path. An explicit null is as good as nothing.
pub fn find<'a>(request: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = request.get(parts.next()?)?;
    for part in parts {
        value = value.as_object()?.get(part)?;
    }
    (!value.is_null()).then_some(value)
}

/// A value as AWS shows it: lists and maps without quotes inside.
fn quoted(value: &Value) -> String {
    format!("'{}'", plain(value))
}

pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

impl Shape {
    fn check(self, value: &Value) -> Result<(), Fault> {
        let (fits, wanted) = match self {
            Self::Text => (value.is_string(), "a String"),
            Self::Integer => (value.is_i64() || value.is_u64(), "an Integer"),
            Self::Flag => (value.is_boolean(), "a Boolean"),
            Self::List => (value.is_array(), "a List"),
        };
        let found = match value {
            _ if fits => return Ok(()),
            Value::Array(_) => return Err(Fault::serialization("Start of list found where not expected")),
            Value::Object(_) => {
                return Err(Fault::serialization("Start of structure or map found where not expected."));
            }
            Value::String(_) => "STRING_VALUE",
            Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
            Value::Number(_) => "NUMBER_VALUE",
            Value::Bool(true) => "TRUE_VALUE",
            Value::Bool(false) => "FALSE_VALUE",
            Value::Null => "NULL_VALUE",
        };
        Err(Fault::serialization(format!("{found} can not be converted to {wanted}")))
    }
}

impl Rule {
    /// What a value should be, if it is not.
    fn complaint(&self, value: &Value) -> Option<String> {
        let text = value.as_str();
        let number = value.as_i64().unwrap_or(i64::MAX);
        let items = value.as_array();
        match *self {
            Self::Length { min, max } => between(text?.chars().count(), min, max, "have length"),
            Self::Items { min, max } => between(items?.len(), min, max, "have length"),
            Self::AtLeast(min) if number < min => {
                Some(format!("Member must have value greater than or equal to {min}"))
            }
            Self::OneOf(words) if !words.contains(&text?) => {
                Some(format!("Member must satisfy enum value set: [{}]", words.join(", ")))
            }
            Self::Pattern(pattern, holds) if !holds(text?) => {
                Some(format!("Member must satisfy regular expression pattern: {pattern}"))
            }
            _ => None,
        }
    }
}

fn between(found: usize, min: usize, max: usize, what: &str) -> Option<String> {
    if found < min {
        Some(format!("Member must {what} greater than or equal to {min}"))
    } else if found > max {
        Some(format!("Member must {what} less than or equal to {max}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MEMBERS: &[Member] = &[
        member("Name", Shape::Text, &[Rule::Length { min: 1, max: 3 }]),
        member("Count", Shape::Integer, &[Rule::AtLeast(1)]),
        member("Kind.Of", Shape::Text, &[Rule::OneOf(&["a", "b"])]),
        member("Words", Shape::List, &[Rule::Items { min: 1, max: 1 }]),
    ];

    fn message(request: Value) -> Option<String> {
        let request = request.as_object().unwrap();
        check(request, MEMBERS, &["Name"]).err().map(|fault| fault.message().to_owned())
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(message(json!({ "Name": "äöü", "Count": 50, "Kind": { "Of": "a" }, "Words": ["arm64"] })), None);
        assert_eq!(message(json!({ "Name": "a", "Count": null, "Kind": {}, "Unknown": [1] })), None);
    }

    #[test]
    fn broken_rules_are_told_in_lambdas_words() {
        let broken = [
            (
                json!({}),
                "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null",
            ),
            (
                json!({ "Name": "long" }),
                "1 validation error detected: Value 'long' at 'name' failed to satisfy constraint: Member must have length less than or equal to 3",
            ),
            (
                json!({ "Name": "a", "Kind": { "Of": "c" } }),
                "1 validation error detected: Value 'c' at 'kind.of' failed to satisfy constraint: Member must satisfy enum value set: [a, b]",
            ),
            (
                json!({ "Name": "a", "Words": ["x86_64", "arm64"] }),
                "1 validation error detected: Value '[x86_64, arm64]' at 'words' failed to satisfy constraint: Member must have length less than or equal to 1",
            ),
        ];
        for (request, expected) in broken {
            assert_eq!(message(request).as_deref(), Some(expected));
        }
        let two = message(json!({ "Count": 0 })).unwrap();
        assert!(
            two.starts_with("2 validation errors detected: Value null at 'name'")
                && two.contains("; Value '0' at 'count'"),
            "{two}"
        );
    }

    #[test]
    fn wrong_types_are_told() {
        let wrong = [
            (json!({ "Name": 1 }), "NUMBER_VALUE can not be converted to a String"),
            (json!({ "Name": "a", "Count": "1" }), "STRING_VALUE can not be converted to an Integer"),
            (json!({ "Name": "a", "Count": 1.5 }), "DECIMAL_VALUE can not be converted to an Integer"),
            (json!({ "Name": ["a"] }), "Start of list found where not expected"),
            (json!({ "Name": { "a": 1 } }), "Start of structure or map found where not expected."),
        ];
        for (request, expected) in wrong {
            assert_eq!(message(request).as_deref(), Some(expected));
        }
    }
}
