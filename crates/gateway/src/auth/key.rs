//! Keys: the section `[auth]`, and what a key allows.

use daemon::node::{Account, Node};
use daemon::secret::Secret;
use serde::Deserialize;
use thiserror::Error;

/// `[auth]`: whose requests are answered. Without keys: everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Seconds by which a client's clock may differ from this node's.
    pub skew_s: u64,
    /// Whether `/metrics`, which names functions, is for everybody.
    pub open_metrics: bool,
    pub keys: Keys,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { skew_s: 300, open_metrics: false, keys: Keys::default() }
    }
}

/// All keys: each id once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<KeyConfig>")]
pub struct Keys(Vec<KeyConfig>);

/// Why keys cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeysError {
    #[error("a key needs an id and a secret, and one of {0:?} is empty")]
    Empty(String),
    #[error("two keys have the id {0:?}")]
    Twice(String),
}

impl Keys {
    pub fn iter(&self) -> impl Iterator<Item = &KeyConfig> {
        self.0.iter()
    }
}

impl TryFrom<Vec<KeyConfig>> for Keys {
    type Error = KeysError;

    fn try_from(keys: Vec<KeyConfig>) -> Result<Self, KeysError> {
        for (at, key) in keys.iter().enumerate() {
            if key.id.is_empty() || key.secret.text().is_empty() {
                return Err(KeysError::Empty(key.id.clone()));
            }
            if keys[..at].iter().any(|other| other.id == key.id) {
                return Err(KeysError::Twice(key.id.clone()));
            }
        }
        Ok(Self(keys))
    }
}

/// `[[auth.keys]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// What clients call the access key.
    pub id: String,
    pub secret: Secret,
    /// The account that the key belongs to; the node's own where it is not said.
    #[serde(default)]
    account: Option<Account>,
    /// Actions, with `*` for anything: `lambda:Get*`.
    #[serde(default = "everything")]
    allow: Vec<String>,
    /// Functions, likewise. A key that is for some only cannot do what names no function, such as creating or listing.
    #[serde(default = "everything")]
    functions: Vec<String>,
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

impl KeyConfig {
    /// A key of the node's own, for one action.
    pub(super) fn own(id: String, secret: &str, action: &str) -> Self {
        Self {
            id,
            secret: Secret::from(secret),
            account: None,
            allow: vec![action.to_owned()],
            functions: everything(),
        }
    }

    pub fn account<'a>(&'a self, node: &'a Node) -> &'a str {
        self.account.as_ref().unwrap_or(&node.account).as_str()
    }

    /// Whether the key is for this action, on this function or on none in particular.
    pub fn allows(&self, action: &str, function: Option<&str>) -> bool {
        let for_function = match function {
            Some(function) => self.functions.iter().any(|pattern| matches(pattern, function)),
            None => self.functions.iter().any(|pattern| pattern == "*"),
        };
        for_function && self.allow.iter().any(|pattern| matches(pattern, action))
    }
}

/// Whether a text is what a pattern says, where `*` is any number of characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(front) else { return false };
    // The last star takes what is left but for the pattern's end; those before take as little as they can.
    let Some((middle, end)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    let mut text = text;
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything"),
            ("lambda:Get*", "lambda:GetFunction"),
            ("*Function", "lambda:GetFunction"),
            ("a*b*c", "abc"),
            ("a*b*c", "aXbbYc"),
            ("exact", "exact"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "x"), ("lambda:Get*", "lambda:Invoke"), ("a*b*c", "acb"), ("ab*ba", "aba"), ("exact", "exactly")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    fn key(allow: &[&str], functions: &[&str]) -> KeyConfig {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let secret = Secret::from("hidden");
        KeyConfig { id: "K".into(), secret, account: None, allow: owned(allow), functions: owned(functions) }
    }

    #[test]
    fn a_key_for_some_functions_is_for_those_only() {
        let narrow = key(&["lambda:Invoke*", "lambda:Get*"], &["img-*", "one"]);
        assert!(narrow.allows("lambda:InvokeFunction", Some("img-small")));
        assert!(narrow.allows("lambda:GetFunction", Some("one")));
        assert!(!narrow.allows("lambda:GetFunction", Some("other")));
        assert!(!narrow.allows("lambda:DeleteFunction", Some("one")));
        assert!(!narrow.allows("lambda:GetAccountSettings", None));
        assert!(key(&["*"], &["*"]).allows("lambda:ListFunctions", None));
    }

    #[test]
    fn keys_that_nobody_could_tell_apart_are_refused() {
        let one = || key(&[], &[]);
        assert_eq!(Keys::try_from(vec![one(), one()]), Err(KeysError::Twice("K".into())));
        assert_eq!(
            Keys::try_from(vec![KeyConfig { id: String::new(), ..one() }]),
            Err(KeysError::Empty(String::new()))
        );
        assert!(Keys::try_from(vec![one(), KeyConfig { id: "L".into(), ..one() }]).is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", key(&[], &[])).contains("hidden"));
    }
}
