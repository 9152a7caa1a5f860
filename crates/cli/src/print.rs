//! Tables for people and JSON for programs.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::io::{self, Write};

/// For whom to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// The option of every verb that prints.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// Nobody reads standard output any more (`lichen ls | head -1`): the verb is done.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads what is printed")]
pub struct Unheard;

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unheard.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a JSON document.
pub fn json(value: &Value) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints bytes as they are, and ends the line where they are text.
pub fn answer(answer: &[u8]) -> anyhow::Result<()> {
    bytes(&[answer, end_of(answer)].concat())
}

fn end_of(answer: &[u8]) -> &'static [u8] {
    let is_over = answer.ends_with(b"\n") || std::str::from_utf8(answer).is_err();
    if is_over { b"" } else { b"\n" }
}

/// Rows of cells under headings.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text: columns as wide as their widest cell, two spaces between them; columns of numbers to the right.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric: Vec<bool> = (0..columns).map(|c| self.is_numeric(c)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (c, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[c] - cell.chars().count());
                let (before, after) = if numeric[c] { (gap.as_str(), "") } else { ("", gap.as_str()) };
                line.extend([before, cell.as_str(), after, "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    }

    pub fn print(&self) -> anyhow::Result<()> {
        bytes(self.render().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_added_to_what_is_no_text() {
        assert_eq!([&b"a"[..], b"a\n", b"", b"\xff\xfe"].map(end_of), [&b"\n"[..], b"", b"\n", b""]);
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "MEMORY", "NOTE"]);
        table.row(["greet".into(), "128 MiB".into(), "ok".into()]);
        table.row(["s".into(), "1024 MiB".into(), String::new()]);
        assert_eq!(table.render(), "NAME     MEMORY  NOTE\ngreet   128 MiB  ok\ns      1024 MiB\n");
    }
}
