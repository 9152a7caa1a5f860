//! Tumbling windows: stretches of time of one length, one behind the other. What a function answers as its state goes with
//! the next batch of the same window; a last invocation without records ends it.

use serde_json::{Map, Value, json};

/// Bytes of a state; one that has grown larger ends its window.
pub const STATE_MAX: usize = 1 << 20;
/// Milliseconds by which the last records of a window may be late.
const LATE_MS: u64 = 1_000;

/// A window that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Milliseconds since 1970.
    pub start_ms: u64,
    pub length_ms: u64,
    /// An object, as the function answered it last.
    pub state: Value,
}

impl Window {
    /// The window of a moment.
    pub fn of(moment_ms: u64, length_ms: u64) -> Self {
        Self { start_ms: moment_ms / length_ms * length_ms, length_ms, state: json!({}) }
    }

    pub fn has(&self, moment_ms: u64) -> bool {
        (self.start_ms..self.start_ms + self.length_ms).contains(&moment_ms)
    }

    /// Whether nothing that belongs to it will come any more.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms > self.start_ms + self.length_ms + LATE_MS
    }

    /// As a position keeps it, and as it is read from there.
    pub fn kept(&self) -> Value {
        json!({ "start": self.start_ms, "state": self.state })
    }

    pub fn read(kept: &Value, length_ms: u64) -> Option<Self> {
        Some(Self { start_ms: kept["start"].as_u64()?, length_ms, state: kept["state"].clone() })
    }

    /// What an event says of it.
    pub fn members(&self, ending: Option<Ending>) -> Map<String, Value> {
        let moment = |ms: u64| api::time::rfc3339(ms).replace(".000Z", "Z");
        let members = json!({
            "window": { "start": moment(self.start_ms), "end": moment(self.start_ms + self.length_ms) },
            "state": self.state,
            "isFinalInvokeForWindow": ending.is_some(),
            "isWindowTerminatedEarly": ending == Some(Ending::Early),
        });
        if let Value::Object(members) = members { members } else { Map::new() }
    }

    /// Takes the state out of an answer.
    pub fn learn(&mut self, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        self.state = answer.get("state").filter(|state| state.is_object()).cloned().unwrap_or_else(|| json!({}));
    }

    /// Whether its state can go on.
    pub fn fits(&self) -> bool {
        self.state.to_string().len() <= STATE_MAX
    }
}

/// Why a window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Time,
    /// Its state has grown too large.
    Early,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_each_other() {
        let window = Window::of(125_000, 60_000);
        assert_eq!((window.start_ms, window.has(119_999), window.has(120_000)), (120_000, false, true));
        assert!(window.has(179_999) && !window.has(180_000) && !window.is_over(181_000) && window.is_over(181_001));
        assert_eq!(Window::read(&window.kept(), 60_000), Some(window.clone()));
        let members = Value::Object(window.members(Some(Ending::Time)));
        let start_and_end = json!({ "start": "1970-01-01T00:02:00Z", "end": "1970-01-01T00:03:00Z" });
        assert_eq!((&members["window"], &members["isFinalInvokeForWindow"]), (&start_and_end, &json!(true)));
    }

    #[test]
    fn states_are_objects_of_a_mebibyte() {
        let mut window = Window::of(0, 1_000);
        window.learn(br#"{"state":{"sum":5}}"#);
        assert_eq!((&window.state, window.fits()), (&json!({ "sum": 5 }), true));
        for nothing in ["null", "", r#"{"state":3}"#] {
            window.learn(nothing.as_bytes());
            assert_eq!(window.state, json!({}));
        }
        window.learn(format!(r#"{{"state":{{"x":"{}"}}}}"#, "x".repeat(STATE_MAX)).as_bytes());
        assert!(!window.fits());
    }
}
