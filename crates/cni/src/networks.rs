//! What is asked of the daemon of networks (`lichen net`).

use crate::namespace;
use net::split::Network;
pub use net::split::client::AskError;
use net::split::client::{self, Answer, Request, Status};
use std::path::{Path, PathBuf};

/// Who makes networks.
pub trait Networks {
    /// Makes a network. One of this name is there already: it is the same, or a failure.
    fn make(&self, network: &Network) -> Result<(), AskError>;

    /// Takes a network apart; one that is not there has been.
    fn remove(&self, name: &str) -> Result<(), AskError>;

    /// What is known of all networks.
    fn all(&self) -> Result<Vec<Status>, AskError>;

    /// Whether a half has its link, as it was made.
    fn has_link(&self, namespace: &Path, link: &str) -> bool;
}

/// The daemon, by its folder.
pub struct Daemon(PathBuf);

impl Daemon {
    /// None: where it is if nobody says otherwise.
    pub fn at(folder: Option<&Path>) -> Self {
        Self(folder.unwrap_or(Path::new(client::FOLDER)).to_owned())
    }
}

impl Networks for Daemon {
    fn make(&self, network: &Network) -> Result<(), AskError> {
        client::ask(&self.0, &Request::Join(network.clone())).map(drop)
    }

    fn remove(&self, name: &str) -> Result<(), AskError> {
        client::ask(&self.0, &Request::Leave { network: name.to_owned() }).map(drop)
    }

    fn all(&self) -> Result<Vec<Status>, AskError> {
        match client::ask(&self.0, &Request::List)? {
            Answer::Networks(networks) => Ok(networks),
            _ => Err(AskError::Answer),
        }
    }

    fn has_link(&self, namespace: &Path, link: &str) -> bool {
        namespace::has_link(namespace, link).unwrap_or(false)
    }
}
