//! Values against shapes, in AWS's words.

use super::super::bounds::Bounds;
use super::super::constraint::{complaint, counted, plain};
use super::super::fault::Fault;
use super::super::schema::RUNTIMES;
use super::RUNTIME;
use super::shape::{Kind, Member, Named, Shape};
use serde_json::Value;
use std::borrow::Cow;

/// How deep a request may be nested: deeper than any shape is.
const DEPTH_MAX: usize = 16;
const KEYS: &str = "Map keys must satisfy constraint";

/// Whether a value, and all in it, is of the kind that its shape says.
pub fn types(shape: Option<Named>, value: &Value) -> Result<(), Fault> {
    typed(shape, value, 0)
}

fn typed(shape: Option<Named>, value: &Value, depth: usize) -> Result<(), Fault> {
    let Some((_, shape)) = shape.filter(|_| depth < DEPTH_MAX && !value.is_null()) else { return Ok(()) };
    let (fits, wanted) = match shape.kind {
        Kind::String | Kind::Blob => (value.is_string(), "a String"),
        Kind::Integer => (value.is_i64() || value.is_u64(), "an Integer"),
        Kind::Long => (value.is_i64() || value.is_u64(), "a Long"),
        Kind::Double | Kind::Float => (value.is_number(), "a Double"),
        Kind::Timestamp => (value.is_number() || value.is_string(), "a Timestamp"),
        Kind::Boolean => (value.is_boolean(), "a Boolean"),
        Kind::List => (value.is_array(), "a List"),
        Kind::Map | Kind::Structure => (value.is_object(), "a Map"),
    };
    if !fits {
        return Err(mismatch(value, wanted));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| typed(shape.item(), item, depth + 1)),
        Value::Object(map) if shape.kind == Kind::Map => {
            map.values().try_for_each(|value| typed(shape.value(), value, depth + 1))
        }
        Value::Object(map) => shape.members.iter().try_for_each(|(name, member)| match map.get(name) {
            Some(value) => typed(member.shape(), value, depth + 1),
            None => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn mismatch(value: &Value, wanted: &str) -> Fault {
    let found = match value {
        Value::Array(_) => return Fault::serialization("Start of list found where not expected"),
        Value::Object(_) => return Fault::serialization("Start of structure or map found where not expected."),
        Value::String(_) => "STRING_VALUE",
        Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Null => "NULL_VALUE",
    };
    Fault::serialization(format!("{found} can not be converted to {wanted}"))
}

/// The rules that a request breaks.
pub struct Complaints<'a> {
    bounds: &'a Bounds,
    broken: Vec<String>,
}

impl<'a> Complaints<'a> {
    pub fn new(bounds: &'a Bounds) -> Self {
        Self { bounds, broken: Vec::new() }
    }

    /// All of them in one message.
    pub fn told(self) -> Result<(), Fault> {
        if self.broken.is_empty() { Ok(()) } else { Err(Fault::validation(counted(&self.broken))) }
    }

    /// Looks at a member of the path or the query, which comes as text, once or more often.
    pub fn text(&mut self, name: &str, member: &Member, given: Vec<Cow<'_, str>>, required: bool) -> Result<(), Fault> {
        let Some((_, shape)) = member.shape() else { return Ok(()) };
        let value = match shape.kind {
            Kind::List => (!given.is_empty()).then(|| given.iter().map(|text| Value::from(&**text)).collect()),
            Kind::Integer | Kind::Long => match given.first().map(|text| text.parse::<i64>()) {
                Some(Ok(number)) => Some(number.into()),
                Some(Err(_)) => {
                    let wanted = if shape.kind == Kind::Long { "a Long" } else { "an Integer" };
                    return Err(mismatch(&Value::from(""), wanted));
                }
                None => None,
            },
            Kind::String => given.first().map(|text| Value::from(&**text)),
            // Flags and times of the query are read by whoever asks for them.
            _ => return Ok(()),
        };
        self.member(name, member, value.as_ref(), required);
        Ok(())
    }

    /// Looks at a member of a structure.
    pub fn member(&mut self, path: &str, member: &Member, value: Option<&Value>, required: bool) {
        match value.filter(|value| !value.is_null()) {
            Some(value) => {
                if let Some(shape) = member.shape() {
                    self.value(path, shape, value, 0);
                }
            }
            None if required => self.broken.push(complaint(path, Some("null"), "Member must not be null")),
            None => {}
        }
    }

    fn value(&mut self, path: &str, (name, shape): Named, value: &Value, depth: usize) {
        if depth >= DEPTH_MAX {
            return;
        }
        // Only what is complained of is written down: a value may be a package.
        let shown = || (!shape.sensitive).then(|| format!("'{}'", told(shape, value)));
        let rules = broken_rules((name, shape), value, self.bounds);
        self.broken.extend(rules.iter().map(|rule| complaint(path, shown().as_deref(), rule)));
        match value {
            Value::Array(items) => self.items(path, shape, (value, items), depth),
            Value::Object(map) if shape.kind == Kind::Map => {
                let keys: Vec<Value> = map.keys().map(|key| Value::from(key.as_str())).collect();
                self.each(path, &shown, shape.key(), keys.iter(), KEYS);
                self.each(path, &shown, shape.value(), map.values(), "Map value must satisfy constraint");
            }
            Value::Object(map) => {
                for (name, member) in &shape.members {
                    let path = format!("{path}.{name}");
                    match map.get(name).filter(|value| !value.is_null()) {
                        Some(value) => {
                            let Some(shape) = member.shape() else { continue };
                            self.value(&path, shape, value, depth + 1);
                        }
                        None if shape.required.contains(name) => {
                            self.broken.push(complaint(&path, Some("null"), "Member must not be null"));
                        }
                        None => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Simple items are judged together, structures each by itself.
    fn items(&mut self, path: &str, shape: &Shape, (list, items): (&Value, &[Value]), depth: usize) {
        let Some((name, of)) = shape.item() else { return };
        if matches!(of.kind, Kind::Structure | Kind::List | Kind::Map) {
            for (at, item) in items.iter().enumerate() {
                self.value(&format!("{path}.{}.member", at + 1), (name, of), item, depth + 1);
            }
            return;
        }
        let shown = || (!shape.sensitive).then(|| format!("'{}'", plain(list)));
        let unknown = |item: &&Value| !of.words.iter().any(|word| *item == word);
        match name {
            RUNTIME if items.iter().any(|item| unknown(&item)) => {
                self.broken.push(complaint(path, shown().as_deref(), &runtimes()));
            }
            RUNTIME => {}
            _ => self.each(path, &shown, Some((name, of)), items.iter(), "Member must satisfy constraint"),
        }
    }

    /// One complaint for all parts, which names every rule for one of them.
    fn each<'v>(
        &mut self,
        path: &str,
        shown: &dyn Fn() -> Option<String>,
        shape: Option<Named>,
        mut parts: impl Iterator<Item = &'v Value>,
        what: &str,
    ) {
        let Some((name, shape)) = shape else { return };
        let breaks = |part: &Value| part.is_null() || !broken_rules((name, shape), part, self.bounds).is_empty();
        if parts.any(breaks) {
            let mut rules = all_rules((name, shape), self.bounds);
            // Of keys AWS does not say that they are there.
            rules.extend((what != KEYS).then(|| "Member must not be null".to_owned()));
            self.broken.push(complaint(path, shown().as_deref(), &format!("{what}: [{}]", rules.join(", "))));
        }
    }
}

/// A value as AWS shows it: numbers that may have a fraction have one.
fn told(shape: &Shape, value: &Value) -> String {
    match (value, shape.value()) {
        (Value::Object(map), Some((_, of))) if matches!(of.kind, Kind::Double | Kind::Float) => {
            let pairs = map.iter().map(|(key, value)| format!("{key}={:?}", value.as_f64().unwrap_or_default()));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        _ => plain(value),
    }
}

/// What a simple value, or a list by its length, should be and is not.
fn broken_rules((name, shape): Named, value: &Value, bounds: &Bounds) -> Vec<String> {
    let size = match value {
        _ if shape.kind == Kind::Blob => return Vec::new(),
        Value::String(text) => text.chars().count() as f64,
        Value::Array(items) => items.len() as f64,
        Value::Number(number) => number.as_f64().unwrap_or(f64::MAX),
        _ => return Vec::new(),
    };
    let mut broken = Vec::new();
    broken.extend(shape.max(name, bounds).filter(|max| size > *max).map(|max| at_most(shape, max)));
    broken.extend(shape.min.filter(|min| size < *min).map(|min| at_least(shape, min)));
    if let Value::String(text) = value {
        if let Some(pattern) = shape.pattern.as_ref().filter(|_| !shape.matches(text)) {
            broken.push(like(pattern));
        }
        if !shape.words.is_empty() && !shape.words.contains(text) {
            broken.push(one_of(&shape.words));
        }
    }
    broken
}

/// Every rule of a simple shape, as AWS lists them.
fn all_rules((name, shape): Named, bounds: &Bounds) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(shape.max(name, bounds).map(|max| at_most(shape, max)));
    rules.extend(shape.min.map(|min| at_least(shape, min)));
    rules.extend(shape.pattern.as_deref().map(like));
    if !shape.words.is_empty() {
        rules.push(one_of(&shape.words));
    }
    rules
}

fn at_most(shape: &Shape, max: f64) -> String {
    format!("Member must have {} less than or equal to {}", measure(shape), number(shape, max))
}

fn at_least(shape: &Shape, min: f64) -> String {
    format!("Member must have {} greater than or equal to {}", measure(shape), number(shape, min))
}

fn measure(shape: &Shape) -> &'static str {
    if matches!(shape.kind, Kind::String | Kind::List | Kind::Map) { "length" } else { "value" }
}

fn number(shape: &Shape, number: f64) -> String {
    if matches!(shape.kind, Kind::Double | Kind::Float) { format!("{number:?}") } else { format!("{number:.0}") }
}

fn like(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

fn one_of(words: &[String]) -> String {
    format!("Member must satisfy enum value set: [{}]", words.join(", "))
}

/// AWS names those that it still takes, whatever its model lists.
fn runtimes() -> String {
    format!("Member must satisfy enum value set: [{RUNTIMES}]")
}
