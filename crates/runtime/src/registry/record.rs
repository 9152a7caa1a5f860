//! A function with everything that belongs to it: `$LATEST`, its versions, and what hangs on them. Immutable; a change
//! makes another record.

use super::entry::Entry;
use super::facet::{Attached, Facet};
use crate::function::Function;
use api::lambda::LATEST;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a qualifier means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualified<'a> {
    Latest,
    Version(u64),
    Alias(&'a str),
}

impl<'a> Qualified<'a> {
    /// Digits are a version; every other word is an alias, whether there is one or not.
    pub fn of(qualifier: &'a str) -> Self {
        match qualifier.parse() {
            _ if qualifier == LATEST => Self::Latest,
            Ok(number) if qualifier.bytes().all(|byte| byte.is_ascii_digit()) => Self::Version(number),
            _ => Self::Alias(qualifier),
        }
    }
}

/// A function.
#[derive(Clone, Debug)]
pub struct Record {
    pub latest: Arc<Entry>,
    /// By number.
    pub versions: BTreeMap<u64, Arc<Entry>>,
    /// The highest number that was given to a version.
    pub last_version: u64,
    /// By what it is and the qualifier on which it hangs; [`LATEST`] for the function itself.
    pub attached: BTreeMap<(Facet, String), Arc<Attached>>,
}

impl Record {
    pub(super) fn new(latest: Arc<Entry>) -> Self {
        Self { latest, versions: BTreeMap::new(), last_version: 0, attached: BTreeMap::new() }
    }

    /// `$LATEST`, then the versions by number.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        std::iter::once(&self.latest).chain(self.versions.values())
    }

    /// `$LATEST`, or the version of this number.
    pub(super) fn at(&self, version: Option<u64>) -> Option<&Arc<Entry>> {
        version.map_or(Some(&self.latest), |number| self.versions.get(&number))
    }

    pub fn attached(&self, facet: Facet, qualifier: &str) -> Option<&Arc<Attached>> {
        self.attached.get(&(facet, qualifier.to_owned()))
    }

    /// All of one kind, with their qualifiers, in the order of these.
    pub fn all_attached(&self, facet: Facet) -> impl Iterator<Item = (&str, &Arc<Attached>)> {
        let from = (facet, String::new());
        let of_kind = self.attached.range(from..).take_while(move |((kind, _), _)| *kind == facet);
        of_kind.map(|((_, qualifier), attached)| (qualifier.as_str(), attached))
    }

    /// A version by its name.
    pub fn version(&self, name: &str) -> Option<&Arc<Entry>> {
        match Qualified::of(name) {
            Qualified::Latest => Some(&self.latest),
            Qualified::Version(number) => self.versions.get(&number),
            Qualified::Alias(_) => None,
        }
    }

    /// What a qualifier means: a version, or the one to which most of an alias's traffic goes.
    pub fn qualified(&self, qualifier: &str) -> Option<&Arc<Entry>> {
        match Qualified::of(qualifier) {
            Qualified::Alias(name) => self.version(self.attached(Facet::Alias, name)?.text("FunctionVersion")),
            _ => self.version(qualifier),
        }
    }

    /// The same for one invocation: of an alias with weights the version on which `lot`, from 0 to below 1, falls.
    pub fn chosen(&self, qualifier: &str, lot: f64) -> Option<&Arc<Entry>> {
        if let Qualified::Alias(name) = Qualified::of(qualifier) {
            let mut end = 0.0;
            for (version, weight) in weights(self.attached(Facet::Alias, name)?).into_iter().flatten() {
                end += weight.as_f64().unwrap_or_default();
                if lot < end {
                    return self.version(version);
                }
            }
        }
        self.qualified(qualifier)
    }

    /// Aliases that send traffic to a version.
    pub fn aliases_of<'a>(&'a self, version: &'a str) -> impl Iterator<Item = &'a str> {
        let points = move |alias: &Attached| {
            alias.text("FunctionVersion") == version || weights(alias).is_some_and(|w| w.contains_key(version))
        };
        self.all_attached(Facet::Alias).filter(move |(_, alias)| points(alias)).map(|(name, _)| name)
    }

    /// Takes away what hangs on a qualifier.
    pub(super) fn strip(&mut self, qualifier: &str) {
        self.attached.retain(|(_, on), _| on != qualifier);
    }

    /// Gives versions what they have from elsewhere: the function's reserved concurrency, and the instances with which
    /// they or an alias of theirs are provisioned.
    pub(super) fn settle(&mut self) {
        let reserved = self.latest.content.reserved;
        let warm: BTreeMap<u64, u32> =
            self.versions.keys().map(|number| (*number, self.provisioned(*number))).collect();
        for (number, entry) in &mut self.versions {
            let min_warm = warm.get(number).copied().unwrap_or_default();
            if (entry.function.max_concurrency, entry.function.min_warm) != (reserved, min_warm) {
                let function = Function { max_concurrency: reserved, min_warm, ..(*entry.function).clone() };
                let mut settled = Entry { function: Arc::new(function), ..(**entry).clone() };
                settled.content.reserved = reserved;
                *entry = Arc::new(settled);
            }
        }
    }

    /// Instances with which a version is provisioned.
    pub fn provisioned(&self, version: u64) -> u32 {
        let name = version.to_string();
        let means = |qualifier: &str| match Qualified::of(qualifier) {
            Qualified::Alias(alias) => {
                self.attached(Facet::Alias, alias).is_some_and(|alias| alias.text("FunctionVersion") == name)
            }
            _ => qualifier == name,
        };
        let wanted = self.all_attached(Facet::Provisioned).filter(|(qualifier, _)| means(qualifier));
        let wanted = wanted.filter_map(|(_, config)| config.value.get("ProvisionedConcurrentExecutions")?.as_u64());
        wanted.max().unwrap_or(0) as u32
    }
}

fn weights(alias: &Attached) -> Option<&Map<String, Value>> {
    alias.value.get("RoutingConfig")?.get("AdditionalVersionWeights")?.as_object()
}
