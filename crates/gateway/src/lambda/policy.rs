//! Resource policies as documents: statements that are added and taken out, revisions that are compared. They belong to
//! functions (`permission`) and to layers (`layer_policy`); who asks them is for `auth` and `layer_policy` to know.

use super::fault::Fault;
use crate::route::Exchange;
use serde_json::{Map, Value, json};

/// The statements of a policy, if there is one.
pub fn statements(policy: Option<&Map<String, Value>>) -> Vec<Value> {
    let found = policy.and_then(|policy| policy.get("Statement")).and_then(Value::as_array);
    found.cloned().unwrap_or_default()
}

/// The policy with one statement more; it may have so many bytes.
pub fn with(old: Option<&Map<String, Value>>, added: Value, limit: usize) -> Result<Map<String, Value>, Fault> {
    let mut statements = statements(old);
    if statements.iter().any(|known| known["Sid"] == added["Sid"]) {
        let sid = added["Sid"].as_str().unwrap_or_default();
        return Err(Fault::conflict(format!(
            "The statement id ({sid}) provided already exists. Please provide a new statement id, or remove the existing \
             statement."
        )));
    }
    statements.push(added);
    let policy = of(statements);
    let size = json!(policy).to_string().len();
    if size > limit {
        let message = format!("The final policy size ({size}) is bigger than the limit ({limit}).");
        return Err(Fault::policy_too_long(message));
    }
    Ok(policy)
}

/// The policy without this statement; nothing where it was the last.
pub fn without(old: &Map<String, Value>, sid: &str) -> Result<Option<Map<String, Value>>, Fault> {
    let mut left = statements(Some(old));
    let before = left.len();
    left.retain(|known| known["Sid"] != *sid);
    if left.len() == before {
        return Err(Fault::not_found(format!("Statement {sid} is not found in resource policy.")));
    }
    Ok((!left.is_empty()).then(|| of(left)))
}

fn of(statements: Vec<Value>) -> Map<String, Value> {
    Map::from_iter([
        ("Version".to_owned(), "2012-10-17".into()),
        ("Id".to_owned(), "default".into()),
        ("Statement".to_owned(), statements.into()),
    ])
}

/// The revision that the query expects a policy to have.
pub fn expected(exchange: &Exchange) -> Option<String> {
    exchange.query("RevisionId").filter(|text| !text.is_empty()).map(|text| text.into_owned())
}

/// Refuses where another revision is expected than there is; `operation` tells which that is.
pub fn check_revision(found: Option<&str>, expected: Option<&str>, operation: &str) -> Result<(), Fault> {
    if expected.is_none_or(|expected| found == Some(expected)) {
        return Ok(());
    }
    Err(Fault::precondition_failed(format!(
        "The Revision Id provided does not match the latest Revision Id. Call the {operation} API to retrieve the latest \
         Revision Id"
    )))
}
