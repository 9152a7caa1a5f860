//! Patterns of records that are wanted: EventBridge's language, as far as event source mappings know it.
//!
//! ```text
//! { "body": { "kind": ["order", { "prefix": "re" }], "$or": [ { "n": [{ "numeric": [">", 5] }] }, { "x": [{ "exists": false }] } ] } }
//! ```
//! A field's list says what its value may be, any of which suffices; all fields must match. Of a value that is a list, one
//! element suffices. Not here: `wildcard` and `cidr`, which only rules of EventBridge have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use thiserror::Error;

/// How deep a pattern may be nested; one of 4 KB cannot need more.
const DEPTH_MAX: usize = 64;

/// A pattern is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("Invalid filter pattern definition.")]
pub struct InvalidPattern;

/// A pattern, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// Every field must match.
    Fields(Vec<(String, Node)>),
    /// One of these must match the same value.
    Or(Vec<Node>),
    /// One of these must be said of the value.
    Leaf(Vec<Test>),
}

/// What may be said of a value.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(Value),
    Prefix(String),
    PrefixIgnoringCase(String),
    Suffix(String),
    SuffixIgnoringCase(String),
    IgnoringCase(String),
    /// None of these.
    But(Vec<Test>),
    /// Above, or at least; below, or at most.
    Range(Option<(f64, bool)>, Option<(f64, bool)>),
    Exists(bool),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self(fields_of(&fields, 0)?)),
            _ => Err(InvalidPattern),
        }
    }

    pub fn matches(&self, record: &Value) -> bool {
        self.0.matches(Some(record))
    }
}

/// A text as patterns see it: JSON that has parts is looked into.
pub(crate) fn seen(text: &str) -> Value {
    let json = serde_json::from_str::<Value>(text).ok().filter(|json| json.is_object() || json.is_array());
    json.unwrap_or_else(|| text.into())
}

/// The same of a text in base 64; nothing of what is no text.
pub(crate) fn seen_encoded(text: &str) -> Option<Value> {
    let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    Some(seen(&text))
}

fn fields_of(fields: &Map<String, Value>, depth: usize) -> Result<Node, InvalidPattern> {
    if depth > DEPTH_MAX {
        return Err(InvalidPattern);
    }
    let node = |(name, value): (&String, &Value)| {
        let node = match value {
            Value::Array(choices) if name == "$or" => {
                let choices: Vec<Node> = choices
                    .iter()
                    .map(|choice| fields_of(choice.as_object().ok_or(InvalidPattern)?, depth + 1))
                    .collect::<Result<_, _>>()?;
                if choices.len() < 2 {
                    return Err(InvalidPattern);
                }
                Node::Or(choices)
            }
            Value::Object(fields) if !fields.is_empty() => fields_of(fields, depth + 1)?,
            Value::Array(tests) if !tests.is_empty() => Node::Leaf(tests.iter().map(test).collect::<Result<_, _>>()?),
            _ => return Err(InvalidPattern),
        };
        Ok((name.clone(), node))
    };
    fields.iter().map(node).collect::<Result<_, _>>().map(Node::Fields)
}

fn test(value: &Value) -> Result<Test, InvalidPattern> {
    let Value::Object(test) = value else {
        return if value.is_array() { Err(InvalidPattern) } else { Ok(Test::Is(value.clone())) };
    };
    let mut members = test.iter();
    let (Some((word, value)), None) = (members.next(), members.next()) else { return Err(InvalidPattern) };
    let ignoring_case = || value.get("equals-ignore-case").and_then(Value::as_str).map(str::to_owned);
    match (word.as_str(), value) {
        ("prefix", Value::String(text)) => Ok(Test::Prefix(text.clone())),
        ("prefix", Value::Object(_)) => ignoring_case().map(Test::PrefixIgnoringCase).ok_or(InvalidPattern),
        ("suffix", Value::String(text)) => Ok(Test::Suffix(text.clone())),
        ("suffix", Value::Object(_)) => ignoring_case().map(Test::SuffixIgnoringCase).ok_or(InvalidPattern),
        ("equals-ignore-case", Value::String(text)) => Ok(Test::IgnoringCase(text.clone())),
        ("exists", Value::Bool(exists)) => Ok(Test::Exists(*exists)),
        ("anything-but", value) => but(value),
        ("numeric", Value::Array(bounds)) => numeric(bounds),
        _ => Err(InvalidPattern),
    }
}

fn but(value: &Value) -> Result<Test, InvalidPattern> {
    let tests = match value {
        Value::String(_) | Value::Number(_) => vec![Test::Is(value.clone())],
        Value::Array(values) if !values.is_empty() && values.iter().all(|v| v.is_string() || v.is_number()) => {
            values.iter().cloned().map(Test::Is).collect()
        }
        Value::Object(test) => {
            let (Some((word, value)), 1) = (test.iter().next(), test.len()) else { return Err(InvalidPattern) };
            let texts = match value {
                Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
                one => one.as_str().map(|text| vec![Some(text)]).unwrap_or_default(),
            };
            let kind = match word.as_str() {
                "prefix" => Test::Prefix,
                "suffix" => Test::Suffix,
                "equals-ignore-case" => Test::IgnoringCase,
                _ => return Err(InvalidPattern),
            };
            let texts: Option<Vec<&str>> = texts.into_iter().collect();
            texts.ok_or(InvalidPattern)?.into_iter().map(|text| kind(text.to_owned())).collect()
        }
        _ => return Err(InvalidPattern),
    };
    if tests.is_empty() { Err(InvalidPattern) } else { Ok(Test::But(tests)) }
}

/// `[">", 0, "<=", 5]`, `["=", 3]`.
fn numeric(bounds: &[Value]) -> Result<Test, InvalidPattern> {
    let (mut low, mut high) = (None, None);
    for pair in bounds.chunks(2) {
        let [Value::String(word), Value::Number(number)] = pair else { return Err(InvalidPattern) };
        let number = number.as_f64().ok_or(InvalidPattern)?;
        let (is_low, is_high, inclusive) = match word.as_str() {
            "=" => (true, true, true),
            ">" => (true, false, false),
            ">=" => (true, false, true),
            "<" => (false, true, false),
            "<=" => (false, true, true),
            _ => return Err(InvalidPattern),
        };
        if (is_low && low.is_some()) || (is_high && high.is_some()) {
            return Err(InvalidPattern);
        }
        low = low.or(is_low.then_some((number, inclusive)));
        high = high.or(is_high.then_some((number, inclusive)));
    }
    if low.is_none() && high.is_none() { Err(InvalidPattern) } else { Ok(Test::Range(low, high)) }
}

impl Node {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Leaf(tests), value) => tests.iter().any(|test| test.holds(value)),
            (Self::Or(choices), value) => choices.iter().any(|choice| choice.matches(value)),
            (Self::Fields(_), Some(Value::Array(elements))) => {
                elements.iter().any(|element| self.matches(Some(element)))
            }
            (Self::Fields(fields), value) => fields.iter().all(|(name, node)| match node {
                Self::Or(_) => node.matches(value),
                _ => node.matches(value.and_then(|value| value.get(name))),
            }),
        }
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            // Only what has no fields itself can be there.
            (Self::Exists(wanted), value) => value.is_some_and(|value| !value.is_object()) == *wanted,
            (_, None) => false,
            (Self::But(_), Some(Value::Array(elements))) => elements.iter().all(|element| self.holds_of(element)),
            (_, Some(Value::Array(elements))) if !elements.is_empty() => {
                elements.iter().any(|element| self.holds_of(element))
            }
            (_, Some(value)) => self.holds_of(value),
        }
    }

    fn holds_of(&self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Is(wanted) => match (wanted.as_f64(), value.as_f64()) {
                (Some(wanted), Some(number)) => wanted == number,
                _ => wanted == value,
            },
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
            Self::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix.as_str())),
            Self::PrefixIgnoringCase(prefix) => {
                text.is_some_and(|text| text.to_lowercase().starts_with(&prefix.to_lowercase()))
            }
            Self::SuffixIgnoringCase(suffix) => {
                text.is_some_and(|text| text.to_lowercase().ends_with(&suffix.to_lowercase()))
            }
            Self::IgnoringCase(wanted) => text.is_some_and(|text| text.to_lowercase() == wanted.to_lowercase()),
            Self::But(tests) => !value.is_object() && !tests.iter().any(|test| test.holds_of(value)),
            Self::Range(low, high) => value.as_f64().is_some_and(|number| {
                low.is_none_or(|(low, inclusive)| number > low || (inclusive && number == low))
                    && high.is_none_or(|(high, inclusive)| number < high || (inclusive && number == high))
            }),
            Self::Exists(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(pattern: Value, record: Value) -> bool {
        Pattern::parse(&pattern.to_string()).unwrap().matches(&record)
    }

    #[test]
    fn patterns_of_awss_guide() {
        let record = json!({
            "city": "Seattle", "temperature": 65, "humidity": 0, "note": null, "empty": "", "flag": true,
            "tags": ["a", "b"], "deep": { "er": { "x": "CamelCase.png" } }, "list": [{ "n": 1 }, { "n": 2 }],
        });
        for pattern in [
            json!({ "city": ["Seattle"] }),
            json!({ "city": ["Paris", "Seattle"], "temperature": [65.0] }),
            json!({ "city": [{ "prefix": "Sea" }] }),
            json!({ "city": [{ "suffix": "tle" }] }),
            json!({ "city": [{ "prefix": { "equals-ignore-case": "sEA" } }] }),
            json!({ "city": [{ "equals-ignore-case": "sEATTLE" }] }),
            json!({ "city": [{ "anything-but": ["Paris", "Rome"] }] }),
            json!({ "city": [{ "anything-but": { "prefix": "Par" } }] }),
            json!({ "temperature": [{ "numeric": [">", 60, "<=", 65] }] }),
            json!({ "humidity": [{ "numeric": ["=", 0] }] }),
            json!({ "note": [null], "empty": [""], "flag": [true] }),
            json!({ "absent": [{ "exists": false }], "city": [{ "exists": true }] }),
            json!({ "tags": ["b"] }),
            json!({ "deep": { "er": { "x": [{ "suffix": ".png" }] } } }),
            json!({ "list": { "n": [2] } }),
            json!({ "$or": [{ "city": ["Paris"] }, { "temperature": [{ "numeric": ["<", 70] }] }] }),
            json!({}),
        ] {
            assert!(matches(pattern.clone(), record.clone()), "{pattern}");
        }
        for pattern in [
            json!({ "city": ["seattle"] }),
            json!({ "city": ["Seattle"], "temperature": [66] }),
            json!({ "temperature": ["65"] }),
            json!({ "temperature": [{ "numeric": [">", 65] }] }),
            json!({ "city": [{ "anything-but": "Seattle" }] }),
            json!({ "absent": [{ "anything-but": "x" }] }),
            json!({ "absent": [null] }),
            json!({ "deep": [{ "exists": true }] }),
            json!({ "city": [{ "exists": false }] }),
            json!({ "tags": [{ "anything-but": "a" }] }),
            json!({ "$or": [{ "city": ["Paris"] }, { "temperature": [1] }] }),
        ] {
            assert!(!matches(pattern.clone(), record.clone()), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let deep = format!("{}[1]{}", "{\"a\":".repeat(100), "}".repeat(100));
        for wrong in [
            "",
            "[]",
            "1",
            r#"{"a":1}"#,
            r#"{"a":"x"}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":[{"prefix":1}]}"#,
            r#"{"a":[{"novelty":"x"}]}"#,
            r#"{"a":[{"numeric":[">"]}]}"#,
            r#"{"a":[{"numeric":[]}]}"#,
            r#"{"a":[{"numeric":[">",1,">",2]}]}"#,
            r#"{"a":[{"anything-but":[]}]}"#,
            r#"{"a":[{"anything-but":true}]}"#,
            r#"{"a":[{"exists":"yes"}]}"#,
            r#"{"a":[{"prefix":"x","suffix":"y"}]}"#,
            r#"{"$or":[{"a":[1]}]}"#,
            deep.as_str(),
        ] {
            assert_eq!(Pattern::parse(wrong), Err(InvalidPattern), "{wrong}");
        }
    }
}
