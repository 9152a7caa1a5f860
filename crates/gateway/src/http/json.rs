//! Requests' JSON, read into memory: there a value takes some thirty times the bytes that it may be written in, so that
//! how many there are has a limit beside the length of the whole. Texts are values, however long.

use serde_json::{Map, Value};
use thiserror::Error;

/// The most values of a request: more than ten thousand log events have, or anything else that a client means.
pub const VALUES_MAX: usize = 100_000;

/// Why a text is no JSON object that is read.
#[derive(Debug, Error)]
pub enum ObjectError {
    #[error("a request has at most {VALUES_MAX} values")]
    TooMany,
    #[error("a request's body is a JSON object")]
    NoObject,
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

/// Reads an object. Nothing at all is an empty one.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, ObjectError> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    if !is_moderate(text) {
        return Err(ObjectError::TooMany);
    }
    match serde_json::from_slice(text)? {
        Value::Object(object) => Ok(object),
        _ => Err(ObjectError::NoObject),
    }
}

/// Whether a JSON text has no more values than are read. Also of what is no JSON.
pub fn is_moderate(text: &[u8]) -> bool {
    let (mut values, mut rest) = (1, text);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b',' | b'[' | b'{')) {
        let (found, behind) = (rest[at], &rest[at + 1..]);
        if found == b'"' {
            rest = behind_text(behind);
            continue;
        }
        values += 1;
        if values > VALUES_MAX {
            return false;
        }
        rest = behind;
    }
    true
}

/// What stands behind the end of a text that has begun.
fn behind_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        assert_eq!(object(b"").unwrap().len(), 0);
        assert_eq!(object(br#"{"a": [1, {"b": 2}]}"#).unwrap().len(), 1);
        assert!(matches!(object(b"[1]"), Err(ObjectError::NoObject)));
        assert!(matches!(object(b"{"), Err(ObjectError::Malformed(_))));
    }

    #[test]
    fn values_are_counted_and_what_texts_hold_is_not() {
        let list = |item: &str, times: usize| format!("{{\"a\":[{}0]}}", item.repeat(times)).into_bytes();
        assert!(is_moderate(&list("0,", VALUES_MAX - 3)));
        for item in ["0,", "[],", "{},", "\"\",", "\"\\\\\","] {
            assert!(!is_moderate(&list(item, VALUES_MAX)), "{item}");
            assert!(matches!(object(&list(item, VALUES_MAX)), Err(ObjectError::TooMany)), "{item}");
        }
        let text = format!("{{\"a\":\"{}\"}}", ",[{\\\"\\\\".repeat(VALUES_MAX));
        assert!(is_moderate(text.as_bytes()) && object(text.as_bytes()).is_ok());
        assert!(is_moderate(b"\"\\") && is_moderate(b"\""));
    }
}
