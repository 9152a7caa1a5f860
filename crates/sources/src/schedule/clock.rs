//! Who waits for the next moment of a rule, and then sends its events.
//!
//! A moment that fell while the node was down is made up for within a minute, the last one of each rule only; older ones
//! are passed over, as nobody wants last week's.

use super::rule::{Rule, RuleId};
use super::rules::{Rules, RulesError};
use crate::invoker::{NotTaken, Promise};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How late a rule may fire.
const LATE_MS: u64 = 60_000;
/// The clock is looked at this often, in case somebody has set it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before what could not be sent is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Who takes events.
pub trait Sender: Send + Sync + 'static {
    /// Takes an event for a target; one of an id that was taken before is the same event, and not taken again.
    fn send_once(&self, target: &str, id: String, event: Bytes) -> Promise<Result<(), NotTaken>>;
}

/// Runs until `stop` says so.
pub async fn run(rules: Arc<Rules>, sender: Arc<dyn Sender>, mut stop: watch::Receiver<bool>) {
    let mut changed = rules.watch();
    loop {
        changed.mark_unchanged();
        let pause = match fire(&rules, &*sender).await {
            Ok(next) => {
                let left = next.map(|at| Duration::from_millis(at.saturating_sub(api::time::now_ms())));
                left.unwrap_or(PATIENCE).min(PATIENCE)
            }
            Err(error) => {
                tracing::warn!(%error, "a schedule could not fire, and is tried again");
                PAUSE
            }
        };
        let change = async {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
            () = change => {}
        }
    }
}

/// Why a rule has not fired.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    #[error("{0}")]
    NotTaken(String),
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// Fires what is due: the next moment of all rules.
async fn fire(rules: &Arc<Rules>, sender: &dyn Sender) -> Result<Option<u64>, FireError> {
    let (now, mut next, mut failed) = (api::time::now_ms(), None::<u64>, None);
    for rule in rules.all() {
        let Some(first) = rule.next() else { continue };
        let due = last_due(&rule, first, now);
        if let Some(at) = due
            && let Err(error) = fire_one(rules, sender, &rule, at, now).await
        {
            // The others are not held up by it.
            failed = Some(error);
            continue;
        }
        let upcoming = match due {
            Some(at) => rule.expression.next(rule.begun_ms, at),
            None => Some(first),
        };
        next = next.into_iter().chain(upcoming).min();
    }
    failed.map_or(Ok(next), Err)
}

/// The last of a rule's moments that are over.
fn last_due(rule: &Rule, first: u64, now: u64) -> Option<u64> {
    if first > now {
        return None;
    }
    let mut last = first;
    // What is too late is stepped over at once.
    let from = rule.expression.next(rule.begun_ms, now.saturating_sub(LATE_MS)).filter(|from| *from <= now);
    last = from.unwrap_or(last).max(last);
    while let Some(next) = rule.expression.next(rule.begun_ms, last).filter(|next| *next <= now) {
        last = next;
    }
    Some(last)
}

async fn fire_one(rules: &Arc<Rules>, sender: &dyn Sender, rule: &Rule, at: u64, now: u64) -> Result<(), FireError> {
    if now - at <= LATE_MS {
        for target in &rule.targets {
            let id = rule.event_id(at, &target.id);
            let sent = sender.send_once(&target.arn, id, rule.event(at, target));
            sent.await.map_err(|NotTaken(why)| FireError::NotTaken(why))?;
        }
    }
    let (rules, id): (_, RuleId) = (rules.clone(), rule.id.clone());
    tokio::task::spawn_blocking(move || rules.fired(&id, at)).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::expression::Expression;
    use super::*;
    use serde_json::Map;
    use std::collections::HashSet;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Taker(Mutex<Vec<(String, String)>>);

    impl Sender for Taker {
        fn send_once(&self, target: &str, id: String, _event: Bytes) -> Promise<Result<(), NotTaken>> {
            self.0.lock().unwrap().push((target.to_owned(), id));
            Box::pin(async { Ok(()) })
        }
    }

    fn rule(name: &str, ago_ms: u64) -> Rule {
        let id = RuleId { account: "a".into(), region: "r".into(), name: name.into() };
        let target = serde_json::json!({ "Id": "t", "Arn": name });
        let begun_ms = api::time::now_ms() - ago_ms;
        Rule {
            id,
            schedule: "rate(1 minute)".into(),
            expression: Expression::parse("rate(1 minute)").unwrap(),
            enabled: true,
            description: None,
            role: None,
            tags: Map::new(),
            targets: vec![serde_json::from_value(target).unwrap()],
            begun_ms,
            fired_ms: begun_ms,
        }
    }

    #[tokio::test]
    async fn what_is_due_fires_once_and_what_was_missed_at_most_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.db");
        let rules = Arc::new(Rules::open(&path).unwrap());
        for (name, ago_ms) in [("new", 1_000), ("due", 61_000), ("slept", 3_600_000 + 5_000)] {
            let rule = rule(name, ago_ms);
            rules.change::<RulesError>(&rule.id.clone(), |_| Ok(Some(rule))).unwrap();
        }
        let taker = Taker::default();
        let next = fire(&rules, &taker).await.unwrap().unwrap();
        let now = api::time::now_ms();
        assert!(next > now && next <= now + 60_000);
        let names: Vec<String> = taker.0.lock().unwrap().iter().map(|(target, _)| target.clone()).collect();
        assert_eq!(names, ["due", "slept"]);
        fire(&rules, &taker).await.unwrap();
        assert_eq!(taker.0.lock().unwrap().len(), 2);
        // Killed before it was noted: the same event, by its id.
        let lost = rule("due", 61_000);
        let again = Rule { begun_ms: rules.get(&lost.id).unwrap().begun_ms, ..lost };
        let again = Rule { fired_ms: again.begun_ms, ..again };
        rules.change::<RulesError>(&again.id.clone(), |_| Ok(Some(again))).unwrap();
        fire(&Arc::new(Rules::open(&path).unwrap()), &taker).await.unwrap();
        let ids: HashSet<String> = taker.0.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
        assert_eq!((taker.0.lock().unwrap().len(), ids.len()), (3, 2));
    }
}
