//! The apps of `bench/apps`, which travel inside this program, laid out as in the repository: some events are made from
//! files of others.

use crate::error::{BenchError, io};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const PHOTO: &[u8] = include_bytes!("../../../examples/thumbnail/photo.jpg");

/// One app and its files.
pub struct App {
    pub name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! app {
    ($name:literal: $($file:literal),*) => {
        App { name: $name, files: &[$(($file, include_str!(concat!("../../apps/", $name, "/", $file)))),*] }
    };
}

/// All of them.
pub const APPS: &[App] = &[
    app!("chameleon": "app.py", "requirements.txt", "event.json"),
    app!("dd": "app.py", "event.json"),
    app!("gzip": "app.py", "event.py"),
    app!("image_resize": "app.py", "requirements.txt", "event.py"),
    app!("linpack": "app.py", "requirements.txt", "event.json"),
    app!("mapreduce": "app.py", "event.py"),
    app!("matmul": "app.py", "requirements.txt", "event.json"),
    app!("pyaes": "app.py", "requirements.txt", "event.json"),
    app!("video": "app.py", "requirements.txt", "event.py"),
];

/// Their folders and events.
pub struct Apps {
    folder: TempDir,
    events: HashMap<&'static str, Vec<u8>>,
}

impl Apps {
    /// `path` has a Python with the packages that events are made with.
    pub fn new(path: &str) -> Result<Self, BenchError> {
        let folder = TempDir::with_prefix("lichen-bench-").map_err(io("a temporary folder could not be made"))?;
        let mut apps = Self { folder, events: HashMap::new() };
        write(&apps.folder.path().join("examples/thumbnail/photo.jpg"), PHOTO)?;
        for app in APPS {
            for (name, text) in app.files {
                write(&apps.folder(app).join(name), text.as_bytes())?;
            }
            let event = make_event(&apps.folder(app), path)?;
            apps.events.insert(app.name, event);
        }
        Ok(apps)
    }

    pub fn folder(&self, app: &App) -> PathBuf {
        self.folder.path().join("bench/apps").join(app.name)
    }

    /// In one line.
    pub fn event(&self, app: &App) -> &[u8] {
        self.events.get(app.name).map_or(b"null", Vec::as_slice)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    made.map_err(io("an app's file could not be written"))
}

/// What `event.json` holds, or `event.py` prints.
fn make_event(folder: &Path, path: &str) -> Result<Vec<u8>, BenchError> {
    let text = match fs::read(folder.join("event.json")) {
        Ok(text) => text,
        Err(_) => printed(folder, path)?,
    };
    let event: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| BenchError::Broken(format!("the event in {} is no JSON: {error}", folder.display())))?;
    Ok(event.to_string().into_bytes())
}

fn printed(folder: &Path, path: &str) -> Result<Vec<u8>, BenchError> {
    let mut python = Command::new("python3");
    python.args(["-B", "event.py"]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    let done = python.output().map_err(|source| BenchError::Program { program: "python3".into(), source })?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(BenchError::Broken(format!("{} could not be run:\n{said}", folder.join("event.py").display())))
}
