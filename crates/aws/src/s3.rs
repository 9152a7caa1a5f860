//! S3: objects fetched and put, by addresses of the form `/BUCKET/KEY`.

use crate::client::{Aws, Call, Service};
use crate::fault::CallError;
use api::client::encode;
use bytes::Bytes;

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

    pub async fn put_object(&self, region: &str, (bucket, key): (&str, &str), body: Bytes) -> Result<(), CallError> {
        let path = path(bucket, key);
        let headers = [("content-type", "application/json")];
        let call = Call { headers: &headers, body, ..Call::new(Service::S3, region, "PUT", &path) };
        self.call(&call).await.map(drop)
    }
}

fn path(bucket: &str, key: &str) -> String {
    let key: Vec<String> = key.split('/').map(encode).collect();
    format!("/{}/{}", encode(bucket), key.join("/"))
}
