//! Layers: versions of packages that functions are shown beside their code. A version never changes but for who may use
//! it; a number is given to one version only, even when that is deleted.
//!
//! Which functions use a layer is in their settings, by the hash of its code: a version that is deleted goes from here, and
//! its code stays until no function has it.

use super::{Registry, StoreError, rows};
use crate::codestore::CodeId;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError};
use thiserror::Error;
use uuid::Uuid;

/// Whose layer, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId {
    pub account: String,
    pub region: String,
    pub name: String,
}

impl LayerId {
    /// The layer's ARN, without a version.
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:layer:{}", self.region, self.account, self.name)
    }
}

/// What a version is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerContent {
    /// What its publisher said of it, in Lambda's words.
    pub value: Map<String, Value>,
    pub code: CodeId,
    /// Bytes of the zip file.
    pub code_bytes: u64,
}

/// Who may use a version.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPolicy {
    pub value: Map<String, Value>,
    /// Changes with every write.
    pub revision: String,
}

/// A version of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerVersion {
    pub id: LayerId,
    pub number: u64,
    pub content: LayerContent,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub policy: Option<LayerPolicy>,
}

impl LayerVersion {
    /// The ARN with the version.
    pub fn arn(&self) -> String {
        format!("{}:{}", self.id.arn(), self.number)
    }
}

/// Why a version's policy was not changed; `E` is why the change itself could not be made.
#[derive(Debug, Error)]
pub enum PolicyError<E> {
    #[error("Layer version {}:{} does not exist.", .0.arn(), .1)]
    NotFound(LayerId, u64),
    #[error("the change was refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All layers.
#[derive(Default)]
pub struct Layers {
    pub(super) layers: BTreeMap<LayerId, Layer>,
}

/// A layer.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The highest number that was given to a version.
    pub(super) last: u64,
    pub(super) versions: BTreeMap<u64, Arc<LayerVersion>>,
}

impl Layers {
    /// The code that versions are made of.
    pub(super) fn code(&self) -> impl Iterator<Item = CodeId> {
        self.layers.values().flat_map(|layer| layer.versions.values()).map(|version| version.content.code)
    }
}

impl Registry {
    /// Adds a version. Blocks until it is on disk.
    pub fn publish_layer(&self, id: LayerId, content: LayerContent) -> Result<Arc<LayerVersion>, StoreError> {
        let writer = self.writer();
        let number = self.layers().layers.get(&id).map_or(0, |layer| layer.last) + 1;
        let version = LayerVersion { id, number, content, created_ms: api::time::now_ms(), policy: None };
        rows::write_layer(&writer.connection, &version)?;
        let version = Arc::new(version);
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let layer = layers.layers.entry(version.id.clone()).or_default();
        layer.last = number;
        layer.versions.insert(number, version.clone());
        Ok(version)
    }

    /// A version of a layer.
    pub fn layer_version(&self, id: &LayerId, number: u64) -> Option<Arc<LayerVersion>> {
        self.layers().layers.get(id)?.versions.get(&number).cloned()
    }

    /// The versions of a layer, the oldest first.
    pub fn layer_versions(&self, id: &LayerId) -> Vec<Arc<LayerVersion>> {
        self.layers().layers.get(id).map(|layer| layer.versions.values().cloned().collect()).unwrap_or_default()
    }

    /// The names of an account's layers in a region that have versions, in their order.
    pub fn layer_names(&self, account: &str, region: &str) -> Vec<String> {
        let first = LayerId { account: account.to_owned(), region: region.to_owned(), name: String::new() };
        let layers = self.layers();
        let from = layers.layers.range((Bound::Included(first), Bound::Unbounded));
        let here = from.take_while(|(id, _)| id.account == account && id.region == region);
        here.filter(|(_, layer)| !layer.versions.is_empty()).map(|(id, _)| id.name.clone()).collect()
    }

    /// Bytes of the packages of an account's layers in a region, all versions.
    pub fn layer_bytes(&self, account: &str, region: &str) -> u64 {
        let layers = self.layers();
        let here = layers.layers.iter().filter(|(id, _)| id.account == account && id.region == region);
        here.flat_map(|(_, layer)| layer.versions.values()).map(|version| version.content.code_bytes).sum()
    }

    /// Deletes a version: whether there was one. Blocks until that is on disk.
    pub fn delete_layer_version(&self, id: &LayerId, number: u64) -> Result<bool, StoreError> {
        let writer = self.writer();
        if self.layer_version(id, number).is_none() {
            return Ok(false);
        }
        rows::delete_layer(&writer.connection, id, number)?;
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = layers.layers.get_mut(id) {
            layer.versions.remove(&number);
        }
        Ok(true)
    }

    /// Changes who may use a version: `change` is shown its policy, and answers what is to be. Blocks until it is on disk.
    pub fn change_layer_policy<E>(
        &self,
        id: &LayerId,
        number: u64,
        change: impl FnOnce(Option<&LayerPolicy>) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Arc<LayerVersion>, PolicyError<E>> {
        let writer = self.writer();
        let old = self.layer_version(id, number).ok_or_else(|| PolicyError::NotFound(id.clone(), number))?;
        let value = change(old.policy.as_ref()).map_err(PolicyError::Refused)?;
        let policy = value.map(|value| LayerPolicy { value, revision: Uuid::new_v4().to_string() });
        let version = Arc::new(LayerVersion { policy, ..(*old).clone() });
        rows::write_layer_policy(&writer.connection, &version).map_err(StoreError::from)?;
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = layers.layers.get_mut(id) {
            layer.versions.insert(number, version.clone());
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests;
