//! SNS: messages published, by its query protocol, which is the only one it has.

use crate::arn::Arn;
use crate::client::{Aws, Call, Service};
use crate::fault::CallError;
use api::client::encode;
use serde_json::{Map, Value};

impl Aws {
    /// Publishes to the topic; `attributes` as SQS writes them.
    pub async fn publish(&self, topic: &str, message: &str, attributes: &Map<String, Value>) -> Result<(), CallError> {
        let region = Arn::parse(topic).map_or("", |arn| arn.region);
        let mut form: Vec<(String, &str)> = [("Action", "Publish"), ("Version", "2010-03-31")]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .chain([("TopicArn".to_owned(), topic), ("Message".to_owned(), message)])
            .collect();
        for (at, (name, attribute)) in (1..).zip(attributes) {
            let entry = format!("MessageAttributes.entry.{at}");
            let text = |member: &str| attribute.get(member).and_then(Value::as_str).unwrap_or_default();
            form.push((format!("{entry}.Name"), name));
            form.push((format!("{entry}.Value.DataType"), text("DataType")));
            form.push((format!("{entry}.Value.StringValue"), text("StringValue")));
        }
        let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let body = pairs.join("&").into();
        self.call(&Call { headers: &headers, body, ..Call::new(Service::Sns, region, "POST", "/") }).await.map(drop)
    }
}
