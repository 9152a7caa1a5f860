//! Bytecode of a package's own Python modules, so that no sandbox has to make it: a new instance that finds none spends a
//! fifth of its start on the smallest module, and far more on others.
//!
//! It is never checked against its source, as a package keeps no times; and it is the same for the same sources. Where it
//! cannot be made (no Python here, a syntax error) there is none: a node says then what is wrong.

use super::files::{Content, Files};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Adds the bytecode of all modules.
pub fn add(files: &mut Files) -> io::Result<()> {
    let modules: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".py")).collect();
    if modules.is_empty() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    for (name, content) in modules {
        let Content::File { path, .. } = content else { continue };
        let copy = place.path().join(name);
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(path, copy)?;
    }
    if !compile(place.path()) {
        return Ok(());
    }
    let Ok(made) = Files::of_cache(place.path()) else { return Ok(()) };
    let bytecode = made.iter().filter_map(|(name, content)| match content {
        Content::File { path, .. } if name.ends_with(".pyc") => {
            Some(fs::read(path).map(|bytes| (name.to_owned(), Content::Bytes(bytes))))
        }
        _ => None,
    });
    files.add_below(Files::of_entries(bytecode.collect::<io::Result<Vec<_>>>()?));
    Ok(())
}

/// Whether there was somebody to do it.
fn compile(folder: &Path) -> bool {
    let mut python = Command::new("python3");
    // The order of a set in bytecode is that of its members' hashes, which are not to be drawn by lot.
    python.env("PYTHONHASHSEED", "0").env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    python.args(["-s", "-P", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
    python.arg("-s").arg(folder).args(["-p", "/var/task"]).arg(folder);
    python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok()
}
