//! What is said about a text: where, what is wrong, what to do. As JSON for the API, as text for people.

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::near;

/// The most that is said about one text: the first few are what a person reads.
pub const MOST: usize = 32;
/// Characters of a line that are shown around its fault.
const SHOWN: usize = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The text means nothing as it stands.
    Error,
    /// It means something that nobody would want.
    Warning,
}

/// One thing that is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters it is about.
    pub length: usize,
    /// The line, as it stands in the text.
    pub text: String,
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Diagnostic {
    /// As people read it: the message, the line with a caret below what it is about, the hint.
    pub fn render(&self, name: &str) -> String {
        let kind = if self.severity == Severity::Error { "error" } else { "warning" };
        let mut out = format!("{kind}: {}\n", self.message);
        let gutter = " ".repeat(self.line.to_string().len());
        // A line may be a whole program: what is around the fault says enough.
        let skip = (self.column - 1).saturating_sub(SHOWN / 2);
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = self.text.chars().skip(skip).take(SHOWN).map(clean).collect();
        let before = " ".repeat(self.column - 1 - skip);
        let carets = "^".repeat(self.length.clamp(1, SHOWN));
        let _ = writeln!(out, "{gutter}--> {name}:{}:{}", self.line, self.column);
        let _ = writeln!(out, "{gutter} |\n{} | {}", self.line, shown.trim_end());
        let _ = writeln!(out, "{gutter} | {before}{carets}");
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{gutter} = {hint}");
        }
        out
    }
}

/// Gathers what is wrong with one text.
#[derive(Debug)]
pub struct Findings<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    found: Vec<Finding>,
    /// Errors, and warnings, that there were: more than are kept.
    counts: [usize; 2],
    guesses: usize,
    /// What a hint is about was not kept.
    passed_over: bool,
}

/// A diagnostic whose place has not been looked up yet: texts with faults have thousands of them.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

impl<'a> Findings<'a> {
    pub fn new(text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { text, lines, found: Vec::new(), counts: [0; 2], guesses: MOST, passed_over: false }
    }

    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Self {
        self.add(Severity::Error, span, message.into())
    }

    pub fn warn(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Self {
        self.add(Severity::Warning, span, message.into())
    }

    /// What to do about what was added last.
    pub fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.found.last_mut().filter(|_| !self.passed_over) {
            last.hint = Some(hint.into());
        }
    }

    /// As [`Self::hint`]: the known word that was meant, or what there is to choose from.
    pub fn hint_near(&mut self, word: &str, known: &[&str], otherwise: &str) {
        if self.passed_over {
            return;
        }
        let near = self.nearest(word, known);
        self.hint(near.map_or_else(|| near::choice(known, otherwise), |near| format!("did you mean `{near}`?")));
    }

    /// The known word that was meant. Only so often: to compare every word of a text with all others takes minutes.
    pub fn nearest<'k>(&mut self, word: &str, known: &[&'k str]) -> Option<&'k str> {
        self.guesses = self.guesses.checked_sub(1)?;
        near::nearest(word, known.iter().copied())
    }

    /// The line of the text, from 1, that byte `at` is in.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    pub fn has_errors(&self) -> bool {
        self.counts[0] > 0
    }

    /// In the order of the text, the first few of them. Errors are never left out for warnings.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.severity, found.span.start));
        self.found.truncate(MOST);
        self.found.sort_by_key(|found| found.span.start);
        let found = std::mem::take(&mut self.found);
        found.into_iter().map(|found| self.placed(found)).collect()
    }

    fn placed(&self, found: Finding) -> Diagnostic {
        let span = found.span;
        let line = self.line(span.start) - 1;
        let start = self.lines[line];
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = self.text[start..end].trim_end_matches('\r');
        let characters = |range: Range<usize>| self.text.get(range).map_or(0, |part| part.chars().count());
        Diagnostic {
            severity: found.severity,
            line: line + 1,
            column: characters(start..span.start) + 1,
            length: characters(span.start..span.end.min(end).max(span.start)).max(1),
            text: text.to_owned(),
            message: found.message,
            hint: found.hint,
        }
    }

    /// More are kept than are told: those that stand first in the text need not be found first.
    fn add(&mut self, severity: Severity, span: &Range<usize>, message: String) -> &mut Self {
        let count = &mut self.counts[usize::from(severity == Severity::Warning)];
        *count += 1;
        self.passed_over = *count > 16 * MOST;
        if !self.passed_over {
            self.found.push(Finding { severity, span: span.clone(), message, hint: None });
        }
        self
    }
}
