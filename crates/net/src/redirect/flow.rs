//! The ways through the chains: from rules that jump and return to a list of decisions, of which the first that fits counts.
//!
//! A way is a place in the chains (where each jump goes on afterwards), and what a connection must be like to get there.
//! Where a rule may fit or not, the way divides: first come all decisions for connections that it fits, then those for the
//! others, which therefore need not say that it did not. What cannot be, as one question excludes another, is not followed.

use super::ruleset::{Act, Place, Ruleset, Step};
use super::{Condition, Family, Hook, How, ReadError, Redirects, Refusal, Rule, Then, Why};

/// How many rules may be looked at, and how many decisions come out. Istio's rules with a hundred blocks take some 500.
const LIMIT: usize = 20_000;
/// How deep chains call each other: the kernel's limit.
const DEPTH: usize = 16;

/// Follows every way.
pub(super) fn follow(mut rules: Ruleset) -> Result<Redirects, ReadError> {
    let mut walk = Walk { rules: &rules, waiting: Vec::new(), found: Vec::new(), refused: Vec::new(), looked: 0 };
    let mut redirects = Vec::new();
    for (index, chain) in rules.chains.iter().enumerate() {
        let Place::Base(hook) = chain.place else { continue };
        walk.from(index, hook)?;
        let found = std::mem::take(&mut walk.found);
        if let Some(twice) = found.iter().find(|rule| clashes(rule, &redirects)) {
            walk.refused.push(Refusal { rule: format!("{}: {twice}", chain.table), why: Why::TwoTables });
        }
        redirects.extend(found);
    }
    let mut refused = walk.refused;
    rules.refused.append(&mut refused);
    let tproxy = |rule: &Rule| matches!(rule.then, Then::Capture { how: How::Tproxy { .. }, .. });
    if redirects.iter().any(tproxy) {
        rules.left_out.append(&mut rules.marking);
    }
    rules.refused.extend(rules.marking.into_iter().map(|rule| Refusal { rule, why: Why::Mark }));
    if !rules.refused.is_empty() {
        return Err(ReadError::Refused(rules.refused));
    }
    Ok(Redirects { rules: redirects, left_out: rules.left_out })
}

/// Whether another table decides about the same connections: then what it says comes before or after this, and both may
/// rewrite them.
fn clashes(rule: &Rule, others: &[Rule]) -> bool {
    others.iter().any(|other| {
        let families = other.family.is_none() || rule.family.is_none() || other.family == rule.family;
        other.hook == rule.hook && families
    })
}

struct Walk<'a> {
    rules: &'a Ruleset,
    /// Ways that go on where the one being followed ends, the next one last.
    waiting: Vec<Way>,
    found: Vec<Rule>,
    refused: Vec<Refusal>,
    looked: usize,
}

#[derive(Clone)]
struct Way {
    /// The chains that called each other, each with the rule that comes next.
    at: Vec<(usize, usize)>,
    family: Option<Family>,
    when: Vec<Condition>,
}

impl Walk<'_> {
    /// All decisions of a chain that the kernel calls.
    fn from(&mut self, chain: usize, hook: Hook) -> Result<(), ReadError> {
        self.waiting.push(Way { at: vec![(chain, 0)], family: None, when: Vec::new() });
        while let Some(way) = self.waiting.pop() {
            self.follow(way, hook)?;
        }
        while self.found.last().is_some_and(|rule| rule.then == Then::Pass) {
            self.found.pop();
        }
        Ok(())
    }

    fn follow(&mut self, mut way: Way, hook: Hook) -> Result<(), ReadError> {
        loop {
            self.looked += 1;
            if self.looked > LIMIT {
                return Err(ReadError::TooManyWays(LIMIT));
            }
            let Some((chain, next)) = way.at.last_mut() else {
                self.decide(way, hook, Then::Pass);
                return Ok(());
            };
            let Some(step) = self.rules.chains[*chain].rules.get(*next) else {
                way.at.pop();
                continue;
            };
            *next += 1;
            let (Some(act), Some(taken)) = (&step.act, way.narrowed(step)) else { continue };
            if taken.family != way.family || taken.when.len() != way.when.len() {
                self.waiting.push(std::mem::replace(&mut way, taken));
            }
            match act {
                Act::End(then) => {
                    self.decide(way, hook, *then);
                    return Ok(());
                }
                Act::Return => drop(way.at.pop()),
                Act::Jump(name) | Act::Goto(name) => {
                    if !self.call(&mut way, step, name, matches!(act, Act::Goto(_))) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Goes into a chain; whether there is one.
    fn call(&mut self, way: &mut Way, step: &Step, name: &str, for_good: bool) -> bool {
        let here = way.at.last().map_or(0, |(chain, _)| *chain);
        let chain = self.rules.find(&self.rules.chains[here].table, name);
        let called = chain.filter(|chain| self.rules.chains[*chain].place == Place::Called && way.at.len() < DEPTH);
        let Some(called) = called else {
            let refusal = Refusal { rule: step.words.clone(), why: Why::Jump(name.to_owned()) };
            if !self.refused.contains(&refusal) {
                self.refused.push(refusal);
            }
            return false;
        };
        if for_good {
            way.at.pop();
        }
        way.at.push((called, 0));
        true
    }

    /// Notes a decision. Those before that say the same of fewer connections are dropped.
    fn decide(&mut self, way: Way, hook: Hook, then: Then) {
        let says_less = |rule: &Rule| {
            rule.then == then
                && (way.family.is_none() || way.family == rule.family)
                && way.when.iter().all(|condition| rule.when.contains(condition))
        };
        while self.found.last().is_some_and(says_less) {
            self.found.pop();
        }
        self.found.push(Rule { hook, family: way.family, when: way.when, then });
    }
}

impl Way {
    /// For those connections that a rule fits, if there can be any.
    fn narrowed(&self, step: &Step) -> Option<Self> {
        let mut way = self.clone();
        if let Some(family) = step.family {
            if way.family.is_some_and(|of| of != family) {
                return None;
            }
            way.family = Some(family);
        }
        for condition in &step.when {
            if way.when.iter().any(|before| before.excludes(condition)) {
                return None;
            }
            if !way.when.iter().any(|before| before.implies(condition)) {
                way.when.push(condition.clone());
            }
        }
        Some(way)
    }
}
