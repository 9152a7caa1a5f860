//! The house rules that a compiler does not know, as a test that fails. One file per family of rules:
//!
//! ```text
//!   tree ── File { text, code, comments } ──┬─ lengths   file-length, fn-length
//!     │        (masked by `mask`)           ├─ heads     head, unsafe
//!     │                                     ├─ names     name
//!     │                                     └─ bans      unfinished, marker, ignored-test, test-sleep, machine-path
//!     └── every manifest and every *.rs ────┬─ layers    layers, lints, anyhow
//!                                           └─ reach     dead-file
//! ```
//!
//! A finding is answered by a change of the code. Where the rule is wrong about a line, the line (or the one above it)
//! says so in a comment, with a reason: `tidy: allow RULE: why`.
//!
//! It reads text and guesses no types: what needs the compiler's knowledge is a lint (`clippy.toml`, workspace lints).

mod bans;
mod heads;
mod layers;
mod lengths;
mod mask;
mod names;
mod reach;
mod scan;
mod tree;

use std::fmt;
use std::path::Path;

use crate::header;
use tree::{File, Tree};

/// One broken rule: where, which, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the repository, with `/`.
    pub file: String,
    /// From 1.
    pub line: usize,
    pub rule: &'static str,
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.file, self.line, self.rule, self.advice)
    }
}

#[derive(Debug)]
pub struct Report {
    pub files: usize,
    pub findings: Vec<Finding>,
}

/// A file that is made of others and is not what they say.
fn stale(file: String) -> Finding {
    Finding { file, line: 1, rule: "made", advice: "it is not what its sources say: run `cargo xtask header`".into() }
}

/// Checks every rule on every file below `root`. Fails only when the tree cannot be read.
pub fn run(root: &Path) -> anyhow::Result<Report> {
    let tree = Tree::read(root)?;
    let mut findings = layers::check(&tree)?;
    findings.extend(reach::check(&tree)?);
    findings.extend(header::stale(root)?.into_iter().map(stale));
    for file in &tree.files {
        findings.extend(check_file(file));
    }
    findings.retain(|finding| !tree.file(&finding.file).is_some_and(|file| is_allowed(file, finding)));
    findings.sort();
    Ok(Report { files: tree.files.len(), findings })
}

fn check_file(file: &File) -> Vec<Finding> {
    [lengths::check(file), heads::check(file), names::check(file), bans::check(file)].concat()
}

/// Whether the finding's line, or the one above it, carries `tidy: allow RULE: reason`.
fn is_allowed(file: &File, finding: &Finding) -> bool {
    let marker = format!("tidy: allow {}:", finding.rule);
    let first = finding.line.saturating_sub(2);
    file.text.lines().skip(first).take(finding.line - first).any(|line| {
        line.split_once(&marker).is_some_and(|(_, reason)| reason.chars().filter(|c| c.is_alphabetic()).count() >= 10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(line: usize) -> Finding {
        Finding { file: "a.rs".into(), line, rule: "test-sleep", advice: "wait for the event".into() }
    }

    #[test]
    fn an_allowance_needs_the_rule_and_a_reason() {
        let file = File::new(
            "a.rs",
            "// tidy: allow test-sleep: the handler under test is the sleeper\nsleep(1);\nsleep(2);\n",
        );
        assert!(is_allowed(&file, &finding(1)));
        assert!(is_allowed(&file, &finding(2)));
        assert!(!is_allowed(&file, &finding(3)));
        let bare = File::new("a.rs", "// tidy: allow test-sleep:\nsleep(1);\n");
        assert!(!is_allowed(&bare, &finding(2)));
        let other = File::new("a.rs", "// tidy: allow name: it is what the kernel calls it\nsleep(1);\n");
        assert!(!is_allowed(&other, &finding(2)));
    }

    #[test]
    fn a_finding_prints_as_one_line() {
        assert_eq!(finding(7).to_string(), "a.rs:7: test-sleep: wait for the event");
    }
}
