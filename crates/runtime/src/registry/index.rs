//! The functions in memory, where invocations find them: by name, and by what is in their URLs; and in their order, for
//! lists.

use super::entry::FunctionId;
use super::facet::Facet;
use super::record::Record;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Functions by name and by URL.
#[derive(Default)]
pub struct Index {
    /// Functions of one name in several accounts and regions are few.
    names: HashMap<String, Vec<Arc<Record>>>,
    ordered: BTreeMap<FunctionId, Arc<Record>>,
    /// The ids in function URLs: whose they are, and of which qualifier.
    urls: HashMap<String, (FunctionId, String)>,
}

impl Index {
    pub fn find(&self, account: &str, region: &str, name: &str) -> Option<&Arc<Record>> {
        let is_meant = |record: &&Arc<Record>| record.latest.id.account == account && record.latest.id.region == region;
        self.names.get(name)?.iter().find(is_meant)
    }

    pub fn get(&self, id: &FunctionId) -> Option<&Arc<Record>> {
        self.find(&id.account, &id.region, &id.name)
    }

    pub fn named(&self, name: &str) -> &[Arc<Record>] {
        self.names.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.ordered.values()
    }

    /// The same from an id on.
    pub fn from(&self, id: &FunctionId) -> impl Iterator<Item = &Arc<Record>> {
        self.ordered.range(id..).map(|(_, record)| record)
    }

    pub fn url(&self, id: &str) -> Option<(&Arc<Record>, &str)> {
        let (function, qualifier) = self.urls.get(id)?;
        Some((self.get(function)?, qualifier))
    }

    /// Puts a record in its place: the one that was there.
    pub fn insert(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        let id = &record.latest.id;
        let old = self.remove(id);
        for (qualifier, url) in record.all_attached(Facet::Url) {
            self.urls.insert(url.text("Id").to_owned(), (id.clone(), qualifier.to_owned()));
        }
        self.ordered.insert(id.clone(), record.clone());
        self.names.entry(id.name.clone()).or_default().push(record);
        old
    }

    pub fn remove(&mut self, id: &FunctionId) -> Option<Arc<Record>> {
        let same_name = self.names.get_mut(&id.name)?;
        let at = same_name.iter().position(|record| record.latest.id == *id)?;
        let old = same_name.swap_remove(at);
        self.ordered.remove(id);
        if same_name.is_empty() {
            self.names.remove(&id.name);
        }
        for (_, url) in old.all_attached(Facet::Url) {
            self.urls.remove(url.text("Id"));
        }
        Some(old)
    }
}
