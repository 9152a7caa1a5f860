//! What a resource's policy says of a request: AWS's language of policies, as far as functions' policies use it. Pure.
//!
//! A denial goes before every permission. A condition on something that a request does not have holds for nobody; one that
//! nobody here can read lets nobody in and keeps everybody out.

use super::key::matches;
use serde_json::{Map, Value};

/// Who asks: the account of a key, and the key as a user of it.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    pub account: &'a str,
    pub user: &'a str,
}

/// A request, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    /// Nobody, where callers do not sign.
    pub principal: Option<Principal<'a>>,
    /// What conditions can be on, and its value.
    pub facts: &'a [(&'a str, &'a str)],
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Nothing,
    /// The account may, and says by its keys who in it.
    AccountMay,
    /// This caller may.
    May,
    MayNot,
}

/// Asks a policy.
pub fn ask(policy: &Map<String, Value>, question: Question<'_>) -> Said {
    let mut said = Said::Nothing;
    for statement in each(policy.get("Statement")) {
        let denies = statement.get("Effect").is_none_or(|effect| effect != "Allow");
        let named = named(statement.get("Principal"), question.principal);
        if named == Said::Nothing || !is_meant(statement, question, denies) {
            continue;
        }
        if denies {
            return Said::MayNot;
        }
        if said != Said::May {
            said = named;
        }
    }
    said
}

/// One value, or each of a list.
fn each(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice);
    let one = value.filter(|value| !value.is_array());
    list.unwrap_or_default().iter().chain(one)
}

/// Whether a statement's principal is the one that asks, and how closely.
fn named(principal: Option<&Value>, who: Option<Principal<'_>>) -> Said {
    let names = principal.map(|principal| principal.get("AWS").unwrap_or(principal));
    let mut found = Said::Nothing;
    for name in each(names).filter_map(Value::as_str) {
        let account = name.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root")).unwrap_or(name);
        match who {
            _ if name == "*" => return Said::May,
            Some(who) if name == who.user => return Said::May,
            Some(who) if account == who.account => found = Said::AccountMay,
            _ => {}
        }
    }
    found
}

fn is_meant(statement: &Value, question: Question<'_>, denies: bool) -> bool {
    let covers = |member: &str, asked: &str| {
        each(statement.get(member)).filter_map(Value::as_str).any(|pattern| matches(pattern, asked))
    };
    let conditions = statement.get("Condition").and_then(Value::as_object);
    let conditions = conditions.into_iter().flatten();
    let mut hold = conditions.map(|(operator, on)| holds(operator, on, question.facts));
    covers("Action", question.action) && covers("Resource", question.resource) && hold.all(|one| one.unwrap_or(denies))
}

/// Whether all conditions of an operator hold; nothing where it is not known.
fn holds(operator: &str, on: &Value, facts: &[(&str, &str)]) -> Option<bool> {
    let compare: fn(&str, &str) -> bool = match operator {
        "StringEquals" => |wanted, found| wanted == found,
        "StringEqualsIgnoreCase" | "Bool" => |wanted, found| wanted.eq_ignore_ascii_case(found),
        "StringLike" | "ArnLike" | "ArnEquals" => matches,
        _ => return None,
    };
    let all = on.as_object()?.iter().all(|(key, wanted)| {
        let found = facts.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, found)| *found);
        found.is_some_and(|found| each(Some(wanted)).any(|wanted| compare(&text(wanted), found)))
    });
    Some(all)
}

/// Flags may be written without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

    fn said(statements: Value, who: Option<&str>) -> Said {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        let user = format!("arn:aws:iam::{}:user/K", who.unwrap_or_default());
        let principal = who.map(|account| Principal { account, user: &user });
        let facts = [("lambda:FunctionUrlAuthType", "NONE"), ("lambda:InvokedViaFunctionUrl", "true")];
        let question = Question { action: "lambda:InvokeFunction", resource: ARN, principal, facts: &facts };
        ask(policy.as_object().unwrap(), question)
    }

    fn allow(more: Value) -> Value {
        let mut statement =
            json!({ "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": ARN });
        statement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        statement
    }

    #[test]
    fn principals() {
        for (principal, expected) in [
            (json!("*"), Said::May),
            (json!({ "AWS": "*" }), Said::May),
            (json!({ "AWS": "111111111111" }), Said::AccountMay),
            (json!({ "AWS": "arn:aws:iam::111111111111:root" }), Said::AccountMay),
            (json!({ "AWS": ["x", "arn:aws:iam::111111111111:user/K"] }), Said::May),
            (json!({ "AWS": "arn:aws:iam::222222222222:root" }), Said::Nothing),
            (json!({ "Service": "s3.amazonaws.com" }), Said::Nothing),
            (json!(null), Said::Nothing),
        ] {
            assert_eq!(
                said(json!([allow(json!({ "Principal": principal }))]), Some("111111111111")),
                expected,
                "{principal}"
            );
        }
        assert_eq!(said(json!([allow(json!({}))]), None), Said::May);
        assert_eq!(said(json!([allow(json!({ "Principal": { "AWS": "" } }))]), None), Said::Nothing);
    }

    #[test]
    fn actions_resources_and_conditions() {
        for (more, expected) in [
            (json!({ "Action": "lambda:*" }), Said::May),
            (json!({ "Action": ["s3:Get", "lambda:Invoke*"] }), Said::May),
            (json!({ "Action": "lambda:GetFunction" }), Said::Nothing),
            (json!({ "Resource": "*" }), Said::May),
            (json!({ "Resource": "arn:aws:lambda:us-east-1:000000000000:function:g" }), Said::Nothing),
            (json!({ "Condition": { "StringEquals": { "lambda:FunctionUrlAuthType": "NONE" } } }), Said::May),
            (json!({ "Condition": { "StringEquals": { "lambda:functionurlauthtype": ["AWS_IAM"] } } }), Said::Nothing),
            (json!({ "Condition": { "Bool": { "lambda:InvokedViaFunctionUrl": true } } }), Said::May),
            (json!({ "Condition": { "StringEquals": { "AWS:SourceAccount": "1" } } }), Said::Nothing),
            (json!({ "Condition": { "DateLessThan": { "aws:CurrentTime": "2030" } } }), Said::Nothing),
            (json!({ "Effect": "Allowed" }), Said::MayNot),
        ] {
            assert_eq!(said(json!([allow(more.clone())]), Some("111111111111")), expected, "{more}");
        }
    }

    #[test]
    fn a_denial_goes_first_and_what_cannot_be_read_permits_nothing() {
        let deny = json!({ "Effect": "Deny" });
        assert_eq!(said(json!([allow(json!({})), allow(deny)]), Some("111111111111")), Said::MayNot);
        let unread = json!({ "Effect": "Deny", "Condition": { "DateLessThan": { "aws:CurrentTime": "2030" } } });
        assert_eq!(said(json!([allow(json!({})), allow(unread)]), Some("111111111111")), Said::MayNot);
        let other = json!({ "Effect": "Deny", "Principal": { "AWS": "222222222222" } });
        assert_eq!(said(json!([allow(json!({})), allow(other)]), Some("111111111111")), Said::May);
        for nonsense in [json!(null), json!("x"), json!([1, "x", {}])] {
            assert_eq!(said(nonsense, Some("111111111111")), Said::Nothing);
        }
        assert_eq!(said(allow(json!({})), None), Said::May);
    }
}
