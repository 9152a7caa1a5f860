//! A request about rules: what it may contain, and whose rules it means.

use super::fault::Fault;
use crate::gateway::Gateway;
use crate::http::json;
use crate::lambda::constraint::{self, Member, Rule as Demand, Shape, member};
use crate::lambda::scope::{self, Scope};
use crate::route::Exchange;
use serde_json::{Map, Value};
use sources::schedule::{Rule, RuleId};
use std::sync::Arc;

const BODY_MAX: usize = 1 << 20;
/// As many items as a page has, whatever was asked for.
const PAGE: usize = 100;
const LENGTH: Demand = Demand::Length { min: 1, max: 64 };
const NAME: &[Demand] = &[LENGTH, Demand::Pattern("[\\.\\-_A-Za-z0-9]+", is_name)];

/// Members of all operations: one name means one thing in each of them.
const MEMBERS: &[Member] = &[
    member("Name", Shape::Text, NAME),
    member("Rule", Shape::Text, NAME),
    member("NamePrefix", Shape::Text, NAME),
    member("ScheduleExpression", Shape::Text, &[Demand::Length { min: 0, max: 256 }]),
    member("EventPattern", Shape::Text, &[Demand::Length { min: 0, max: 4096 }]),
    member(
        "State",
        Shape::Text,
        &[Demand::OneOf(&["ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"])],
    ),
    member("Description", Shape::Text, &[Demand::Length { min: 0, max: 512 }]),
    member("RoleArn", Shape::Text, &[Demand::Length { min: 1, max: 1600 }]),
    member("EventBusName", Shape::Text, &[Demand::Length { min: 1, max: 1600 }]),
    member("TargetArn", Shape::Text, &[Demand::Length { min: 1, max: 1600 }]),
    member("ResourceARN", Shape::Text, &[Demand::Length { min: 1, max: 1600 }]),
    member("Targets", Shape::List, &[Demand::Items { min: 1, max: 100 }]),
    member("Ids", Shape::List, &[Demand::Items { min: 1, max: 100 }]),
    member("Tags", Shape::List, &[]),
    member("TagKeys", Shape::List, &[]),
    member("NextToken", Shape::Text, &[Demand::Length { min: 1, max: 2048 }]),
    member("Limit", Shape::Integer, &[Demand::AtLeast(1)]),
    member("Force", Shape::Flag, &[]),
];

pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A request, its members checked.
pub struct Request {
    pub gateway: Arc<Gateway>,
    account: String,
    region: String,
    body: Map<String, Value>,
}

impl Request {
    pub async fn read(exchange: &mut Exchange) -> Result<Self, Fault> {
        let gateway = exchange.gateway.clone();
        let bytes = match exchange.body.take() {
            Some(body) => {
                let read = gateway.bodies.read(body, BODY_MAX, 3).await;
                read.map_err(|error| Fault::invalid(error.to_string()))?
            }
            None => bytes::Bytes::new(),
        };
        let body = json::object(&bytes);
        let body = body.map_err(|error| Fault::serialization(format!("the request cannot be read: {error}")))?;
        constraint::check(&body, MEMBERS, &[])?;
        let Scope { account, region, .. } = scope::of(&exchange.head, &gateway.config.node);
        let (account, region) = (account.into_owned(), region.into_owned());
        let request = Self { gateway, account, region, body };
        match request.text("EventBusName") {
            None | Some("default") => Ok(request),
            Some(bus) if bus.ends_with(":event-bus/default") => Ok(request),
            Some(bus) => Err(Fault::no_bus(bus)),
        }
    }

    pub fn value(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    pub fn list(&self, name: &'static str) -> Result<&[Value], Fault> {
        self.required(name)?;
        Ok(self.value(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default())
    }

    fn required(&self, name: &'static str) -> Result<(), Fault> {
        Ok(constraint::check(&self.body, &[], &[name])?)
    }

    /// The rule that a member names.
    pub fn rule_id(&self, member: &'static str) -> Result<RuleId, Fault> {
        self.required(member)?;
        Ok(self.named(self.text(member).unwrap_or_default()))
    }

    pub fn named(&self, name: &str) -> RuleId {
        RuleId { account: self.account.clone(), region: self.region.clone(), name: name.to_owned() }
    }

    /// The rule that a member names, as it is.
    pub fn rule(&self, member: &'static str) -> Result<Arc<Rule>, Fault> {
        let id = self.rule_id(member)?;
        self.gateway.rules.get(&id).ok_or_else(|| Fault::no_rule(&id.name))
    }

    /// The caller's rules, by name.
    pub fn rules(&self) -> impl Iterator<Item = Arc<Rule>> {
        let all = self.gateway.rules.all().into_iter();
        all.filter(|rule| rule.id.account == self.account && rule.id.region == self.region)
    }

    /// The page of a list that is wanted, and the token of the next.
    pub fn page<T>(&self, items: impl Iterator<Item = T>, key: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let limit = self.value("Limit").and_then(Value::as_u64).unwrap_or(PAGE as u64).min(PAGE as u64) as usize;
        let after = self.text("NextToken").unwrap_or_default();
        let mut items = items.filter(|item| key(item) > after);
        let page: Vec<T> = items.by_ref().take(limit).collect();
        let token = items.next().and(page.last().map(|last| key(last).to_owned()));
        (page, token)
    }

    /// Changes a rule where nobody else waits for the disk.
    pub async fn change(
        self,
        id: RuleId,
        change: impl FnOnce(&Gateway, Option<&Rule>) -> Result<Option<Rule>, Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let changed = self.gateway.blocking(move |gateway| gateway.rules.change(&id, |old| change(gateway, old)));
        changed.await?
    }
}
