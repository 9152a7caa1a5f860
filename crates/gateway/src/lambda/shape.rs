//! A function's configuration as Lambda answers it: what was stored, and what follows from it.

use super::{layer_use, logging_config};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use runtime::registry::Entry;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Which moment of a function's life an answer tells of. On AWS it lasts; here it is over when the answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Created,
    Updated,
    Settled,
}

const REASON: &str = "The function is being created.";

/// The shape `FunctionConfiguration`.
pub fn configuration(entry: &Entry, moment: Moment) -> Value {
    let content = &entry.content;
    let mut shape = Map::new();
    shape.insert("FunctionName".into(), entry.id.name.clone().into());
    shape.insert("FunctionArn".into(), entry.id.arn().into());
    shape.extend(content.settings.clone());
    shape.insert("CodeSize".into(), content.code_bytes.into());
    shape.insert("CodeSha256".into(), BASE64.encode(content.code.bytes()).into());
    shape.insert("LastModified".into(), api::time::lambda(entry.modified_ms).into());
    shape.insert("Version".into(), entry.version_name().into());
    shape.insert("RevisionId".into(), entry.revision.clone().into());
    shape.insert("RuntimeVersionConfig".into(), json!({ "RuntimeVersionArn": runtime_arn(entry) }));
    shape.insert("LoggingConfig".into(), logging_config::shown(entry));
    if let Some(Value::Object(snap_start)) = shape.get_mut("SnapStart") {
        let status = if entry.function.snap_start { "On" } else { "Off" };
        snap_start.insert("OptimizationStatus".into(), status.into());
    }
    if let Some(layers) = shape.get_mut("Layers") {
        *layers = layer_use::shown(layers);
    }
    if let Some(Value::Object(vpc)) = shape.get_mut("VpcConfig") {
        vpc.insert("VpcId".into(), "".into());
        for list in ["SubnetIds", "SecurityGroupIds"] {
            vpc.entry(list).or_insert_with(|| json!([]));
        }
        vpc.entry("Ipv6AllowedForDualStack").or_insert_with(|| false.into());
    }
    shape.extend(state(moment));
    shape.into()
}

/// The same in a list, where less is told.
pub fn listed(entry: &Entry) -> Value {
    let mut shape = configuration(entry, Moment::Settled);
    if let Value::Object(shape) = &mut shape {
        ["State", "LastUpdateStatus", "RuntimeVersionConfig"].into_iter().for_each(|member| {
            shape.shift_remove(member);
        });
    }
    shape
}

fn state(moment: Moment) -> Map<String, Value> {
    let state = match moment {
        Moment::Created => json!({ "State": "Pending", "StateReason": REASON, "StateReasonCode": "Creating" }),
        Moment::Updated => json!({ "State": "Active", "LastUpdateStatus": "InProgress",
            "LastUpdateStatusReason": REASON, "LastUpdateStatusReasonCode": "Creating" }),
        Moment::Settled => json!({ "State": "Active", "LastUpdateStatus": "Successful" }),
    };
    if let Value::Object(state) = state { state } else { Map::new() }
}

/// AWS names the build of a runtime by a hash; here it stands for the runtime's name.
fn runtime_arn(entry: &Entry) -> String {
    let hash: String = Sha256::digest(&entry.function.runtime).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("arn:aws:lambda:{}::runtime:{hash}", entry.id.region)
}
