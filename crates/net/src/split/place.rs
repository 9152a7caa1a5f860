//! Standing in a namespace, for as long as it takes.
//!
//! A thread stands in one network namespace, and so does what it starts: each visit has a thread of its own, which ends
//! where it stands. Nothing can go astray.

use os::ns::{self, Kinds};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A network namespace. It stays as long as this.
#[derive(Debug)]
pub struct Place(File);

impl Place {
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    pub fn descriptor(&self) -> &File {
        &self.0
    }

    /// Does something there.
    pub fn visit<R: Send>(&self, what: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
        std::thread::scope(|scope| {
            let visit = move || {
                ns::enter(&self.0, Kinds::NET)?;
                what()
            };
            let thread = std::thread::Builder::new().name("lichen-visit".to_owned()).spawn_scoped(scope, visit)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Has nft do what the text says, all of it or nothing.
    pub fn filter(&self, text: &str) -> io::Result<()> {
        self.visit(|| nft(text))
    }
}

/// Has nft do it where the calling thread stands.
pub fn nft(text: &str) -> io::Result<()> {
    let command = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = command.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no program nft: install nftables"),
        _ => error,
    })?;
    if let Some(mut input) = child.stdin.take() {
        // One that has ended already says why, below.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("nft refuses: {}", said.lines().next().unwrap_or_default())))
}
