//! `lichen man`: a page for the program and one for each verb, from the same table as the help.

use crate::command::Lichen;
use crate::verdict::{Exit, Verdict, wrong};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to write to, such as /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn act(arguments: Arguments) -> Verdict {
    let folder = arguments.folder;
    std::fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(Lichen::command(), &folder))
        .map_err(|error| wrong(format!("cannot write man pages to {}: {error}", folder.display())))?;
    Ok(Exit::Done)
}
