//! The function manifest: everything about a function but its code, and the requests that a deployment makes of it.

use crate::lambda::{Isolation, NativeEngine, Network, Options};
use crate::pu::Profile;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Lambda wants a role; Lichen gives no function any rights outside its sandbox, so every function has this one.
pub const ROLE: &str = "arn:aws:iam::000000000000:role/lichen";

/// A function as a deployment describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    /// `python3.11`, `nodejs20.x`.
    pub runtime: String,
    /// `app.handler`.
    pub handler: String,
    /// Nothing for the node's default.
    pub memory_mib: Option<u32>,
    /// Nothing for the node's default.
    pub timeout_s: Option<u32>,
    pub environment: BTreeMap<String, String>,
    pub isolation: Option<Isolation>,
    pub network: Option<Network>,
    pub min_warm: Option<u32>,
    /// Reserved concurrency, set by a request of its own.
    pub max_concurrency: Option<u32>,
    pub pu: Vec<Profile>,
    /// Of pure functions.
    pub inputs: Option<Vec<String>>,
    pub outputs: Option<Vec<String>>,
    pub deterministic: Option<bool>,
    pub cache: Option<bool>,
    /// Of native ones.
    pub engine: Option<NativeEngine>,
}

impl Manifest {
    /// The body of `CreateFunction`; `zip` in base64.
    pub fn create(&self, zip: String) -> Value {
        let mut body = self.settings();
        body.insert("FunctionName".into(), self.name.clone().into());
        body.insert("Role".into(), ROLE.into());
        body.insert("Code".into(), json!({ "ZipFile": zip }));
        body.into()
    }

    /// The body of `UpdateFunctionCode`; `zip` in base64.
    pub fn update_code(&self, zip: String) -> Value {
        json!({ "ZipFile": zip, "Lichen": { "Runtime": self.runtime, "Handler": self.handler } })
    }

    /// The body of `UpdateFunctionConfiguration`. What the manifest leaves open keeps its value, but for the environment
    /// and the options, which are replaced as a whole: a deployment says all of them.
    pub fn update(&self) -> Value {
        self.settings().into()
    }

    fn settings(&self) -> Map<String, Value> {
        let mut settings = Map::new();
        settings.insert("Runtime".into(), self.runtime.clone().into());
        settings.insert("Handler".into(), self.handler.clone().into());
        let numbers = [("MemorySize", self.memory_mib), ("Timeout", self.timeout_s)];
        settings.extend(numbers.into_iter().filter_map(|(member, value)| Some((member.into(), value?.into()))));
        settings.insert("Environment".into(), json!({ "Variables": self.environment }));
        settings.insert("Lichen".into(), serde_json::to_value(self.options()).unwrap_or_default());
        settings
    }

    fn options(&self) -> Options {
        Options {
            isolation: self.isolation,
            network: self.network,
            min_warm: self.min_warm,
            pu: self.pu.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            deterministic: self.deterministic,
            cache: self.cache,
            engine: self.engine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_lambdas_requests() {
        let manifest = Manifest {
            name: "resize".into(),
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            memory_mib: Some(256),
            environment: BTreeMap::from([("A".into(), "1".into())]),
            isolation: Some(Isolation::Request),
            ..Manifest::default()
        };
        let create = manifest.create("UEs=".into());
        assert_eq!(create["FunctionName"], "resize");
        assert_eq!(create["Code"]["ZipFile"], "UEs=");
        assert_eq!(create["MemorySize"], 256);
        assert_eq!(create["Lichen"], json!({ "Isolation": "request" }));
        assert!(create.get("Timeout").is_none());
        let update = manifest.update();
        assert_eq!(update["Environment"]["Variables"]["A"], "1");
        assert!(update.get("FunctionName").is_none() && update.get("Code").is_none());
    }
}
