//! Says what takes long while it takes long: a spinner where a person watches, one line per step elsewhere, nothing when
//! asked to be quiet. All of it goes to standard error: standard output belongs to answers.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// One step of long work. It disappears when dropped.
pub struct Step {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Step {
    /// Begins a step, such as "installing requirements.txt".
    pub fn begin(what: &str, quiet: bool) -> Self {
        let watched = std::io::stderr().is_terminal() && !quiet;
        if !watched && !quiet {
            eprintln!("{what} …");
        }
        Self { bar: watched.then(|| spinner(what)), quiet }
    }

    /// Says how it goes: the line replaces the one before.
    pub fn note(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.to_owned());
        }
    }

    /// Says what part of it begins: worth a line of its own where nobody watches.
    pub fn part(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if !self.quiet => eprintln!("  {what} …"),
            None => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.green} {prefix} {elapsed:.dim} {wide_msg:.dim}")
        .expect("the template above is well-formed");
    let bar = ProgressBar::new_spinner().with_style(style).with_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(80));
    bar
}
