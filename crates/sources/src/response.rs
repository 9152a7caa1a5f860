//! What a function says of a batch where it reports failures one by one (`ReportBatchItemFailures`).

use serde_json::Value;

/// Which records of a batch have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failures {
    None,
    /// By their identifiers, in the order in which the function named them.
    Some(Vec<String>),
    /// The answer makes no sense: then all of them have.
    All,
}

/// Reads an answer. `known` says whether a batch has a record of this identifier.
pub fn failures(answer: &[u8], known: impl Fn(&str) -> bool) -> Failures {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return Failures::All };
    let list = match &answer {
        Value::Null => return Failures::None,
        Value::Object(object) => match object.get("batchItemFailures") {
            None | Some(Value::Null) => return Failures::None,
            Some(Value::Array(list)) => list,
            Some(_) => return Failures::All,
        },
        _ => return Failures::All,
    };
    let identifier = |item: &Value| item.get("itemIdentifier")?.as_str().filter(|id| known(id)).map(str::to_owned);
    match list.iter().map(identifier).collect::<Option<Vec<_>>>() {
        Some(failed) if failed.is_empty() => Failures::None,
        Some(failed) => Failures::Some(failed),
        None => Failures::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_lambda_reads_them() {
        let read = |answer: &str| failures(answer.as_bytes(), |id| id == "a" || id == "b");
        for well in ["null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#] {
            assert_eq!(read(well), Failures::None, "{well}");
        }
        let some = r#"{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"a"}]}"#;
        assert_eq!(read(some), Failures::Some(vec!["b".into(), "a".into()]));
        for nonsense in [
            "",
            "1",
            r#""text""#,
            r#"{"batchItemFailures":"a"}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"item":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"c"}]}"#,
        ] {
            assert_eq!(read(nonsense), Failures::All, "{nonsense}");
        }
    }
}
