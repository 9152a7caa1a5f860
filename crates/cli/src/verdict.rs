//! How a verb ends: the four exit codes, and which error means which.
//!
//! Every error is the platform's fault until it is marked as [`wrong`]: something the person who typed can put right.

use crate::print::Unheard;
use std::fmt;
use std::process::ExitCode;

/// What the shell is told: the worse, the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// What was asked is done.
    Done,
    /// The function ran, and failed.
    FunctionFailed,
    /// What was asked cannot be done as asked.
    WrongUsage,
    /// The platform could not do it.
    PlatformFailed,
    /// What the program says that was run like a command.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::FunctionFailed => 1,
            Exit::WrongUsage => 2,
            Exit::PlatformFailed => 3,
            Exit::Program(code) => code,
        })
    }
}

/// What every verb answers.
pub type Verdict = anyhow::Result<Exit>;

/// Marks an error as one of usage.
#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// An error of usage: says what was asked, what is wrong with it, what to do.
pub fn wrong(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Wrong(message.into()))
}

/// Tells the person and answers the exit code.
pub fn conclude(verdict: Verdict) -> Exit {
    match verdict {
        Ok(exit) => exit,
        Err(error) if error.is::<Unheard>() => Exit::Done,
        Err(error) => {
            eprintln!("lichen: {error:#}");
            if error.is::<Wrong>() { Exit::WrongUsage } else { Exit::PlatformFailed }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_is_the_platforms_unless_marked() {
        assert_eq!(conclude(Ok(Exit::FunctionFailed)), Exit::FunctionFailed);
        assert_eq!(conclude(Err(anyhow::anyhow!("no power"))), Exit::PlatformFailed);
        assert_eq!(conclude(Err(wrong("no such file"))), Exit::WrongUsage);
        assert_eq!(conclude(Err(wrong("no such file")).context("cannot deploy x")), Exit::WrongUsage);
    }
}
