//! Sets as `multipart/form-data`: a part is an item; the part's name is the set, its file name the item's name, its
//! header `Item-Key` the item's key.
//!
//! Not here: finding the parts in a body. Bodies are streamed, which is the gateway's business.

use crate::{Item, NameError, OverLimit, Set, Sets, name};

/// The header of a part that has its item's key.
pub const KEY_HEADER: &str = "Item-Key";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    #[error("part '{part}': its name, the set's, is not allowed: {error}")]
    Set { part: String, error: NameError },
    #[error("part '{part}': its file name, the item's, is not allowed: {error}")]
    Item { part: String, error: NameError },
    #[error("part '{part}': {KEY_HEADER} is '{key}', not a whole number below 2^64")]
    Key { part: String, key: String },
    #[error("{0}")]
    Limit(#[from] OverLimit),
}

/// What a part's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: &'a str,
    pub file_name: Option<&'a str>,
    pub key: Option<&'a str>,
}

/// Puts the item that a part is into its set. Counting is the caller's, who reads the parts.
pub fn place<D>(sets: &mut Sets<D>, part: Part<'_>, data: D) -> Result<(), PartError> {
    let named = || part.name.to_owned();
    name::check(part.name).map_err(|error| PartError::Set { part: named(), error })?;
    let key = part.key.map(|key| key.trim().parse().map_err(|_| PartError::Key { part: named(), key: key.to_owned() }));
    let key = key.transpose()?.unwrap_or(0);
    let index = sets.iter().position(|set| set.name == part.name);
    let items = index.map_or(0, |index| sets[index].items.len());
    // Clients give the path that they read; the last step of it is the name.
    let file = part.file_name.map(|file| file.rsplit(['/', '\\']).next().unwrap_or(file));
    let item = file.filter(|file| !file.is_empty()).map_or_else(|| items.to_string(), str::to_owned);
    name::check(&item).map_err(|error| PartError::Item { part: named(), error })?;
    let item = Item { name: item, key, data };
    match index {
        Some(index) => sets[index].items.push(item),
        None => sets.push(Set { name: part.name.to_owned(), items: vec![item] }),
    }
    Ok(())
}

/// What stands before an item's data in a body: boundary and headers. After the data comes the next one's, or [`tail`].
pub fn head<D>(boundary: &str, set: &str, item: &Item<D>, first: bool) -> String {
    let start = if first { "" } else { "\r\n" };
    let (set, name) = (quoted(set), quoted(&item.name));
    format!(
        "{start}--{boundary}\r\nContent-Disposition: form-data; name=\"{set}\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n{KEY_HEADER}: {}\r\n\r\n",
        item.key
    )
}

/// What ends a body.
pub fn tail(boundary: &str, empty: bool) -> String {
    let start = if empty { "" } else { "\r\n" };
    format!("{start}--{boundary}--\r\n")
}

/// As HTML's forms write names: with these three characters escaped, and nothing else.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
