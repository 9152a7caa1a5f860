//! A folder for a measurement, which goes with it, however that ends: a small process waits for the bench's end, and removes it.

use crate::error::{BenchError, io};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Waits for the end of its input. Who ends with the bench may write there a moment longer.
const KEEP: &str = "trap '' INT HUP TERM; cat > /dev/null; \
    for turn in $(seq 500); do rm -rf -- \"$0\" && exit; sleep 0.01; done";

#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    keeper: Child,
}

impl Scratch {
    pub fn new() -> Result<Self, BenchError> {
        Self::make().map_err(io("a folder for the measurement could not be made"))
    }

    fn make() -> io::Result<Self> {
        let made = TempDir::with_prefix("lichen-bench-")?;
        let keeper = Command::new("sh").args(["-c", KEEP]).arg(made.path()).stdin(Stdio::piped()).spawn()?;
        Ok(Self { folder: made.keep(), keeper })
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // One that was killed leaves the folder, and nothing else.
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_gone_with_what_was_put_there() {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.path().to_owned();
        std::fs::create_dir(folder.join("within")).unwrap();
        std::fs::write(folder.join("within/file"), "x").unwrap();
        drop(scratch);
        assert!(!folder.exists());
    }
}
