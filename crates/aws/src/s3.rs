//! S3: objects fetched, put and listed, by addresses of the form `/BUCKET/KEY`.

use crate::client::{Aws, Call, Service};
use crate::fault::CallError;
use crate::xml;
use api::client::encode;
use bytes::Bytes;

/// Keys that S3 lists at once.
const PAGE: usize = 1000;

impl Aws {
    /// An object, of up to `limit` bytes; of its newest version where none is named.
    pub async fn get_object(
        &self,
        region: &str,
        (bucket, key): (&str, &str),
        version: Option<&str>,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let query = version.map(|version| format!("versionId={}", encode(version))).unwrap_or_default();
        let path = path(bucket, key);
        let call = Call { query: &query, answer_max: limit, ..Call::new(Service::S3, region, "GET", &path) };
        Ok(self.call(&call).await?.body)
    }

    pub async fn put_object(
        &self,
        region: &str,
        (bucket, key): (&str, &str),
        content_type: &str,
        body: Bytes,
    ) -> Result<(), CallError> {
        let path = path(bucket, key);
        let headers = [("content-type", content_type)];
        let call = Call { headers: &headers, body, ..Call::new(Service::S3, region, "PUT", &path) };
        self.call(&call).await.map(drop)
    }

    /// The keys of a bucket that begin with a prefix, the first `most` of them.
    pub async fn list_objects(
        &self,
        region: &str,
        (bucket, prefix): (&str, &str),
        most: usize,
    ) -> Result<Vec<String>, CallError> {
        let path = format!("/{}", encode(bucket));
        let mut keys = Vec::new();
        let mut token = String::new();
        loop {
            let from = if token.is_empty() { String::new() } else { format!("continuation-token={}&", encode(&token)) };
            let page = (most - keys.len()).min(PAGE);
            let query = format!("{from}list-type=2&max-keys={page}&prefix={}", encode(prefix));
            let call = Call { query: &query, ..Call::new(Service::S3, region, "GET", &path) };
            let answer = self.call(&call).await?.body;
            let text = String::from_utf8_lossy(&answer);
            let found = xml::elements(&text, "Contents").filter_map(|object| xml::text(object, "Key"));
            let before = keys.len();
            keys.extend(found.take(page));
            let next = xml::text(&text, "NextContinuationToken").filter(|next| *next != token && keys.len() > before);
            match next {
                Some(next) if keys.len() < most => token = next,
                _ => return Ok(keys),
            }
        }
    }
}

fn path(bucket: &str, key: &str) -> String {
    let key: Vec<String> = key.split('/').map(encode).collect();
    format!("/{}/{}", encode(bucket), key.join("/"))
}
