//! `lichen completions`: for bash, zsh, fish and others, from the same table as the help.

use crate::command::Lichen;
use crate::print;
use crate::verdict::{Exit, Verdict};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell, such as bash: `lichen completions bash > /etc/bash_completion.d/lichen`
    #[arg(value_enum)]
    shell: Shell,
}

pub fn act(arguments: Arguments) -> Verdict {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Lichen::command(), "lichen", &mut script);
    print::bytes(&script)?;
    Ok(Exit::Done)
}
