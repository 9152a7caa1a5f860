//! One state of a function, as the registry has it: `$LATEST` at some moment, or a version, which never changes.

use super::settings::{self, SettingsError};
use crate::codestore::{CodeId, CodeStore};
use crate::function::Function;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Whose function, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId {
    pub account: String,
    pub region: String,
    pub name: String,
}

impl FunctionId {
    /// The function's ARN, without a version.
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.region, self.account, self.name)
    }
}

/// What can be changed of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The function's configuration in Lambda's words, members that Lichen does not know included.
    pub settings: Map<String, Value>,
    pub tags: Map<String, Value>,
    pub code: CodeId,
    /// Bytes of the zip file.
    pub code_bytes: u64,
    /// Reserved concurrency.
    pub reserved: Option<u32>,
}

/// One state of a function; the next state is another entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: FunctionId,
    pub content: Content,
    /// A published version's number; nothing for `$LATEST`.
    pub version: Option<u64>,
    /// Changes with every write.
    pub revision: String,
    /// Changes when code or settings do; the [`Function::revision`].
    pub generation: String,
    /// Milliseconds since 1970.
    pub modified_ms: u64,
    /// Its layers' code, put together.
    pub layers: Option<CodeId>,
    /// The same, as dispatch wants it.
    pub function: Arc<Function>,
}

impl Entry {
    /// `$LATEST`, or the version's number.
    pub fn version_name(&self) -> &str {
        &self.function.key.version
    }

    /// Whether its instances serve one tenant each, so that callers have to name theirs.
    pub fn is_per_tenant(&self) -> bool {
        settings::is_per_tenant(&self.content.settings)
    }

    /// The code that its instances are shown.
    pub fn shown(&self) -> impl Iterator<Item = CodeId> {
        [Some(self.content.code), self.layers].into_iter().flatten()
    }

    /// The ARN with the version.
    pub fn qualified_arn(&self) -> String {
        format!("{}:{}", self.id.arn(), self.version_name())
    }
}

/// An entry but for what follows from it.
pub(super) struct Row {
    pub id: FunctionId,
    pub content: Content,
    pub version: Option<u64>,
    pub revision: String,
    pub generation: String,
    pub modified_ms: u64,
}

impl Row {
    /// The code that an entry of it would be shown, as far as that can be told.
    pub fn code(&self) -> impl Iterator<Item = CodeId> {
        [Some(self.content.code), settings::layers(&self.content).ok().flatten()].into_iter().flatten()
    }

    pub fn into_entry(self, code: &CodeStore) -> Result<Entry, SettingsError> {
        let layers = settings::layers(&self.content)?;
        let mut function = settings::function(&self.id, &self.content, self.version, &self.generation, code)?;
        function.layers = layers.map(|layers| code.folder(layers));
        function.kind = settings::kind_within(&function);
        let Self { id, content, version, revision, generation, modified_ms } = self;
        Ok(Entry { id, content, version, revision, generation, modified_ms, layers, function: Arc::new(function) })
    }
}
