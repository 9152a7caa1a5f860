//! The language of flows: text in, a [`Program`] and what is to be said about the text out.
//!
//! ```text
//! lexer → parser → ast → check → Program
//!      ╰──────┴───────────┴──→ diagnostics, several in one go
//! ```
//!
//! A superset of what Dandelion's parser takes. Not here: which functions there are (the caller says, [`Known`]), and
//! reading files of static sets (the caller does, see [`Program::bind`]).

mod ast;
mod check;
pub mod diagnostic;
mod lexer;
mod near;
mod parser;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::graph::Program;
use diagnostic::{Diagnostic, Findings, Severity};

/// The longest text that is read.
pub const LONGEST: usize = 256 << 10;

/// What is known of a function that a text names and does not declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// There is none.
    Missing,
    /// There is one, or may be one; which sets it takes and gives is not known.
    Open,
    /// There is one, with these sets.
    Exact(Signature),
    /// It is a flow of its own, read and bound: it is applied like one of the same text.
    Flow(Arc<Program>),
    /// It is a flow of its own that cannot be applied, for this reason.
    Unfit(String),
}

/// The sets that a function takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Other names of inputs, each with the one that it is another name of.
    pub aliases: Vec<(String, String)>,
}

impl Signature {
    pub fn new(inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { inputs: owned(inputs), outputs: owned(outputs), aliases: Vec::new() }
    }

    /// The input that a name means, if there is one.
    pub fn input(&self, name: &str) -> Option<&str> {
        let alias = self.aliases.iter().find(|(alias, _)| alias == name);
        let meant = alias.map_or(name, |(_, meant)| meant);
        self.inputs.iter().find(|input| *input == meant).map(String::as_str)
    }
}

/// Who knows the functions.
pub trait Known {
    fn lookup(&self, function: &str) -> Lookup;

    /// Names that a mistyped one may have meant.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Nobody does: every function may be there.
#[derive(Debug, Clone, Copy)]
pub struct Offline;

impl Known for Offline {
    fn lookup(&self, _: &str) -> Lookup {
        Lookup::Open
    }
}

/// What became of a text.
#[derive(Debug)]
pub struct Checked {
    /// None where there is an error.
    pub program: Option<Program>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error)
    }

    /// As people read it, one after the other.
    pub fn render(&self, name: &str) -> String {
        self.diagnostics.iter().map(|found| found.render(name)).collect::<Vec<_>>().join("\n")
    }
}

/// Reads `text`, whose flow `main` is to be run: the last one, where none is named.
pub fn check(text: &str, main: Option<&str>, known: &dyn Known) -> Checked {
    let mut findings = Findings::new(text);
    if text.len() > LONGEST {
        findings.error(&(0..0), format!("the text has {} bytes, and may have {LONGEST}", text.len()));
        return Checked { program: None, diagnostics: findings.finish() };
    }
    let module = parser::parse(text, &mut findings);
    // What a text that cannot be read means is guesswork: faults of its grammar come first.
    let program = if findings.has_errors() { None } else { check::program(&module, main, known, &mut findings) };
    let program = program.filter(|_| !findings.has_errors());
    Checked { program, diagnostics: findings.finish() }
}
