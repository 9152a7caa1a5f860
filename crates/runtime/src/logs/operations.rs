//! What can be done to groups and streams, and how their events are read and put, for who asks over the network.
//!
//! Group names are not checked here, nor is who asks.

use super::group::{Details, GroupError, Listed};
use super::queue::{Put, Removal};
use super::select::{self, Page, Selection, Span};
use super::{Groups, LogGroup, LogStore};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

const DAY_MS: u64 = 86_400_000;

impl LogStore {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Groups) -> Result<T, GroupError> + Send + 'static,
    ) -> Result<T, GroupError> {
        let groups = self.groups.clone();
        let done = tokio::task::spawn_blocking(move || work(&groups)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    /// The groups of an account in a region, by name.
    pub async fn groups(&self, account: String, region: String) -> Result<Vec<Listed>, GroupError> {
        self.flush().await;
        self.blocking(move |groups| Ok(groups.list(&account, &region)?)).await
    }

    pub async fn create_group(&self, group: LogGroup) -> Result<(), GroupError> {
        self.blocking(move |groups| groups.create(&group, api::time::now_ms())).await
    }

    /// Deletes a group and all that is in it.
    pub async fn delete_group(&self, group: LogGroup) -> Result<(), GroupError> {
        self.details(&group).await?;
        self.remove(&group);
        self.flush().await;
        Ok(())
    }

    /// What is known of a group.
    pub async fn details(&self, group: &LogGroup) -> Result<Details, GroupError> {
        self.flush().await;
        let group = group.clone();
        self.blocking(move |groups| groups.get(&group)).await
    }

    /// For how many days a group keeps its events; nothing for as long as the node does.
    pub async fn set_retention(&self, group: LogGroup, days: Option<u32>) -> Result<(), GroupError> {
        self.flush().await;
        let change = move |details: &mut Details| {
            details.retention_days = days;
            Ok(())
        };
        self.blocking(move |groups| groups.change(&group, change)).await
    }

    pub async fn create_stream(&self, group: LogGroup, stream: String) -> Result<(), GroupError> {
        let existing = self.streams(&group).await?;
        if existing.contains_key(&stream) {
            return Err(GroupError::StreamExists);
        }
        let add = move |details: &mut Details| match details.streams.insert(stream, api::time::now_ms()) {
            None => Ok(()),
            Some(_) => Err(GroupError::StreamExists),
        };
        self.blocking(move |groups| groups.change(&group, add)).await
    }

    /// Deletes a stream and its events.
    pub async fn delete_stream(&self, group: LogGroup, stream: String) -> Result<(), GroupError> {
        if !self.streams(&group).await?.contains_key(&stream) {
            return Err(GroupError::NoStream);
        }
        let (of, name) = (group.clone(), stream.clone());
        let forget = move |details: &mut Details| {
            details.streams.remove(&name);
            Ok(())
        };
        self.blocking(move |groups| groups.change(&of, forget)).await?;
        self.queue.remove(Removal::Stream(group, stream));
        self.flush().await;
        Ok(())
    }

    /// The streams of a group: when each was made, and what events it has.
    pub async fn streams(&self, group: &LogGroup) -> Result<BTreeMap<String, (u64, Option<Span>)>, GroupError> {
        let details = self.details(group).await?;
        let (group, since_ms) = (group.clone(), oldest(&details));
        let spans = self.blocking(move |groups| Ok(select::streams(&groups.folder(&group), since_ms)?)).await?;
        let mut streams: BTreeMap<_, _> =
            details.streams.into_iter().map(|(name, created_ms)| (name, (created_ms, None))).collect();
        for (name, span) in spans {
            streams.entry(name).or_insert((span.created_ms, None)).1 = Some(span);
        }
        Ok(streams)
    }

    /// A page of a group's events.
    pub async fn page(&self, group: &LogGroup, mut selection: Selection) -> Result<Page, GroupError> {
        let details = self.details(group).await?;
        let group = group.clone();
        selection.times.start = selection.times.start.max(oldest(&details));
        self.blocking(move |groups| Ok(select::page(&groups.folder(&group), &selection)?)).await
    }

    /// Appends events; they are in their file when this returns.
    pub async fn put(&self, put: Put) -> Result<(), GroupError> {
        std::future::poll_fn(|cx| self.poll_room(cx)).await;
        let (done, written) = oneshot::channel();
        self.queue.put(put, done);
        if written.await.unwrap_or(false) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::StorageFull).into()) }
    }

    /// Whether a group has a stream.
    pub async fn has_stream(&self, group: &LogGroup, stream: &str) -> Result<bool, GroupError> {
        let known = self.details(group).await?.streams.contains_key(stream);
        Ok(known || self.streams(group).await?.contains_key(stream))
    }

    /// Names a group and a stream for [`LogStore::put`].
    pub fn put_into(group: LogGroup, stream: &str, events: Vec<(u64, String)>) -> Put {
        Put { group: Arc::new(group), stream: stream.into(), put_ms: api::time::now_ms(), events }
    }
}

/// From when on a group's events are shown, although older ones may still be on disk.
fn oldest(details: &Details) -> u64 {
    details.retention_days.map_or(0, |days| api::time::now_ms().saturating_sub(u64::from(days) * DAY_MS))
}
