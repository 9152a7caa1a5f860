//! What both readers make of a text: tables, chains, rules.

use super::{Condition, Family, Hook, Refusal, Then, Why};
use std::collections::HashMap;

/// All chains of a text, by the table they are in and their name.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
    by_name: HashMap<(String, String), usize>,
    pub(super) left_out: Vec<String>,
    /// Rules that mark packets: left out too, where there is a TPROXY which the marks can serve.
    pub(super) marking: Vec<String>,
    pub(super) refused: Vec<Refusal>,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) table: String,
    pub(super) place: Place,
    pub(super) rules: Vec<Step>,
}

/// Who calls a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Another chain.
    Called,
    /// The kernel, where connections can be redirected.
    Base(Hook),
    /// The kernel, elsewhere: rules there are refused.
    Other(String),
}

/// A rule, as it was written.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) words: String,
    pub(super) family: Option<Family>,
    pub(super) when: Vec<Condition>,
    /// Whether the first packet of a connection can be meant at all, by the state it asks for.
    pub(super) fits_new: bool,
    /// Whether it puts a mark on packets, or takes one from their connection.
    pub(super) marks: bool,
    /// None: nothing that moves a connection.
    pub(super) act: Option<Act>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    End(Then),
    Return,
    Jump(String),
    Goto(String),
}

/// States of connections that rules can ask for, as the kernel's bits.
pub(super) mod state {
    pub(in super::super) const INVALID: u8 = 1;
    pub(in super::super) const NEW: u8 = 8;

    /// By its name, in either case.
    pub(in super::super) fn bit(name: &str) -> Option<u8> {
        match name.to_ascii_lowercase().as_str() {
            "invalid" => Some(INVALID),
            "established" => Some(2),
            "related" => Some(4),
            "new" => Some(NEW),
            "untracked" => Some(64),
            _ => None,
        }
    }
}

impl Ruleset {
    /// Adds a chain, unless it is there; where it is.
    pub(super) fn chain(&mut self, table: &str, name: &str, place: Place) -> usize {
        let key = (table.to_owned(), name.to_owned());
        *self.by_name.entry(key).or_insert_with(|| {
            self.chains.push(Chain { table: table.to_owned(), place, rules: Vec::new() });
            self.chains.len() - 1
        })
    }

    pub(super) fn find(&self, table: &str, name: &str) -> Option<usize> {
        self.by_name.get(&(table.to_owned(), name.to_owned())).copied()
    }

    /// Takes a rule into a chain, or notes why not.
    pub(super) fn take(&mut self, chain: usize, words: &str, read: Result<Step, Why>) {
        let place = &self.chains[chain].place;
        let read = match (read, place) {
            (Ok(_), Place::Other(name)) => Err(Why::Place(name.clone())),
            (read, _) => read,
        };
        match read {
            Ok(step) => {
                if step.marks {
                    self.marking.push(words.to_owned());
                } else if !step.fits_new || step.act.is_none() {
                    self.left_out.push(words.to_owned());
                }
                if step.fits_new && step.act.is_some() {
                    self.chains[chain].rules.push(step);
                }
            }
            Err(why) => self.refused.push(Refusal { rule: words.to_owned(), why }),
        }
    }
}

impl Step {
    pub(super) fn new(words: &str, family: Option<Family>) -> Self {
        Self { words: words.to_owned(), family, when: Vec::new(), fits_new: true, marks: false, act: None }
    }

    /// Asks one thing more.
    pub(super) fn ask(&mut self, condition: Condition) {
        if let Some(family) = condition.family() {
            self.ask_family(family);
        }
        if !self.when.contains(&condition) {
            self.when.push(condition);
        }
    }

    pub(super) fn ask_family(&mut self, family: Family) {
        self.fits_new &= self.family.is_none_or(|of| of == family);
        self.family = Some(family);
    }

    /// Asks for a state of the connection, by the kernel's bits.
    pub(super) fn ask_state(&mut self, bits: u8, not: bool) {
        self.fits_new &= (bits & state::NEW != 0) != not;
    }

    /// Asks for a mark of the connection, of which a new one has none.
    pub(super) fn ask_connection_mark(&mut self, value: u32, not: bool) {
        self.fits_new &= (value == 0) != not;
    }

    /// Drops what fits, which is refused but where it is no connection's first packet.
    pub(super) fn drops(&mut self) -> Result<(), Why> {
        if self.fits_new { Err(Why::Drops) } else { Ok(()) }
    }
}
