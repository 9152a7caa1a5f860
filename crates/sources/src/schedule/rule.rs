//! A rule, its targets, and the events that it sends to them.

use super::expression::Expression;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Whose rule, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    pub account: String,
    pub region: String,
    pub name: String,
}

impl RuleId {
    pub fn arn(&self) -> String {
        format!("arn:aws:events:{}:{}:rule/{}", self.region, self.account, self.name)
    }
}

/// Where a rule's events go: what a request said of it, of which this is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    #[serde(rename = "Id")]
    pub id: String,
    #[serde(rename = "Arn")]
    pub arn: String,
    /// JSON that is sent in place of the event.
    #[serde(rename = "Input", skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The part of the event that is sent: `$.detail`.
    #[serde(rename = "InputPath", skip_serializing_if = "Option::is_none")]
    pub input_path: Option<String>,
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A rule. Immutable; a change makes another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub id: RuleId,
    /// As it was given; [`Rule::expression`] is its meaning.
    pub schedule: String,
    pub expression: Expression,
    pub enabled: bool,
    pub description: Option<String>,
    pub role: Option<String>,
    pub tags: Map<String, Value>,
    pub targets: Vec<Target>,
    /// Rates count from here: milliseconds since 1970.
    pub begun_ms: u64,
    /// The moment for which it fired last, or was passed over.
    pub fired_ms: u64,
}

impl Rule {
    /// The next moment at which it is to fire.
    pub fn next(&self) -> Option<u64> {
        self.expression.next(self.begun_ms, self.fired_ms.max(self.begun_ms)).filter(|_| self.enabled)
    }

    /// The id of the event for a moment, the same whenever it is asked for.
    pub fn event_id(&self, at: u64, target: &str) -> String {
        let digest = api::sigv4::hash(format!("{}\0{at}\0{target}", self.id.arn()).as_bytes());
        let number = u128::from_str_radix(&digest[..32], 16).unwrap_or_default();
        uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid().to_string()
    }

    /// What a target gets for a moment.
    pub fn event(&self, at: u64, target: &Target) -> Bytes {
        if let Some(input) = &target.input {
            return input.clone().into();
        }
        let event = json!({
            "version": "0",
            "id": Uuid::parse_str(&self.event_id(at, "")).unwrap_or_default().to_string(),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self.id.account,
            "time": api::time::rfc3339(at / 1000 * 1000).replace(".000Z", "Z"),
            "region": self.id.region,
            "resources": [self.id.arn()],
            "detail": {},
        });
        let part = target.input_path.as_deref().map(|path| part(&event, path));
        part.unwrap_or(event).to_string().into()
    }
}

/// The part of an event that a path of names means; `null` where there is none.
fn part(event: &Value, path: &str) -> Value {
    let names = path.strip_prefix('$').unwrap_or(path).split('.').filter(|name| !name.is_empty());
    names.fold(event.clone(), |value, name| value.get(name).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        let id = RuleId { account: "000000000000".into(), region: "us-east-1".into(), name: "r".into() };
        let schedule = "rate(1 minute)".to_owned();
        Rule {
            id,
            expression: Expression::parse(&schedule).unwrap(),
            schedule,
            enabled: true,
            description: None,
            role: None,
            tags: Map::new(),
            targets: Vec::new(),
            begun_ms: 0,
            fired_ms: 0,
        }
    }

    #[test]
    fn events_have_eventbridges_form() {
        let target: Target = serde_json::from_value(json!({ "Id": "t", "Arn": "a", "RetryPolicy": {} })).unwrap();
        assert_eq!(serde_json::to_value(&target).unwrap(), json!({ "Id": "t", "Arn": "a", "RetryPolicy": {} }));
        let event: Value = serde_json::from_slice(&rule().event(1_738_324_800_000, &target)).unwrap();
        assert_eq!(
            (&event["time"], &event["detail-type"]),
            (&json!("2025-01-31T12:00:00Z"), &json!("Scheduled Event"))
        );
        let path = Target { input_path: Some("$.resources".into()), ..target.clone() };
        assert_eq!(&rule().event(0, &path)[..], br#"["arn:aws:events:us-east-1:000000000000:rule/r"]"#);
        let input = Target { input: Some("{\"a\":1}".into()), ..target };
        assert_eq!(&rule().event(0, &input)[..], b"{\"a\":1}");
    }

    #[test]
    fn an_event_has_one_id_for_each_moment_and_target() {
        let rule = rule();
        assert_eq!(rule.event_id(1, "t"), rule.event_id(1, "t"));
        assert!(rule.event_id(1, "t") != rule.event_id(2, "t") && rule.event_id(1, "t") != rule.event_id(1, "u"));
        assert!(Uuid::parse_str(&rule.event_id(1, "t")).is_ok());
        assert_eq!((rule.next(), Rule { enabled: false, ..rule }.next()), (Some(60_000), None));
    }
}
