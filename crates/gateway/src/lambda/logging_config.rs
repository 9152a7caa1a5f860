//! `LoggingConfig` of a function: the format of its log, and the levels that only JSON has.

use super::fault::Fault;
use runtime::registry::Entry;
use serde_json::{Map, Value, json};

const NAME: &str = "LoggingConfig";
const LEVELS: [&str; 2] = ["ApplicationLogLevel", "SystemLogLevel"];
const LEVEL: &str = "INFO";
const NO_LEVELS: &str = "LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change \
    the LogFormat to \"JSON\" and try again.";

/// Whether what a request says goes with what there is.
pub fn check(settings: &Map<String, Value>, request: &Map<String, Value>) -> Result<(), Fault> {
    let Some(Value::Object(given)) = request.get(NAME) else { return Ok(()) };
    let stored = settings.get(NAME).and_then(Value::as_object).filter(|_| !given.contains_key("LogFormat"));
    let asks = LEVELS.iter().any(|level| given.get(*level).is_some_and(|level| !level.is_null()));
    if asks && !is_json(stored.unwrap_or(given)) { Err(Fault::invalid_parameter(NO_LEVELS)) } else { Ok(()) }
}

/// Puts what a request says in the place of what there is. Text has no levels, and JSON has both.
pub fn merge(config: &mut Value, given: &Value) {
    let (Value::Object(config), Value::Object(given)) = (config, given) else { return };
    config
        .extend(given.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())));
    let is_json = is_json(config);
    for level in LEVELS {
        if is_json {
            config.entry(level).or_insert_with(|| LEVEL.into());
        } else {
            config.shift_remove(level);
        }
    }
}

fn is_json(config: &Map<String, Value>) -> bool {
    config.get("LogFormat").is_some_and(|format| format == "JSON")
}

/// The shape `LoggingConfig`.
pub fn shown(entry: &Entry) -> Value {
    let mut shape = json!({ "LogFormat": "Text", "LogGroup": entry.function.log_group });
    if let (Value::Object(shape), Some(Value::Object(given))) = (&mut shape, entry.content.settings.get(NAME)) {
        shape.extend(given.clone());
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("an object") };
        object
    }

    #[test]
    fn levels_come_and_go_with_the_format() {
        let mut config = json!({ "LogGroup": "own" });
        merge(&mut config, &json!({ "LogFormat": "JSON", "SystemLogLevel": "WARN" }));
        let json =
            json!({ "LogGroup": "own", "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN" });
        assert_eq!(config, json);
        merge(&mut config, &json!({ "LogFormat": "Text" }));
        assert_eq!(config, json!({ "LogGroup": "own", "LogFormat": "Text" }));
    }

    #[test]
    fn text_has_no_levels() {
        let check = |stored: Value, given: Value| check(&object(stored), &object(json!({ "LoggingConfig": given })));
        let stored = json!({ "LoggingConfig": { "LogFormat": "JSON" } });
        assert_eq!(check(stored.clone(), json!({ "ApplicationLogLevel": "DEBUG" })), Ok(()));
        assert!(check(stored, json!({ "ApplicationLogLevel": "DEBUG", "LogFormat": "Text" })).is_err());
        assert!(check(json!({}), json!({ "SystemLogLevel": "WARN" })).is_err());
        assert_eq!(check(json!({}), json!({ "LogGroup": "own" })), Ok(()));
    }
}
