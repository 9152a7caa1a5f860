//! From a function's configuration in Lambda's words to what dispatch needs.
//!
//! Who writes to the registry has checked the configuration and told its caller what is wrong with it; this is the last
//! line, and says no more than which member is to blame.

use super::entry::{Content, FunctionId};
use crate::codestore::{CodeId, CodeStore};
use crate::function::{Function, FunctionKey, Isolation, LogFormat, Pure, SystemLevel};
use api::lambda::LATEST;
use api::pu::Profile;
use sandbox::spec::{Kind, NativeEngine, Network};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// Lambda's defaults.
const MEMORY_MIB: u32 = 128;
const TIMEOUT_S: u32 = 3;
const TMP_MIB: u32 = 512;

/// Why a configuration is none.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("no sandbox of this node runs {0:?}")]
    UnknownRuntime(Box<str>),
    #[error("the layer {0:?} has no code that it could be known by")]
    Layer(Box<str>),
    #[error("the configuration cannot be understood")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    runtime: String,
    handler: String,
    memory_size: u32,
    timeout: u32,
    environment: Environment,
    ephemeral_storage: EphemeralStorage,
    logging_config: LoggingConfig,
    snap_start: SnapStart,
    lichen: Options,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runtime: String::new(),
            handler: String::new(),
            memory_size: MEMORY_MIB,
            timeout: TIMEOUT_S,
            environment: Environment::default(),
            ephemeral_storage: EphemeralStorage::default(),
            logging_config: LoggingConfig::default(),
            snap_start: SnapStart::default(),
            lichen: Options::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Environment {
    variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EphemeralStorage {
    size: u32,
}

impl Default for EphemeralStorage {
    fn default() -> Self {
        Self { size: TMP_MIB }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LoggingConfig {
    log_group: Option<String>,
    log_format: Option<String>,
    application_log_level: Option<String>,
    system_log_level: Option<SystemLevel>,
}

impl LoggingConfig {
    fn format(&self) -> LogFormat {
        match self.log_format.as_deref() {
            Some("JSON") => LogFormat::Json(self.system_log_level.unwrap_or_default()),
            _ => LogFormat::Text,
        }
    }

    /// What runtimes are told of it.
    fn variables(&self) -> [Option<(String, String)>; 2] {
        let is_json = self.format() != LogFormat::Text;
        let level = || self.application_log_level.clone().unwrap_or_else(|| "INFO".into());
        [
            Some(("AWS_LAMBDA_LOG_FORMAT".into(), if is_json { "JSON" } else { "Text" }.into())),
            is_json.then(|| ("AWS_LAMBDA_LOG_LEVEL".into(), level())),
        ]
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SnapStart {
    apply_on: String,
}

/// `api::lambda::Options`, in the words of this layer.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Options {
    isolation: Option<Isolation>,
    network: Option<Network>,
    min_warm: u32,
    pu: Vec<Profile>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    deterministic: bool,
    cache: bool,
    engine: NativeEngine,
}

/// An element of the setting `Layers`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Layer {
    arn: String,
    /// The hash of its code, which answers do not show.
    #[serde(default)]
    code: String,
}

/// What runs a runtime; nothing for one that no sandbox runs.
pub fn kind_of(runtime: &str) -> Option<Kind> {
    let is_version = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let python = runtime.strip_prefix("python").filter(|version| is_version(version));
    let node = runtime.strip_prefix("nodejs").or_else(|| runtime.strip_prefix("node"));
    let node = node.filter(|version| is_version(version.strip_suffix('x').unwrap_or(version)));
    match runtime {
        "provided" | "provided.al2" | "provided.al2023" => Some(Kind::Provided),
        "wasm" => Some(Kind::Wasm),
        "native" => Some(Kind::Native),
        _ => python.map(|_| Kind::Python).or_else(|| node.map(|_| Kind::Node)),
    }
}

/// What runs this function. One whose start is wrapped, or that has extensions beside it, is no fork: its interpreter is a
/// program like any other's, and asks the Runtime API for events.
pub(super) fn kind_within(function: &Function) -> Kind {
    if function.kind.is_pure() {
        return function.kind;
    }
    let is_wrapped = function.environment.get("AWS_LAMBDA_EXEC_WRAPPER").is_some_and(|wrapper| !wrapper.is_empty());
    let has_extensions = function.layers.as_ref().is_some_and(|folder| folder.join("extensions").is_dir());
    if is_wrapped || has_extensions { Kind::Provided } else { function.kind }
}

/// Whether a configuration asks for instances that serve one tenant each.
pub(super) fn is_per_tenant(settings: &Map<String, Value>) -> bool {
    let mode = settings.get("TenancyConfig").and_then(|tenancy| tenancy.get("TenantIsolationMode"));
    mode.and_then(Value::as_str) == Some("PER_TENANT")
}

/// What AWS's SDKs find in a function's environment: credentials that sign requests, in the name of its account, to
/// services that verify none; and where the X-Ray daemon would be.
fn credentials(id: &FunctionId) -> [(String, String); 4] {
    [
        ("AWS_ACCESS_KEY_ID".into(), id.account.clone()),
        ("AWS_SECRET_ACCESS_KEY".into(), "lichen".into()),
        ("AWS_SESSION_TOKEN".into(), "lichen".into()),
        ("AWS_XRAY_DAEMON_ADDRESS".into(), "127.0.0.1:2000".into()),
    ]
}

/// The code of a function's layers, put together, where it has some.
pub(super) fn layers(content: &Content) -> Result<Option<CodeId>, SettingsError> {
    let Some(layers) = content.settings.get("Layers") else { return Ok(None) };
    let layers = Vec::<Layer>::deserialize(layers).map_err(SettingsError::Malformed)?;
    let code =
        |layer: &Layer| CodeId::from_hex(&layer.code).ok_or_else(|| SettingsError::Layer(layer.arn.as_str().into()));
    Ok(CodeId::of_bundle(&layers.iter().map(code).collect::<Result<Vec<_>, _>>()?))
}

/// The function that dispatch runs: `$LATEST`, or the version of this number. A minimum of warm instances is the
/// function's own; a version has one when it is provisioned with it.
pub(super) fn function(
    id: &FunctionId,
    content: &Content,
    version: Option<u64>,
    generation: &str,
    code: &CodeStore,
) -> Result<Function, SettingsError> {
    let settings = Settings::deserialize(Value::Object(content.settings.clone())).map_err(SettingsError::Malformed)?;
    let mut environment = settings.environment.variables;
    let logging = settings.logging_config.variables().into_iter().flatten();
    let kind = kind_of(&settings.runtime).ok_or_else(|| SettingsError::UnknownRuntime((*settings.runtime).into()))?;
    // What only computes has nobody to show credentials to.
    let own = logging.chain(credentials(id)).filter(|_| !kind.is_pure());
    for (name, value) in own {
        // A function that says it itself is believed.
        environment.entry(name).or_insert(value);
    }
    // An instance for each request is one for each tenant.
    let per_tenant = is_per_tenant(&content.settings);
    Ok(Function {
        key: FunctionKey {
            account: id.account.clone(),
            region: id.region.clone(),
            name: id.name.clone(),
            version: version.map_or_else(|| LATEST.to_owned(), |number| number.to_string()),
        }
        .into(),
        arn: version.map_or_else(|| id.arn(), |number| format!("{}:{number}", id.arn())),
        revision: generation.to_owned(),
        kind,
        runtime: settings.runtime,
        handler: settings.handler,
        code: code.folder(content.code),
        layers: None,
        memory_mib: settings.memory_size,
        tmp_mib: settings.ephemeral_storage.size,
        timeout_s: settings.timeout,
        environment,
        isolation: if per_tenant { Isolation::Request } else { settings.lichen.isolation.unwrap_or_default() },
        network: settings.lichen.network.unwrap_or_default(),
        min_warm: if version.is_none() { settings.lichen.min_warm } else { 0 },
        profiles: settings.lichen.pu,
        pure: Pure {
            inputs: settings.lichen.inputs,
            outputs: settings.lichen.outputs,
            // Only what comes out the same each time is worth keeping.
            deterministic: settings.lichen.deterministic || settings.lichen.cache,
            cache: settings.lichen.cache,
            engine: settings.lichen.engine,
        },
        max_concurrency: content.reserved,
        log_format: settings.logging_config.format(),
        snap_start: version.is_some() && settings.snap_start.apply_on == "PublishedVersions",
        log_group: settings.logging_config.log_group.unwrap_or_else(|| format!("/aws/lambda/{}", id.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes() {
        for runtime in ["python3.11", "python3", "python"] {
            assert_eq!(kind_of(runtime), Some(Kind::Python), "{runtime}");
        }
        for runtime in ["nodejs20.x", "nodejs", "node", "node22"] {
            assert_eq!(kind_of(runtime), Some(Kind::Node), "{runtime}");
        }
        for runtime in ["provided", "provided.al2", "provided.al2023"] {
            assert_eq!(kind_of(runtime), Some(Kind::Provided), "{runtime}");
        }
        assert_eq!((kind_of("wasm"), kind_of("native")), (Some(Kind::Wasm), Some(Kind::Native)));
        for runtime in ["", "PYTHON3.9", "java21", "provided.al2026", "nodejs-edge", "pythonic"] {
            assert_eq!(kind_of(runtime), None, "{runtime}");
        }
    }
}
