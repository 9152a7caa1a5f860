//! What is asked of which function, and what it has to answer.

use super::lot::Lot;
use crate::baseline::Language;
use crate::functions::Function;
use serde_json::{Value, json};

const PYTHON: Function = Function {
    name: "soak-python",
    language: Language::Python,
    files: &[("app.py", include_str!("../../functions/soak-python/app.py"))],
};
const NODE: Function = Function {
    name: "soak-node",
    language: Language::Node,
    files: &[("index.js", include_str!("../../functions/soak-node/index.js"))],
};

/// One function of the soak.
pub struct Worked {
    pub name: &'static str,
    pub source: Function,
    pub options: &'static [&'static str],
    event: fn(&mut Lot) -> (Value, Expected),
}

/// How an invocation must end, if nobody kills what serves it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Answer(Value),
    /// The function fails, with this type of error.
    Failure(&'static str),
}

macro_rules! worked {
    ($name:literal, $source:ident, $handler:literal, [$($option:literal),*], $event:expr) => {
        Worked { name: $name, source: $source, options: &["--handler", $handler $(, $option)*], event: $event }
    };
}

/// All of them.
pub const FUNCTIONS: [Worked; 10] = [
    worked!("python-hello", PYTHON, "app.hello", [], |_| (json!({}), Expected::Answer("hello".into()))),
    worked!("python-echo", PYTHON, "app.echo", [], |lot| {
        let length = lot.below(20_000);
        same(json!({ "text": lot.letters(length) }))
    }),
    worked!("python-fail", PYTHON, "app.fail", [], |lot| fail(lot, "LookupError")),
    worked!("python-speak", PYTHON, "app.speak", [], |lot| {
        let lines = lot.below(50);
        (json!({ "lines": lines }), Expected::Answer(lines.into()))
    }),
    worked!("python-leave", PYTHON, "app.leave", ["--timeout", "1"], |lot| match lot.below(400) {
        0 => (json!({ "how": "stay" }), Expected::Failure("Sandbox.Timedout")),
        1..20 => (json!({ "how": "exit" }), Expected::Failure("Runtime.ExitError")),
        _ => (json!({ "how": "not" }), Expected::Answer("here".into())),
    }),
    worked!("python-fill", PYTHON, "app.fill", [], |lot| {
        let mib = lot.below(24);
        (json!({ "mib": mib }), Expected::Answer((mib << 20).into()))
    }),
    worked!("python-first", PYTHON, "app.first", ["--isolation", "request"], |_| {
        (json!({}), Expected::Answer(1.into()))
    }),
    worked!("node-hello", NODE, "index.hello", [], |_| (json!({}), Expected::Answer("hello".into()))),
    worked!("node-echo", NODE, "index.echo", [], |lot| {
        let length = lot.below(2_000);
        same(json!({ "ms": lot.below(3), "text": lot.letters(length) }))
    }),
    worked!("node-fail", NODE, "index.fail", [], |lot| fail(lot, "RangeError")),
];

fn same(event: Value) -> (Value, Expected) {
    (event.clone(), Expected::Answer(event))
}

fn fail(lot: &mut Lot, kind: &'static str) -> (Value, Expected) {
    let fail = lot.one_in(4);
    (json!({ "fail": fail }), if fail { Expected::Failure(kind) } else { Expected::Answer("well".into()) })
}

impl Worked {
    /// An event for it, and how that must end.
    pub fn event(&self, lot: &mut Lot) -> (Vec<u8>, Expected) {
        let (event, expected) = (self.event)(lot);
        (event.to_string().into_bytes(), expected)
    }
}

/// Whether this is how it had to end.
pub fn is_as_expected(expected: &Expected, failed: bool, body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
    match expected {
        Expected::Answer(answer) => !failed && body == *answer,
        Expected::Failure(kind) => failed && body["errorType"] == *kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_json() {
        let answer = Expected::Answer(json!({ "a": 1, "b": 2 }));
        assert!(is_as_expected(&answer, false, b"{\"b\": 2, \"a\": 1}"));
        assert!(!is_as_expected(&answer, true, b"{\"b\": 2, \"a\": 1}"));
        assert!(!is_as_expected(&answer, false, b"{}") && !is_as_expected(&answer, false, b""));
        let failure = Expected::Failure("LookupError");
        assert!(is_as_expected(&failure, true, b"{\"errorType\": \"LookupError\", \"errorMessage\": \"x\"}"));
        assert!(!is_as_expected(&failure, true, b"{\"errorType\": \"Runtime.ExitError\"}"));
        assert!(!is_as_expected(&failure, false, b"{\"errorType\": \"LookupError\"}"));
    }

    #[test]
    fn names_and_events_are_drawn() {
        let mut lot = Lot::new(1);
        for function in &FUNCTIONS {
            let (event, _) = function.event(&mut lot);
            assert!(serde_json::from_slice::<Value>(&event).is_ok(), "{}", function.name);
        }
    }
}
