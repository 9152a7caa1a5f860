//! Which build a library or a broker is of, as they tell each other when they meet.
//!
//! ```text
//!   lichen socket 1.5 0.1.0
//!                 │ │ └ the build, for people; whatever follows is for builds to come
//!                 │ └ how memory is laid out
//!                 └ what is said between a process and its broker
//! ```
//!
//! Two understand each other whose two numbers are the same: what a build changes without changing them, the others need not know of.

use crate::layout;
use std::fmt;

/// What a process and its broker say to each other. Changes with every change that the other side has to know of.
pub const MEETING: u32 = 1;
/// Bytes of what a build says of itself that are looked at.
const SHOWN: usize = 64;

/// What this build says of itself.
pub fn own() -> String {
    format!("{MEETING}.{} {}", layout::VERSION, env!("CARGO_PKG_VERSION"))
}

/// The same, as people are told.
pub fn name() -> String {
    format!("{} ({MEETING}.{})", env!("CARGO_PKG_VERSION"), layout::VERSION)
}

/// What a build that is not understood has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other(String);

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this build understands one that says this of itself.
pub fn understands(said: &[u8]) -> Result<(), Other> {
    let text = String::from_utf8_lossy(&said[..said.len().min(SHOWN)]);
    let mut words = text.split_ascii_whitespace();
    let numbers = words.next().unwrap_or_default();
    // The first builds have said "1", and had the layout 4.
    let (meeting, layout) = numbers.split_once('.').unwrap_or((numbers, "4"));
    let is = |text: &str, number: u32| text.parse() == Ok(number);
    if is(meeting, MEETING) && is(layout, layout::VERSION) {
        return Ok(());
    }
    let shown = |word: &str| word.chars().filter(char::is_ascii_graphic).collect::<String>();
    let name = words.next().map_or("without a name".to_owned(), shown);
    Err(Other(format!("{name} ({})", shown(numbers))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_that_differ_in_what_matters_are_not_understood() {
        assert_eq!(understands(own().as_bytes()), Ok(()));
        let numbers = format!("{MEETING}.{}", layout::VERSION);
        for said in [&*numbers, &format!("{numbers} 9.9.9 and more")] {
            assert_eq!(understands(said.as_bytes()), Ok(()), "{said}");
        }
        for (said, shown) in [
            ("2.5 0.9.0", "0.9.0 (2.5)"),
            ("1.6", "without a name (1.6)"),
            ("1", "without a name (1)"),
            ("", "without a name ()"),
            ("1.5.1", "without a name (1.5.1)"),
            ("7\u{1b} \u{1b}[2Jx", "[2Jx (7)"),
        ] {
            assert_eq!(understands(said.as_bytes()).unwrap_err().to_string(), shown);
        }
        assert!(understands(&[255; 400]).is_err());
    }
}
