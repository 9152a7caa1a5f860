//! Filter patterns, as CloudWatch Logs has them: conditions on JSON (`{…}`), and terms:
//!
//! | pattern | matches lines with |
//! |---|---|
//! | `ERROR timeout` | both |
//! | `"took 3 ms"` | these words in this order |
//! | `?ERROR ?WARN` | one of them at least; ignored beside terms of other kinds, as on AWS |
//! | `ERROR -DEBUG` | the first, and not the second |
//!
//! Case matters, and a term may be part of a word. Patterns for columns (`[…]`) and regular expressions (`%…%`) are not
//! understood, and refused.

mod json;

use json::Expression;
use thiserror::Error;

/// A filter pattern. The empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pattern {
    json: Option<Expression>,
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

/// Why a text is no pattern.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    #[error("Invalid character(s) in term '{0}'")]
    Characters(String),
    #[error("Invalid filter pattern: a quoted term does not end")]
    Unfinished,
    #[error("Invalid filter pattern: this node understands terms and JSON only, and nothing that begins with '{0}'")]
    Kind(char),
    #[error("Invalid filter pattern: a condition like $.name = \"value\" does not go on with '{0}'")]
    Json(String),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pattern = Self::default();
        let mut rest = text.trim();
        if rest.starts_with('{') {
            return Ok(Self { json: Some(Expression::parse(rest)?), ..pattern });
        }
        if let Some(kind) = rest.chars().next().filter(|first| ['[', '%'].contains(first)) {
            return Err(PatternError::Kind(kind));
        }
        while !rest.is_empty() {
            let (terms, from) = match rest.as_bytes()[0] {
                b'?' => (&mut pattern.any, 1),
                b'-' => (&mut pattern.none, 1),
                b'+' => (&mut pattern.all, 1),
                _ => (&mut pattern.all, 0),
            };
            let (term, after) = term(&rest[from..])?;
            terms.push(term);
            rest = after.trim_start();
        }
        Ok(pattern)
    }

    pub fn matches(&self, text: &str) -> bool {
        if let Some(json) = &self.json {
            return serde_json::from_str(text).is_ok_and(|event| json.matches(&event));
        }
        let has = |term: &String| text.contains(term.as_str());
        let alone = self.all.is_empty() && self.none.is_empty() && !self.any.is_empty();
        self.all.iter().all(has) && !self.none.iter().any(has) && (!alone || self.any.iter().any(has))
    }
}

/// The term that a text begins with, and what follows it.
fn term(text: &str) -> Result<(String, &str), PatternError> {
    if let Some(quoted) = text.strip_prefix('"') {
        return phrase(quoted);
    }
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(PatternError::Characters(word.to_owned()));
    }
    Ok((word.to_owned(), rest))
}

/// What is in quotes; a quote among it has a backslash before it.
fn phrase(text: &str) -> Result<(String, &str), PatternError> {
    let mut phrase = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((phrase, &text[at + 1..])),
            '\\' => phrase.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => phrase.push(letter),
        }
    }
    Err(PatternError::Unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn terms_of_all_kinds() {
        for (pattern, text, expected) in [
            ("", "anything", true),
            ("  ", "", true),
            ("ERROR", "an ERROR", true),
            ("ERROR", "an error", false),
            ("RR", "an ERROR", true),
            ("a b", "b and a", true),
            ("a b", "only a", false),
            ("\"b a\"", "a b a", true),
            ("\"b a\"", "a b", false),
            (r#""say \"hi\"" -bye"#, "say \"hi\"", true),
            (r#""say \"hi\"" -bye"#, "say \"hi\" bye", false),
            ("?a ?b", "b", true),
            ("?a ?b", "c", false),
            ("?a b", "b", true),
            ("?\"x y\"", "x y", true),
            ("-\"[x]\"", "[x]", false),
            ("-a", "b", true),
            ("grün", "grünes", true),
            (" { $.a = 1 } ", "{\"a\": 1}", true),
            ("{ $.a = 1 }", "a 1", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let refused = |pattern: &str| Pattern::parse(pattern).unwrap_err();
        assert_eq!(refused("a b-c"), PatternError::Characters("b-c".into()));
        assert_eq!(refused("a ?"), PatternError::Characters("".into()));
        assert_eq!(refused("\"a"), PatternError::Unfinished);
        assert_eq!(refused("\"a\\"), PatternError::Unfinished);
        assert_eq!(refused(" { $.a 1 }"), PatternError::Json("1 ".into()));
        assert_eq!(refused("[a, b]"), PatternError::Kind('['));
        assert_eq!(refused("%a%"), PatternError::Kind('%'));
    }
}
