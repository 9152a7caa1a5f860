//! What hangs on a function, or on one version or alias of it, beside its code and settings: aliases, policies, function
//! URLs and the like. To the registry they are JSON objects with a revision; what they mean is the gateway's business,
//! but for the few that invocations depend on ([`super::record`]).

use serde_json::{Map, Value};

/// Kinds of what can hang on a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Facet {
    /// Its qualifier is its name.
    Alias,
    CodeSigning,
    EventInvoke,
    Policy,
    Provisioned,
    Recursion,
    RuntimeManagement,
    Scaling,
    /// The member `Id` of its value is in the URL.
    Url,
}

const WORDS: [(Facet, &str); 9] = [
    (Facet::Alias, "alias"),
    (Facet::CodeSigning, "code-signing"),
    (Facet::EventInvoke, "event-invoke"),
    (Facet::Policy, "policy"),
    (Facet::Provisioned, "provisioned"),
    (Facet::Recursion, "recursion"),
    (Facet::RuntimeManagement, "runtime-management"),
    (Facet::Scaling, "scaling"),
    (Facet::Url, "url"),
];

impl Facet {
    /// As the database calls it.
    pub(super) fn word(self) -> &'static str {
        WORDS.iter().find(|(facet, _)| *facet == self).map_or("", |(_, word)| word)
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(facet, _)| *facet)
    }
}

/// One thing that hangs on a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    pub value: Map<String, Value>,
    /// Changes with every write.
    pub revision: String,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
}

impl Attached {
    /// A text member of the value; empty where there is none.
    pub fn text(&self, member: &str) -> &str {
        self.value.get(member).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_facet_has_a_word_of_its_own() {
        for (facet, word) in WORDS {
            assert_eq!((facet.word(), Facet::of_word(word)), (word, Some(facet)));
        }
        assert_eq!(Facet::of_word("novelty"), None);
    }
}
