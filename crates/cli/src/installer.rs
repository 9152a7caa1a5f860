//! Running the installers of languages (pip, npm), so that a person sees how it goes.

use crate::progress::Step;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Lines of an installer's output that are shown when it fails.
const LAST_LINES: usize = 15;

/// Runs an installer, showing its last line; answers the end of what it said if it fails.
pub fn follow(command: &mut Command, step: &Step) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |error: std::io::Error| format!("cannot run {program}: {error}");
    let (reader, writer) = std::io::pipe().map_err(cannot)?;
    let both = writer.try_clone().map_err(cannot)?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(both).spawn().map_err(cannot)?;
    // The command holds the pipe's writing ends: they would keep the reader waiting.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        step.note(line.trim());
        last.push_back(line);
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(last.make_contiguous().join("\n")),
        Err(error) => Err(cannot(error)),
    }
}
