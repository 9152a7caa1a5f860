//! `lichen rm`: removes functions. Each name has its own fate; the worst one decides the exit code.

use crate::node::{Endpoint, explain};
use crate::verdict::{Exit, Verdict, conclude};
use clap::Args;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The functions
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    let client = arguments.node.client()?;
    let remove = |name: &String| match client.delete_function(name) {
        Ok(()) => Exit::Done,
        Err(error) => conclude(Err(explain(error))),
    };
    Ok(arguments.names.iter().map(remove).max().unwrap_or(Exit::Done))
}
