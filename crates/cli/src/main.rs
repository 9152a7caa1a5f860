//! The `lichen` binary: a table of contents of its verbs. What a verb does is in its own module.
#![forbid(unsafe_code)]

mod broker;
mod command;
mod doctor;
mod installer;
mod mirror;
mod node;
mod package;
mod print;
mod progress;
mod pu;
mod supervisor;
mod templates;
mod verb;
mod verdict;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        eprint!("{}", command::GREETING);
        return verdict::Exit::WrongUsage.into();
    }
    let typed = command::Lichen::parse();
    verdict::conclude(typed.verb.act()).into()
}
