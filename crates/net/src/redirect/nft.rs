//! The JSON of `nft -nj list ruleset`: rules that were written for nf_tables.
//!
//! Those that iptables writes to nf_tables are not all in it: some of their parts are only named. `iptables-save` has them.

mod statement;

use super::ruleset::{Place, Ruleset, Step};
use super::{Family, Hook, ReadError, Redirects, Refusal, TEXT_LIMIT, Why, flow};
use serde_json::Value;

/// What the rules say, without those of the tables called `except`: ours.
pub fn read(text: &str, except: &[&str]) -> Result<Redirects, ReadError> {
    if text.len() > TEXT_LIMIT {
        return Err(ReadError::TooLong);
    }
    let listing: Value = serde_json::from_str(text).map_err(|_| ReadError::Json)?;
    let objects = listing.get("nftables").and_then(Value::as_array).ok_or(ReadError::Json)?;
    let mut rules = Ruleset::default();
    for (kind, object) in objects.iter().filter_map(Value::as_object).flatten() {
        let table = object.get("table").and_then(Value::as_str);
        if table.is_some_and(|table| except.contains(&table)) {
            continue;
        }
        match kind.as_str() {
            "chain" => chain(&mut rules, object).ok_or(ReadError::Json)?,
            "rule" => rule(&mut rules, object).ok_or(ReadError::Json)?,
            // They do nothing by themselves, and rules that use them are refused.
            "metainfo" | "table" | "set" | "map" | "counter" | "quota" | "limit" => {}
            other => rules.refused.push(Refusal { rule: object.to_string(), why: Why::Unknown(other.to_owned()) }),
        }
    }
    flow::follow(rules)
}

/// The table of an object, with its family: tables of two families may have one name.
fn table(object: &Value) -> Option<String> {
    Some(format!("{} {}", object.get("family")?.as_str()?, object.get("table")?.as_str()?))
}

fn chain(rules: &mut Ruleset, object: &Value) -> Option<()> {
    let name = object.get("name")?.as_str()?;
    if object.get("policy").is_some_and(|policy| policy != "accept") {
        rules.refused.push(Refusal { rule: format!("{} {name}", table(object)?), why: Why::Drops });
    }
    let of_ip = matches!(object.get("family")?.as_str()?, "ip" | "ip6" | "inet");
    let place = match object.get("hook").map(|hook| hook.as_str()) {
        None => Place::Called,
        Some(Some("output")) if of_ip => Place::Base(Hook::Output),
        Some(Some("prerouting")) if of_ip => Place::Base(Hook::Prerouting),
        Some(other) => Place::Other(other?.to_owned()),
    };
    rules.chain(&table(object)?, name, place);
    Some(())
}

fn rule(rules: &mut Ruleset, object: &Value) -> Option<()> {
    let (table, name) = (table(object)?, object.get("chain")?.as_str()?);
    let statements = object.get("expr")?;
    let words = format!("{table} {name} {statements}");
    let family = match object.get("family")?.as_str()? {
        "ip" => Some(Family::V4),
        "ip6" => Some(Family::V6),
        _ => None,
    };
    let chain = rules.find(&table, name)?;
    let mut step = Step::new(&words, family);
    let read = statements.as_array()?.iter().try_for_each(|one| statement::read(&mut step, one));
    rules.take(chain, &words, read.map(|()| step));
    Some(())
}
