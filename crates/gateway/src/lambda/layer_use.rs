//! The layers of a function, from the ARNs in a request to what is stored: each with its size and the hash of its code, all
//! of them put together in one folder.
//!
//! What a function uses it keeps: a layer's version can be deleted, and its functions run on.

use super::constraint::find;
use super::fault::Fault;
use super::layer_policy;
use super::layers::parse_version;
use super::scope::Scope;
use crate::gateway::Gateway;
use runtime::codestore::{BundleError, CodeId, Held};
use runtime::registry::{LayerVersion, SettingsError};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Layers of one function, as on AWS.
const LAYERS_MAX: usize = 5;

/// Layers that stay while this lives.
pub type Kept = Option<Held>;

/// Puts what is stored of layers in the place of the ARNs that a request names, where it names some, and makes their
/// folder. `code` is the function's own, which counts too. Blocks on the disk.
pub fn resolve(
    gateway: &Gateway,
    scope: &Scope<'_>,
    request: &mut Map<String, Value>,
    code: CodeId,
) -> Result<Kept, Fault> {
    let Some(Value::Array(arns)) = find(request, "Layers") else { return Ok(None) };
    let versions = versions(gateway, scope, arns)?;
    let ids: Vec<CodeId> = versions.iter().map(|version| version.content.code).collect();
    check_size(gateway, code, &ids)?;
    let kept = gateway.registry.code().bundle(&ids).map_err(refused)?;
    let stored = versions.iter().map(|version| {
        let content = &version.content;
        json!({ "Arn": version.arn(), "CodeSize": content.code_bytes, "Code": content.code.hex() })
    });
    request.insert("Layers".into(), stored.collect());
    Ok(kept)
}

/// Whether a request names layers that there are, if it names some: before anything is done for it.
pub fn check_named(gateway: &Gateway, scope: &Scope<'_>, request: &Map<String, Value>) -> Result<(), Fault> {
    match find(request, "Layers") {
        Some(Value::Array(arns)) => versions(gateway, scope, arns).map(drop),
        _ => Ok(()),
    }
}

/// Whether code and the layers that a function has already are small enough together. Blocks on the disk.
pub fn check(gateway: &Gateway, settings: &Map<String, Value>, code: CodeId) -> Result<(), Fault> {
    let Some(Value::Array(layers)) = settings.get("Layers") else { return Ok(()) };
    let ids = layers.iter().filter_map(|layer| CodeId::from_hex(layer.get("Code")?.as_str()?));
    check_size(gateway, code, &ids.collect::<Vec<_>>())
}

/// A function's layers as answers show them.
pub fn shown(stored: &Value) -> Value {
    let layers = stored.as_array().into_iter().flatten();
    layers.map(|layer| json!({ "Arn": layer["Arn"], "CodeSize": layer["CodeSize"] })).collect()
}

fn versions(gateway: &Gateway, scope: &Scope<'_>, arns: &[Value]) -> Result<Vec<Arc<LayerVersion>>, Fault> {
    if arns.len() > LAYERS_MAX {
        return Err(Fault::invalid_parameter(format!("Cannot reference more than {LAYERS_MAX} layers.")));
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    arns.iter()
        .map(|arn| {
            let arn = arn.as_str().ok_or_else(|| Fault::serialization("The elements of Layers are Strings"))?;
            let missing = || Fault::invalid_parameter(format!("Layer version {arn} does not exist."));
            let (id, number) = parse_version(arn).ok_or_else(missing)?;
            if id.region != scope.region {
                return Err(Fault::invalid_parameter(format!(
                    "Layers are not in the same region as the function. Layers are expected to be in region {}.",
                    scope.region
                )));
            }
            let version = gateway.registry.layer_version(&id, number).ok_or_else(missing)?;
            layer_policy::check_use(scope, &version)?;
            match seen.insert(id.arn(), arn) {
                None => Ok(version),
                Some(other) => Err(Fault::invalid_parameter(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. \
                     {other} and {arn} are versions of the same layer."
                ))),
            }
        })
        .collect()
}

fn check_size(gateway: &Gateway, code: CodeId, layers: &[CodeId]) -> Result<(), Fault> {
    if layers.is_empty() {
        return Ok(());
    }
    let store = gateway.registry.code();
    let mut bytes = 0;
    for id in layers.iter().chain([&code]) {
        bytes += store.unzipped(*id).map_err(|error| Fault::internal(&error))?;
    }
    let limit = gateway.config.code.unzipped_max;
    if bytes > limit {
        return Err(Fault::invalid_parameter(format!(
            "Function code combined with layers exceeds the maximum allowed size of {limit} bytes. The actual size is \
             {bytes} bytes."
        )));
    }
    Ok(())
}

fn refused(error: BundleError) -> Fault {
    match error {
        BundleError::Gone(id) => SettingsError::Layer(id.hex().into()).into(),
        BundleError::Disk(error) => super::package::refused(error),
    }
}
