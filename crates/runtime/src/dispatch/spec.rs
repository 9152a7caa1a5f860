//! What a worker has to know to make a template or an instance of a function.

use super::config::DispatchConfig;
use crate::function::Function;
use sandbox::spec::{Code, Kind, Limits, NativeEngine, Network, TemplateSpec, Version};
use std::collections::BTreeMap;

/// MiB of a generic template, which runs nobody's code.
const GENERIC_MIB: u32 = 1024;
/// MiB of its `/tmp`.
const GENERIC_TMP_MIB: u32 = 64;

/// An instance's configuration: see `lang/README.md`.
#[derive(serde::Serialize)]
struct InstanceConfig<'a> {
    function_name: &'a str,
    function_version: &'a str,
    function_arn: &'a str,
    handler: &'a str,
    memory_mib: u32,
    timeout_s: u32,
    region: &'a str,
    log_group: &'a str,
    log_stream: &'a str,
    initialization_type: &'a str,
    runtime: &'a str,
    language_version: String,
    layers: bool,
    response_max: usize,
    environment: &'a BTreeMap<String, String>,
    /// Of pure functions.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    outputs: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deterministic: bool,
    engine: NativeEngine,
}

/// The function's code, and its configuration on this version of its language.
pub(super) fn code(function: &Function, version: Version, log_stream: &str, node: &DispatchConfig) -> Code {
    let config = InstanceConfig {
        function_name: &function.key.name,
        function_version: &function.key.version,
        function_arn: &function.arn,
        handler: &function.handler,
        memory_mib: function.memory_mib,
        timeout_s: function.timeout_s,
        region: &function.key.region,
        log_group: &function.log_group,
        log_stream,
        initialization_type: function.initialization_type(),
        runtime: &function.runtime,
        language_version: version.to_string(),
        layers: function.layers.is_some(),
        response_max: node.response_max,
        environment: &function.environment,
        outputs: &function.pure.outputs,
        deterministic: function.pure.deterministic,
        engine: function.pure.engine,
    };
    // Strings and numbers cannot fail to be written.
    let config = serde_json::to_string(&config).unwrap_or_default();
    Code { folder: function.code.clone(), layers: function.layers.clone(), config }
}

pub(super) fn limits(function: &Function) -> Limits {
    Limits::for_memory(function.memory_mib, function.tmp_mib)
}

/// The template that has loaded a function, which runs on this version of its language.
pub(super) fn dedicated(
    function: &Function,
    version: Version,
    log_stream: &str,
    config: &DispatchConfig,
) -> TemplateSpec {
    TemplateSpec {
        kind: function.kind,
        version: if matches!(function.kind, Kind::Python | Kind::Node) { version } else { Version::default() },
        preload: preload(function.kind, config),
        function: Some(code(function, version, log_stream, config)),
        limits: limits(function),
        network: function.network,
    }
}

/// The template that every function of its language can be started from.
pub(super) fn generic((kind, version): (Kind, Version), network: Network, config: &DispatchConfig) -> TemplateSpec {
    TemplateSpec {
        kind,
        version,
        preload: preload(kind, config),
        function: None,
        limits: Limits::for_memory(GENERIC_MIB, GENERIC_TMP_MIB),
        network,
    }
}

fn preload(kind: Kind, config: &DispatchConfig) -> Vec<String> {
    config.preload.get(&kind).cloned().unwrap_or_default()
}

/// The name of a new log stream: `2026/10/28/[$LATEST]0123456789abcdef0123456789abcdef`.
pub(super) fn log_stream(function: &Function) -> String {
    let day = api::time::day_path(api::time::now_ms());
    format!("{day}/[{}]{}", function.key.version, uuid::Uuid::new_v4().simple())
}
