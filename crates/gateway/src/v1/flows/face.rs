//! Bodies of requests to sets, and sets to answers.

use crate::http::{Response, answer};
use crate::lambda::Fault;
use bytes::Bytes;
use flow::Program;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::de::IgnoredAny;
use sets::{Item, Limits, Set, Sets};

/// What a body is called as an item that is no sets.
const BODY: &str = "body";

/// Sets where the body is some, else one item of the flow's first input.
pub fn inputs(program: &Program, body: Bytes) -> Result<Sets<Bytes>, Fault> {
    if sets::json::is_sets(&body) {
        return sets::json::decode(&body, Limits::default()).map_err(|error| Fault::invalid_content(error.to_string()));
    }
    let first = program.main().inputs.first();
    Ok(first.map(|(name, _)| Set::new(name.clone(), vec![Item::new(BODY, 0, body)])).into_iter().collect())
}

/// The only item of all sets.
fn single(outputs: &Sets<Bytes>) -> Option<&Bytes> {
    let mut items = outputs.iter().flat_map(|set| &set.items);
    let first = items.next()?;
    items.next().is_none().then_some(&first.data)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// For our own API: a single item as it is, unless `whole` sets are wanted; else all sets.
pub fn raw(outputs: &Sets<Bytes>, whole: bool) -> Response {
    let Some(item) = single(outputs).filter(|_| !whole) else {
        return answer::json_text(StatusCode::OK, sets::json::encode(outputs));
    };
    let kind = if is_json(item) {
        "application/json"
    } else if std::str::from_utf8(item).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    };
    answer::with(StatusCode::OK, HeaderValue::from_static(kind), item.clone())
}

/// For Lambda's API, whose answers are JSON: a single item that is JSON, or its text, else all sets.
pub fn json(outputs: &Sets<Bytes>) -> Bytes {
    match single(outputs) {
        Some(item) if is_json(item) => item.clone(),
        Some(item) => match std::str::from_utf8(item) {
            Ok(text) => serde_json::Value::from(text).to_string().into(),
            Err(_) => sets::json::encode(outputs).into(),
        },
        None => sets::json::encode(outputs).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &'static [u8]) -> Sets<Bytes> {
        vec![Set::new("A", vec![Item::new("x", 0, Bytes::from_static(bytes))]), Set::new("B", vec![])]
    }

    #[test]
    fn answers_are_single_items_or_sets() {
        assert_eq!(json(&one(b"{\"a\": 1}")), "{\"a\": 1}");
        assert_eq!(json(&one(b"text")), "\"text\"");
        assert!(json(&one(b"\xff")).starts_with(b"{\"sets\":{\"A\":[{\"name\":\"x\",\"key\":0,\"data\":\"/w==\"}]"));
        assert_eq!(json(&Vec::new()), "{\"sets\":{}}");
        let kind = |bytes, whole| raw(&one(bytes), whole).headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind(b"[1]", false), "application/json");
        assert_eq!(kind(b"text", false), "text/plain; charset=utf-8");
        assert_eq!(kind(b"\xff", false), "application/octet-stream");
        assert_eq!(kind(b"text", true), "application/json");
    }
}
