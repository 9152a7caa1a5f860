//! `lichen new`: a folder to begin a function with: code, how it is built, and five lines on how it is run.
//!
//! It asks nothing and fetches nothing. A folder that is there and not empty is left alone.

use crate::print;
use crate::templates::Template;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// As AWS Lambda has it.
const NAME_MAX: usize = 64;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The function's name, and that of its folder
    name: String,
    /// What to begin with
    #[arg(long, value_enum)]
    template: Template,
    /// Where to make the folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    within: PathBuf,
}

pub fn act(arguments: Arguments) -> Verdict {
    let Arguments { name, template, within } = arguments;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('-') || !name.chars().all(good) {
        return Err(wrong(format!(
            "{name:?} is no name for a function: 1 to {NAME_MAX} letters, digits, - and _, such as my-function"
        )));
    }
    let folder = within.join(&name);
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(wrong(format!("{} is there already: choose another name, or remove it", folder.display())));
    }
    let words = template.words(&name);
    for (path, text) in template.entries() {
        let text = words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
        write(&folder.join(path), &text).with_context(|| format!("cannot write {}", folder.join(path).display()))?;
    }
    let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    print::line(&format!("{} is made. In it:\n", folder.display()))?;
    for line in readme.lines().filter(|line| line.starts_with("    ")) {
        print::line(line)?;
    }
    Ok(Exit::Done)
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(file, text)
}
