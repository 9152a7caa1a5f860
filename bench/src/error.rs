//! Why a measurement could not be taken.

use api::client::CallError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// What ends a bench. Arms that this machine cannot run are left out instead, with a note.
#[derive(Debug, Error)]
pub enum BenchError {
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("{program:?} cannot be started")]
    Program { program: PathBuf, source: io::Error },
    #[error("a node for the measurement did not become ready; it said:\n{said}")]
    NotReady { said: String },
    #[error("the function {name} could not be deployed; `lichen deploy` said:\n{said}")]
    NotDeployed { name: String, said: String },
    #[error("the function {name} has no template of its own: {reason}")]
    NoTemplate { name: String, reason: String },
    #[error("the node refused a call")]
    Call(#[from] CallError),
    #[error("{who} did not answer")]
    Silent { who: String, source: io::Error },
    #[error("{who} answered with status {status}: {body}")]
    Refused { who: String, status: u16, body: String },
    #[error("{who} answered without telling its spans")]
    NoSpans { who: String },
    #[error("{language} functions need an interpreter, and there is none on the PATH")]
    NoInterpreter { language: &'static str },
    #[error("packages for the measurement could not be installed; the installer said:\n{said}")]
    NoPackages { said: String },
    #[error("{0}")]
    Broken(String),
}

/// `io::Error`s say what failed, but not what it was for.
pub fn io(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
    move |source| BenchError::Io { what, source }
}
