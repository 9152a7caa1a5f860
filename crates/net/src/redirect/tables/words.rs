//! The words of a line: with quotation marks where there are blanks in them, and a backslash before those that are meant.

use std::str::Chars;

pub(super) struct Words<'a>(Chars<'a>);

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self(line.chars())
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let first = self.0.find(|c| *c != ' ')?;
        let quoted = first == '"';
        let mut word = String::new();
        if !quoted {
            word.push(first);
        }
        while let Some(c) = self.0.next() {
            match c {
                '"' if quoted => break,
                ' ' if !quoted => break,
                '\\' if quoted => word.extend(self.0.next()),
                c => word.push(c),
            }
        }
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_divide_but_in_quotation_marks() {
        let words = |line| Words::new(line).collect::<Vec<_>>();
        assert_eq!(
            words("-m comment  --comment \"a \\\"b\\\" c\" -j X"),
            ["-m", "comment", "--comment", "a \"b\" c", "-j", "X"]
        );
        assert_eq!(words("\"\" x"), ["", "x"]);
        assert!(words("  ").is_empty());
        assert_eq!(words("\"open"), ["open"]);
    }
}
