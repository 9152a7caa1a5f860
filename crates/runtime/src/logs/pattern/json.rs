//! Filter patterns for JSON, as CloudWatch Logs has them:
//!
//! ```text
//! { ($.level = "ERROR" || $.level = WARN) && $.record.metrics.durationMs > 100 && $.tags[*] = web* && $.user NOT EXISTS }
//!
//! either     = both { "||" both }
//! both       = condition { "&&" condition }
//! condition  = "(" either ")" | selector ( "IS" NULL|TRUE|FALSE | "NOT" "EXISTS" | operator value )
//! selector   = "$" { "." name | "[" number | "*" | 'name' "]" }
//! operator   = = | != | < | <= | > | >=
//! ```
//!
//! `*` in a value stands for anything. What is not there compares with nothing, not even as different. An event that is no
//! JSON matches nothing. Regular expressions (`%…%`) are refused.

use super::PatternError;
use serde_json::Value;

/// Conditions in conditions: more are no use to anybody.
const DEPTH_MAX: u32 = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Test { selector: Vec<Step>, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Member(String),
    Element(usize),
    Every,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Is(Value),
    NotExists,
    /// A text with wildcards, and whether it is to be matched.
    Text(String, bool),
    Number(Comparison, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Expression {
    /// What stands in braces, braces included.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or(PatternError::Unfinished)?;
        let mut parser = Parser { rest: inside, depth: 0 };
        let expression = parser.either()?;
        if parser.rest.trim().is_empty() { Ok(expression) } else { Err(parser.here()) }
    }

    pub fn matches(&self, event: &Value) -> bool {
        match self {
            Self::All(all) => all.iter().all(|each| each.matches(event)),
            Self::Any(any) => any.iter().any(|each| each.matches(event)),
            Self::Test { selector, test } => {
                let mut found = Vec::new();
                select(event, selector, &mut found);
                match test {
                    Test::NotExists => found.is_empty(),
                    test => found.into_iter().any(|value| test.holds(value)),
                }
            }
        }
    }
}

/// All that a selector means.
fn select<'a>(value: &'a Value, selector: &[Step], found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = selector.split_first() else { return found.push(value) };
    match (step, value) {
        (Step::Member(name), Value::Object(object)) => {
            object.get(name).into_iter().for_each(|value| select(value, rest, found));
        }
        (Step::Element(index), Value::Array(list)) => {
            list.get(*index).into_iter().for_each(|value| select(value, rest, found));
        }
        (Step::Every, Value::Array(list)) => list.iter().for_each(|value| select(value, rest, found)),
        _ => {}
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Is(expected) => value == expected,
            Self::NotExists => false,
            Self::Text(pattern, wanted) => {
                let is_like = match value {
                    Value::String(text) => is_like(pattern, text),
                    Value::Number(number) => match (pattern.parse::<f64>(), number.as_f64()) {
                        (Ok(one), Some(other)) => one == other,
                        _ => is_like(pattern, &number.to_string()),
                    },
                    Value::Bool(truth) => pattern == if *truth { "true" } else { "false" },
                    Value::Null | Value::Array(_) | Value::Object(_) => return false,
                };
                is_like == *wanted
            }
            Self::Number(comparison, limit) => value.as_f64().is_some_and(|number| match comparison {
                Comparison::Less => number < *limit,
                Comparison::AtMost => number <= *limit,
                Comparison::Greater => number > *limit,
                Comparison::AtLeast => number >= *limit,
            }),
        }
    }
}

/// Whether a text is what a pattern says, in which a star stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn here(&self) -> PatternError {
        PatternError::Json(self.rest.trim_start().chars().take(20).collect())
    }

    /// Takes a word of the language, if it is next.
    fn takes(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        let Some(after) =
            rest.get(..word.len()).filter(|next| next.eq_ignore_ascii_case(word)).map(|_| &rest[word.len()..])
        else {
            return false;
        };
        self.rest = after;
        true
    }

    fn expect(&mut self, word: &str) -> Result<(), PatternError> {
        if self.takes(word) { Ok(()) } else { Err(self.here()) }
    }

    fn either(&mut self) -> Result<Expression, PatternError> {
        let mut any = vec![self.both()?];
        while self.takes("||") {
            any.push(self.both()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Expression::Any(any) })
    }

    fn both(&mut self) -> Result<Expression, PatternError> {
        let mut all = vec![self.condition()?];
        while self.takes("&&") {
            all.push(self.condition()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Expression::All(all) })
    }

    fn condition(&mut self) -> Result<Expression, PatternError> {
        if self.takes("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(self.here());
            }
            let inside = self.either()?;
            self.depth -= 1;
            return self.expect(")").map(|()| inside);
        }
        let selector = self.selector()?;
        Ok(Expression::Test { selector, test: self.test()? })
    }

    fn selector(&mut self) -> Result<Vec<Step>, PatternError> {
        self.expect("$")?;
        let mut steps = Vec::new();
        loop {
            let Some(next) = self.rest.chars().next() else { return Ok(steps) };
            match next {
                '.' => {
                    self.rest = &self.rest[1..];
                    // Both `$.a` and `$.['a']` are written.
                    if !self.rest.starts_with('[') {
                        let name = self.word(|c| c.is_alphanumeric() || "_-@".contains(c))?;
                        steps.push(Step::Member(name.to_owned()));
                    }
                }
                '[' => {
                    let (inside, after) = self.rest[1..].split_once(']').ok_or_else(|| self.here())?;
                    steps.push(element(inside.trim()).ok_or_else(|| self.here())?);
                    self.rest = after;
                }
                _ => return Ok(steps),
            }
        }
    }

    /// What is next of such letters: one at least.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> Result<&'a str, PatternError> {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.here());
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word)
    }

    fn test(&mut self) -> Result<Test, PatternError> {
        if self.takes("NOT") {
            return self.expect("EXISTS").map(|()| Test::NotExists);
        }
        if self.takes("IS") {
            for (word, value) in [("NULL", Value::Null), ("TRUE", true.into()), ("FALSE", false.into())] {
                if self.takes(word) {
                    return Ok(Test::Is(value));
                }
            }
            return Err(self.here());
        }
        let comparisons = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (sign, comparison) in comparisons {
            if self.takes(sign) {
                let number = self.value()?.parse().map_err(|_| self.here())?;
                return Ok(Test::Number(comparison, number));
            }
        }
        let wanted = !self.takes("!=");
        if wanted {
            self.expect("=")?;
        }
        Ok(Test::Text(self.value()?, wanted))
    }

    fn value(&mut self) -> Result<String, PatternError> {
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let (text, rest) = super::phrase(quoted)?;
            self.rest = rest;
            return Ok(text);
        }
        if self.rest.starts_with('%') {
            return Err(PatternError::Kind('%'));
        }
        self.word(|c| c.is_alphanumeric() || "*._-+:/@".contains(c)).map(str::to_owned)
    }
}

fn element(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::Every);
    }
    let quoted = ['\'', '"'].iter().find_map(|quote| inside.strip_prefix(*quote)?.strip_suffix(*quote));
    quoted.map(|name| Step::Member(name.to_owned())).or_else(|| inside.parse().ok().map(Step::Element))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions() {
        let event = json!({
            "level": "ERROR", "code": 404, "took": 12.5, "ok": false, "none": null, "user": { "name": "Ada", "a.b": 1 },
            "tags": ["web", "worker"], "list": [{ "id": 1 }, { "id": 2 }],
        });
        for (pattern, expected) in [
            ("{ $.level = \"ERROR\" }", true),
            ("{$.level=ERROR}", true),
            ("{ $.level = \"ERR*\" }", true),
            ("{ $.level = *R*R }", true),
            ("{ $.level = E*X* }", false),
            ("{ $.level != \"INFO\" }", true),
            ("{ $.level != \"ERROR\" }", false),
            ("{ $.code = 404 }", true),
            ("{ $.code = 4* }", true),
            ("{ $.code = 404.0 }", true),
            ("{ $.code != 404 }", false),
            ("{ $.took > 12 && $.took <= 12.5 }", true),
            ("{ $.took < 1e1 }", false),
            ("{ $.level > 1 }", false),
            ("{ $.ok IS FALSE }", true),
            ("{ $.none is null }", true),
            ("{ $.none NOT EXISTS }", false),
            ("{ $.absent NOT EXISTS }", true),
            ("{ $.absent != 1 }", false),
            ("{ $.user.name = Ada }", true),
            ("{ $.user.['a.b'] = 1 && $['level'] = ERROR }", true),
            ("{ $.tags[1] = worker }", true),
            ("{ $.tags[*] = w*b }", true),
            ("{ $.list[*].id = 2 }", true),
            ("{ $.list[2].id = 2 }", false),
            ("{ $.code = 1 || $.code = 404 && $.ok IS TRUE }", false),
            ("{ ($.code = 1 || $.code = 404) && $.ok IS FALSE }", true),
        ] {
            assert_eq!(Expression::parse(pattern).unwrap().matches(&event), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(1000), ")".repeat(1000));
        for pattern in [
            "{",
            "{}",
            "{ $.a }",
            "{ $.a = }",
            "{ a = 1 }",
            "{ $.a = 1 && }",
            "{ ($.a = 1 }",
            "{ $.a[ = 1 }",
            "{ $.a[x] = 1 }",
            "{ $.a > x }",
            "{ $.a IS 1 }",
            "{ $.a = 1 } b",
            "{ $.a = \"x }",
            "{ $.a = %x% }",
            "{ $. = 1 }",
            "{ $.ä",
            &deep,
        ] {
            assert!(Expression::parse(pattern).is_err(), "{pattern}");
        }
    }
}
