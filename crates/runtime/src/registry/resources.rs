//! What an account has in a region beside functions and layers: to the registry named JSON objects; what they mean is the
//! gateway's business.

use super::{FunctionId, Registry, StoreError, rows};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError};
use thiserror::Error;

/// Kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    CapacityProvider,
    CodeSigning,
    Flow,
}

const WORDS: [(ResourceKind, &str); 3] = [
    (ResourceKind::CapacityProvider, "capacity-provider"),
    (ResourceKind::CodeSigning, "code-signing-config"),
    (ResourceKind::Flow, "flow"),
];

impl ResourceKind {
    /// As the database, and ARNs, call it.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// Whose resource, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    pub account: String,
    pub region: String,
    pub kind: ResourceKind,
    pub name: String,
}

impl ResourceId {
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:{}:{}", self.region, self.account, self.kind.word(), self.name)
    }
}

/// A resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub id: ResourceId,
    pub value: Map<String, Value>,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
}

/// Why a resource was not changed; `E` is why the change itself could not be made.
#[derive(Debug, Error)]
pub enum ChangeError<E> {
    #[error("the change was refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All resources.
pub type Resources = BTreeMap<ResourceId, Arc<Resource>>;

impl Registry {
    pub fn resource(&self, id: &ResourceId) -> Option<Arc<Resource>> {
        self.resources.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Whether a flow has this name: functions and flows are invoked alike.
    pub fn has_flow(&self, id: &FunctionId) -> bool {
        let FunctionId { account, region, name } = id.clone();
        self.resource(&ResourceId { account, region, kind: ResourceKind::Flow, name }).is_some()
    }

    /// An account's resources of a kind in a region, by name.
    pub fn resources(&self, account: &str, region: &str, kind: ResourceKind) -> Vec<Arc<Resource>> {
        let first = ResourceId { account: account.into(), region: region.into(), kind, name: String::new() };
        let resources = self.resources.read().unwrap_or_else(PoisonError::into_inner);
        let from = resources.range((Bound::Included(&first), Bound::Unbounded));
        let here = from.take_while(|(id, _)| id.account == account && id.region == region && id.kind == kind);
        here.map(|(_, resource)| resource.clone()).collect()
    }

    /// Changes a resource: `change` is shown what there is, and answers what is to be. Blocks until it is on disk.
    pub fn change_resource<E>(
        &self,
        id: ResourceId,
        change: impl FnOnce(Option<&Resource>) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Option<Arc<Resource>>, ChangeError<E>> {
        let writer = self.writer();
        let old = self.resource(&id);
        let value = change(old.as_deref()).map_err(ChangeError::Refused)?;
        let resource =
            value.map(|value| Arc::new(Resource { id: id.clone(), value, modified_ms: api::time::now_ms() }));
        match &resource {
            Some(resource) => rows::write_resource(&writer.connection, resource),
            None => rows::delete_resource(&writer.connection, &id),
        }
        .map_err(StoreError::from)?;
        let mut resources = self.resources.write().unwrap_or_else(PoisonError::into_inner);
        match &resource {
            Some(resource) => resources.insert(id, resource.clone()),
            None => resources.remove(&id),
        };
        Ok(resource)
    }
}
