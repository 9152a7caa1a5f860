//! The functions on objects: fetched, stored and listed by signed requests, in buckets that the operator has named.
//!
//! Where an object is, an item's text says: `BUCKET/KEY`, or `s3://BUCKET/KEY`. The store and the keys that requests are
//! signed with are those of `[aws]`: functions never see either.

use crate::Work;
use crate::answer::{Made, Status, Taken};
use crate::config::FetchConfig;
use crate::failure::Failure;
use crate::request::RequestError;
use crate::room::Room;
use aws::Aws;
use bytes::Bytes;
use serde_json::json;
use sets::{Item, Sets};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// What the functions need.
pub struct Objects {
    aws: Aws,
    region: String,
    buckets: Vec<String>,
    room: Room,
    body_max: usize,
    list_max: usize,
    total: Duration,
}

/// What is to be stored: each item of `objects`, with the text of the item of `keys` that has its name, and its key too
/// where several have the name.
pub fn puts(inputs: Sets<Bytes>) -> Vec<Work> {
    let (keys, objects): (Sets<Bytes>, Sets<Bytes>) = inputs.into_iter().partition(|set| set.name == "keys");
    let mut named: HashMap<String, Vec<(u64, Bytes)>> = HashMap::new();
    for item in keys.into_iter().flat_map(|set| set.items) {
        named.entry(item.name).or_default().push((item.key, item.data));
    }
    let meant = |item: &Item<Bytes>| {
        let same = named.get(&item.name).map_or(&[][..], Vec::as_slice);
        if let [(_, text)] = same {
            return Some(text.clone());
        }
        let mut same = same.iter().filter(|(key, _)| *key == item.key);
        same.next().filter(|_| same.next().is_none()).map(|(_, text)| text.clone())
    };
    let objects = objects.into_iter().flat_map(|set| set.items);
    objects.map(|item| Work { key: meant(&item), item }).collect()
}

impl Objects {
    pub fn new(config: &FetchConfig, aws: Aws, region: &str, room: Room) -> Self {
        Self {
            aws,
            region: region.to_owned(),
            buckets: config.buckets.clone(),
            room,
            body_max: config.body_max,
            list_max: config.list_max,
            total: Duration::from_secs(config.total_s),
        }
    }

    pub async fn get(&self, item: &Item<Bytes>, taken: Taken) -> Result<Made, Failure> {
        let (bucket, key) = self.place(&item.data)?;
        let fetching = self.aws.get_object(&self.region, (bucket, key), None, self.body_max);
        let object = self.within(fetching).await?;
        let object = self.room.whole(object, self.body_max)?;
        Ok(made(item, taken, vec![("objects", item.name.clone(), object)]))
    }

    pub async fn put(&self, item: &Item<Bytes>, key: Option<&Bytes>, taken: Taken) -> Result<Made, Failure> {
        let (bucket, key) = self.place(key.ok_or(RequestError::NoKey)?)?;
        if key.is_empty() {
            return Err(RequestError::Place.into());
        }
        let storing = self.aws.put_object(&self.region, (bucket, key), "application/octet-stream", item.data.clone());
        self.within(storing).await?;
        let result = json!({"bucket": bucket, "key": key, "bytes": item.data.len()}).to_string();
        Ok(made(item, taken, vec![("results", item.name.clone(), result.into())]))
    }

    pub async fn list(&self, item: &Item<Bytes>, taken: Taken) -> Result<Made, Failure> {
        let (bucket, prefix) = self.place(&item.data)?;
        // One more than may be, as which it is known that there are more.
        let limit = self.list_max;
        let keys = self.within(self.aws.list_objects(&self.region, (bucket, prefix), limit + 1)).await?;
        if keys.len() > limit {
            return Err(Failure::ListTooLong { limit });
        }
        let named = keys.into_iter().enumerate();
        let items = named.map(|(at, key)| ("keys", at.to_string(), Bytes::from(format!("{bucket}/{key}"))));
        Ok(made(item, taken, items.collect()))
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, aws::CallError>>) -> Result<T, Failure> {
        Ok(timeout(self.total, call).await.map_err(|_| Failure::Timeout { patience: self.total })??)
    }

    /// Bucket and key of a text, where they may be used.
    fn place<'a>(&self, text: &'a Bytes) -> Result<(&'a str, &'a str), Failure> {
        let text = std::str::from_utf8(text).map_err(|_| RequestError::Place)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_prefix("s3://").unwrap_or(text);
        let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !bucket.is_empty() && bucket.len() <= 255 && bucket.bytes().all(fits);
        // As steps of a path these would lead into another bucket.
        let leads_out = matches!(bucket, "." | "..") || key.split('/').any(|step| matches!(step, "." | ".."));
        if !is_name || leads_out || key.len() > 1024 {
            return Err(RequestError::Place.into());
        }
        let allows = |rule: &String| match rule.split_once('/') {
            _ if rule == "*" => true,
            Some((own, prefix)) => own == bucket && key.starts_with(prefix),
            None => rule == bucket,
        };
        match self.buckets.iter().any(allows) {
            true => Ok((bucket, key)),
            false => Err(Failure::Bucket { bucket: bucket.to_owned() }),
        }
    }
}

fn made(item: &Item<Bytes>, taken: Taken, items: Vec<(&'static str, String, Bytes)>) -> Made {
    let items = items.into_iter().filter(|(set, ..)| taken.has(set));
    let mut made: Made = items.map(|(set, name, data)| (set, Item::new(name, item.key, data))).collect();
    if taken.has_status() {
        made.push(Status::ok().item(&item.name, item.key));
    }
    made
}
