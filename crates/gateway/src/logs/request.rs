//! A request to the logs: what it may contain, and whose logs it means.

use super::fault::Fault;
use crate::gateway::Gateway;
use crate::http::json;
use crate::lambda::constraint::{self, Member, Rule, Shape, member};
use crate::lambda::scope::{self, Scope};
use crate::route::Exchange;
use runtime::logs::LogGroup;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Bytes of a request: a mebibyte of events, with room for how JSON writes them.
const BODY_MAX: usize = 8 << 20;
const NAME: Rule = Rule::Length { min: 1, max: 512 };
const GROUP: Rule = Rule::Pattern("[\\.\\-_/#A-Za-z0-9]+", is_group_name);
/// Tabs and line breaks, which AWS's pattern lets pass, are what lines of a log are divided by.
const STREAM: Rule = Rule::Pattern("[^:*]*", |name| !name.contains(|c: char| c == ':' || c == '*' || c.is_control()));
const TIME: &[Rule] = &[Rule::AtLeast(0)];
/// Days for which a group may be told to keep its events.
pub const RETENTIONS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// Members of all operations: one name means one thing in each of them.
const MEMBERS: &[Member] = &[
    member("logGroupName", Shape::Text, &[NAME, GROUP]),
    member("logGroupIdentifier", Shape::Text, &[Rule::Length { min: 1, max: 2048 }]),
    member("logGroupNamePrefix", Shape::Text, &[NAME, GROUP]),
    member("logGroupNamePattern", Shape::Text, &[Rule::Length { min: 0, max: 512 }]),
    member("logStreamName", Shape::Text, &[NAME, STREAM]),
    member("logStreamNamePrefix", Shape::Text, &[NAME, STREAM]),
    member("logStreamNames", Shape::List, &[Rule::Items { min: 1, max: 100 }]),
    member("orderBy", Shape::Text, &[Rule::OneOf(&["LogStreamName", "LastEventTime"])]),
    member("descending", Shape::Flag, &[]),
    member("startFromHead", Shape::Flag, &[]),
    member("startTime", Shape::Integer, TIME),
    member("endTime", Shape::Integer, TIME),
    member("filterPattern", Shape::Text, &[Rule::Length { min: 0, max: 1024 }]),
    member("nextToken", Shape::Text, &[Rule::Length { min: 1, max: 4096 }]),
    member("limit", Shape::Integer, &[Rule::AtLeast(1)]),
    member("retentionInDays", Shape::Integer, &[]),
    member("logEvents", Shape::List, &[Rule::Items { min: 1, max: 10_000 }]),
];

fn is_group_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b))
}

/// A request, its members checked.
pub struct Request {
    pub gateway: Arc<Gateway>,
    pub account: String,
    pub region: String,
    body: Map<String, Value>,
}

impl Request {
    pub async fn read(exchange: &mut Exchange) -> Result<Self, Fault> {
        let gateway = exchange.gateway.clone();
        let bytes = match exchange.body.take() {
            Some(body) => {
                gateway.bodies.read(body, BODY_MAX, 3).await.map_err(|error| Fault::invalid(error.to_string()))?
            }
            None => bytes::Bytes::new(),
        };
        let body = json::object(&bytes);
        let body = body.map_err(|error| Fault::serialization(format!("the request cannot be read: {error}")))?;
        constraint::check(&body, MEMBERS, &[])?;
        let Scope { account, region, .. } = scope::of(&exchange.head, &gateway.config.node);
        let (account, region) = (account.into_owned(), region.into_owned());
        Ok(Self { gateway, account, region, body })
    }

    pub fn value(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.as_u64()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let list = self.value(name)?.as_array()?;
        Some(list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
    }

    /// A text that must be there.
    pub fn required(&self, name: &'static str) -> Result<&str, Fault> {
        constraint::check(&self.body, &[], &[name])?;
        Ok(self.text(name).unwrap_or_default())
    }

    /// How many items are wanted, `most` unless told.
    pub fn limit(&self, most: usize) -> Result<usize, Fault> {
        match self.number("limit").map(|limit| limit as usize) {
            Some(limit) if limit > most => {
                let rule = format!("Member must have value less than or equal to {most}");
                Err(constraint::violation("limit", &limit.to_string(), &rule).into())
            }
            limit => Ok(limit.unwrap_or(most)),
        }
    }

    pub fn named(&self, name: &str) -> LogGroup {
        LogGroup { account: self.account.clone(), region: self.region.clone(), name: name.to_owned() }
    }

    /// The group that a request names.
    pub fn group(&self) -> Result<LogGroup, Fault> {
        Ok(self.named(self.required("logGroupName")?))
    }

    /// The group that a request names or identifies.
    pub fn any_group(&self) -> Result<LogGroup, Fault> {
        match (self.text("logGroupName"), self.text("logGroupIdentifier")) {
            (Some(_), Some(_)) => {
                Err(Fault::invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters."))
            }
            (None, Some(identifier)) => {
                let name = identifier.rsplit_once(":log-group:").map_or(identifier, |(_, name)| name);
                Ok(self.named(name.strip_suffix(":*").unwrap_or(name)))
            }
            _ => self.group(),
        }
    }

    pub fn arn(&self, group: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{group}", self.region, self.account)
    }
}
