//! What goes wrong, with the numbers that CNI gives it.

use crate::{configuration, namespace, networks, state};
use serde_json::json;
use std::error::Error;
use std::io;
use thiserror::Error;

/// Ours begin at 100.
const ATTACHED: u32 = 100;
const NOT_AS_MADE: u32 = 101;
const NETWORK: u32 = 102;
const NAMESPACE: u32 = 103;

#[derive(Debug, Error)]
pub enum Failure {
    #[error("{0} is not set, or not as it must be")]
    Variable(&'static str),
    #[error("CNI_NETNS is the network namespace in which this plugin was started: the node's own")]
    Own,
    #[error("the configuration cannot be read from standard input")]
    Input(#[source] io::Error),
    #[error("a configuration of more than a mebibyte")]
    InputTooLong,
    #[error(transparent)]
    Configuration(#[from] configuration::ReadError),
    #[error("this container has this interface on this network already: DEL it first")]
    Attached,
    #[error("{0}")]
    NotAsMade(&'static str),
    #[error("the peer's network namespace: {0}")]
    Namespace(#[from] namespace::NamespaceError),
    #[error("the state folder: {0}")]
    State(#[from] state::StateError),
    #[error(transparent)]
    Network(#[from] networks::AskError),
    #[error("the daemon of networks does not answer: start lichen net serve")]
    Unavailable(#[source] networks::AskError),
    #[error("{left} of the attachments that are gone could not be removed; the first: {first}")]
    Collection { left: usize, first: Box<Self> },
}

impl Failure {
    /// CNI's number.
    fn code(&self) -> u32 {
        use configuration::ReadError as Read;
        match self {
            Self::Variable(_) => 4,
            Self::Input(_) => 5,
            Self::Configuration(Read::Json(_)) => 6,
            Self::Configuration(Read::Version(_) | Read::TooOld { .. }) => 1,
            Self::Configuration(Read::Ours { .. }) => 2,
            Self::Configuration(_) | Self::InputTooLong => 7,
            Self::Own => 8,
            Self::Attached => ATTACHED,
            Self::NotAsMade(_) => NOT_AS_MADE,
            Self::Namespace(_) => NAMESPACE,
            Self::State(state::StateError::Busy) => 11,
            Self::State(_) => 5,
            Self::Network(
                networks::AskError::NoDaemon { .. } | networks::AskError::Gone(_) | networks::AskError::Silent,
            ) => 11,
            Self::Network(_) => NETWORK,
            Self::Unavailable(_) => 50,
            Self::Collection { first, .. } => first.code(),
        }
    }

    /// As the caller wants it, in the version that it speaks.
    pub fn to_json(&self, version: &str) -> String {
        let mut details = Vec::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            details.push(error.to_string());
            cause = error.source();
        }
        let told = json!({
            "cniVersion": version,
            "code": self.code(),
            "msg": self.to_string(),
            "details": details.join(": "),
        });
        format!("{told}\n")
    }
}
