//! Changes beyond a function's own state: versions published and deleted, and what hangs on a function.

use super::entry::{Entry, FunctionId, Row};
use super::facet::{Attached, Facet};
use super::record::{Qualified, Record};
use super::{PutError, Registry, SettingsError, StoreError, UpdateError, rows};
use crate::codestore::CodeId;
use serde_json::{Map, Value};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// What a caller knows of the state that is to become a version.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// In the place of the function's.
    pub description: Option<String>,
    /// The revision that the function must have.
    pub revision: Option<String>,
    /// The hash that its code must have.
    pub code: Option<Vec<u8>>,
}

/// Why no version was published.
#[derive(Debug, Error)]
pub enum PublishError {
    #[error("Function not found: {}", .0.arn())]
    NotFound(FunctionId),
    #[error("the function has changed since revision {expected}")]
    Revision { expected: String },
    #[error("the function's code has changed: it is {} now", found.hex())]
    Code { found: CodeId },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PutError> for PublishError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Settings(error) => Self::Settings(error),
            PutError::Store(error) => Self::Store(error),
        }
    }
}

/// Why a version stays.
#[derive(Debug, Error)]
pub enum RemoveError {
    #[error("Function not found: {}:{}", .0.arn(), .1)]
    NotFound(FunctionId, String),
    #[error(
        "Version {version} cannot be deleted: the alias {alias} points to it. Point the alias to another one first."
    )]
    Aliased { version: String, alias: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Registry {
    /// Makes the state of `$LATEST` a version; the version that is newest already where nothing has changed since.
    /// Answers also whether it is new. Blocks until it is on disk.
    pub fn publish(&self, id: &FunctionId, publication: Publication) -> Result<(Arc<Entry>, bool), PublishError> {
        let mut writer = self.writer();
        let record = self.index().get(id).cloned().ok_or_else(|| PublishError::NotFound(id.clone()))?;
        let latest = &record.latest;
        if let Some(expected) = publication.revision.filter(|expected| *expected != latest.revision) {
            return Err(PublishError::Revision { expected });
        }
        let found = latest.content.code;
        if publication.code.is_some_and(|wanted| wanted != found.bytes()) {
            return Err(PublishError::Code { found });
        }
        if let Some((_, newest)) = record.versions.last_key_value().filter(|(_, e)| e.generation == latest.generation) {
            return Ok((newest.clone(), false));
        }
        let number = record.last_version + 1;
        let mut content = latest.content.clone();
        content.tags.clear();
        content.settings.extend(publication.description.map(|text| ("Description".to_owned(), text.into())));
        let row = Row {
            id: id.clone(),
            content,
            version: Some(number),
            revision: Uuid::new_v4().to_string(),
            generation: latest.generation.clone(),
            modified_ms: api::time::now_ms(),
        };
        let entry = Arc::new(row.into_entry(&self.code).map_err(PutError::from)?);
        rows::write_version(&writer.connection, &entry, number).map_err(StoreError::from)?;
        let mut record = Record { last_version: number, ..(*record).clone() };
        record.versions.insert(number, entry.clone());
        self.replace(&mut writer, record);
        Ok((entry, true))
    }

    /// Deletes a version and what hangs on it. Blocks until that is on disk.
    pub fn delete_version(&self, id: &FunctionId, version: &str) -> Result<(), RemoveError> {
        let mut writer = self.writer();
        let missing = || RemoveError::NotFound(id.clone(), version.to_owned());
        let record = self.index().get(id).cloned().ok_or_else(missing)?;
        let Qualified::Version(number) = Qualified::of(version) else { return Err(missing()) };
        if !record.versions.contains_key(&number) {
            return Err(missing());
        }
        let version = number.to_string();
        if let Some(alias) = record.aliases_of(&version).next() {
            return Err(RemoveError::Aliased { version: version.clone(), alias: alias.to_owned() });
        }
        rows::delete_qualifier(&writer.connection, id, &version).map_err(StoreError::from)?;
        let mut record = (*record).clone();
        record.versions.remove(&number);
        record.strip(&version);
        self.replace(&mut writer, record);
        Ok(())
    }

    /// Deletes an alias and what hangs on it: whether there was one. Blocks until that is on disk.
    pub fn delete_alias(&self, id: &FunctionId, alias: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer();
        let record = self.index().get(id).cloned();
        let Some(record) = record.filter(|record| record.attached(Facet::Alias, alias).is_some()) else {
            return Ok(false);
        };
        rows::delete_qualifier(&writer.connection, id, alias)?;
        let mut record = (*record).clone();
        record.strip(alias);
        record.settle();
        self.replace(&mut writer, record);
        Ok(true)
    }

    /// Changes what hangs on a qualifier of a function (`$LATEST` for the function itself): `change` is shown the function
    /// and what hangs there, and answers what is to hang there. Blocks until it is on disk.
    pub fn attach<E>(
        &self,
        id: &FunctionId,
        facet: Facet,
        qualifier: &str,
        change: impl FnOnce(&Record, Option<&Attached>) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Option<Arc<Attached>>, UpdateError<E>> {
        let mut writer = self.writer();
        let record = self.index().get(id).cloned().ok_or_else(|| UpdateError::NotFound(id.clone()))?;
        let old = record.attached(facet, qualifier).map(Arc::as_ref);
        let place = (facet, qualifier);
        let attached = change(&record, old).map_err(UpdateError::Refused)?.map(|value| {
            let revision = Uuid::new_v4().to_string();
            Arc::new(Attached { value, revision, modified_ms: api::time::now_ms() })
        });
        match &attached {
            Some(attached) => rows::write_facet(&writer.connection, id, place, attached),
            None => rows::delete_facet(&writer.connection, id, place),
        }
        .map_err(StoreError::from)?;
        let mut record = (*record).clone();
        let place = (facet, qualifier.to_owned());
        match &attached {
            Some(attached) => record.attached.insert(place, attached.clone()),
            None => record.attached.remove(&place),
        };
        record.settle();
        self.replace(&mut writer, record);
        Ok(attached)
    }
}
