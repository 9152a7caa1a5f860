//! The way out of sandboxes that may leave: opened with the first of them, closed with the worker.

use crate::PrepareError;
use crate::spec::Network;
use net::egress::resolver::Resolver;
use net::egress::{AttachError, Egress, Settings};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The worker's way out, for all its sandboxes.
pub(super) struct WayOut {
    /// Without root there is none.
    needs_root: bool,
    /// Why there is none although there is root; nothing where there is one.
    closed: Option<String>,
    resolver: Resolver,
    egress: Mutex<Option<Arc<Egress>>>,
}

impl WayOut {
    pub fn new(needs_root: bool, closed: Option<String>, resolver: Resolver) -> Self {
        Self { needs_root, closed, resolver, egress: Mutex::default() }
    }

    /// What a sandbox with this network is to be attached to.
    pub async fn of(&self, network: Network) -> Result<Option<Arc<Egress>>, PrepareError> {
        match network {
            Network::None => Ok(None),
            Network::Egress if self.needs_root => Err(PrepareError::EgressNeedsRoot),
            Network::Egress => match &self.closed {
                Some(why) => Err(PrepareError::EgressClosed(why.as_str().into())),
                None => self.open().await.map(Some),
            },
        }
    }

    /// It is tried again where it could not be opened, or has ended.
    async fn open(&self) -> Result<Arc<Egress>, PrepareError> {
        let mut egress = self.egress.lock().await;
        if let Some(open) = egress.as_ref().filter(|egress| egress.is_open()) {
            return Ok(open.clone());
        }
        let opened = Egress::open(Settings::new(self.resolver.clone())).await.map_err(PrepareError::Egress)?;
        Ok(egress.insert(Arc::new(opened)).clone())
    }

    pub async fn close(&self) {
        if let Some(egress) = self.egress.lock().await.take() {
            egress.close().await;
        }
    }
}

/// Gives the network of a sandbox's or a slot's process 1 the way out.
pub(super) async fn attach(egress: &Egress, process: &OwnedFd) -> Result<(), AttachError> {
    let process = process.try_clone().map_err(AttachError::Enter)?;
    egress.attach(process).await.map(drop)
}
