//! What a function's configuration may contain beyond what AWS's model says ([`super::model`]): rules between members, and
//! texts of AWS's own.

use super::bounds::Bounds;
use super::constraint::find;
use super::fault::Fault;
use super::logging_config;
use api::lambda::Options;
use api::pu::Profile;
use daemon::pu::Pus;
use runtime::registry::kind_of;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Runtimes that AWS takes, in the order in which it lists them.
pub const RUNTIMES: &str = "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, \
    python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet10, dotnet8, \
    java11, dotnet6, nodejs18.x, provided.al2, java8.al2";
/// Runtimes that AWS takes no more. `provided` alone is one of them, and a word of Lichen's own for all of its kind.
const RETIRED: [&str; 19] = [
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "java8",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "python2.7",
    "python3.6",
    "python3.7",
    "ruby2.5",
    "ruby2.6",
    "ruby2.7",
];
/// Runtimes that Lambda has and this node has not.
const OTHER_RUNTIMES: [&str; 5] = ["java", "dotnet", "ruby", "go", "custom"];
/// Variables that the platform sets.
const RESERVED: [&str; 18] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];
/// Members of requests that are not settings.
const NOT_SETTINGS: [&str; 6] = ["FunctionName", "Code", "Tags", "Publish", "PublishTo", "RevisionId"];

/// The member that names a function's capacity provider.
pub const PROVIDED: &str = "CapacityProviderConfig";
/// What AWS lets functions have whose capacity somebody provides: seconds, MiB.
const PROVIDED_TIMEOUT_S: u32 = 5400;
const PROVIDED_MEMORY_MIB: u32 = 32_768;

/// What a function of such settings may ask for.
pub fn bounds_for<'a>(settings: &Map<String, Value>, bounds: &'a Bounds) -> Cow<'a, Bounds> {
    match find(settings, PROVIDED) {
        None => Cow::Borrowed(bounds),
        Some(_) => Cow::Owned(Bounds {
            timeout_max_s: bounds.timeout_max_s.max(PROVIDED_TIMEOUT_S),
            memory_max_mib: bounds.memory_max_mib.max(PROVIDED_MEMORY_MIB),
            ..bounds.clone()
        }),
    }
}

/// Checks what `CreateFunction` was asked.
pub fn check_creation(request: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    if find(request, "PackageType").is_some_and(|kind| kind == "Image") {
        return Err(Fault::invalid_parameter("This node runs functions from zip files; it takes no images yet."));
    }
    if find(request, "Runtime").is_none() || find(request, "Handler").is_none() {
        let message = "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
        return Err(Fault::invalid_parameter(message));
    }
    check_further(request, bounds)
}

/// Checks what `UpdateFunctionConfiguration` was asked.
pub fn check_update(request: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    check_further(request, bounds)
}

fn check_further(request: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    if let Some(runtime) = find(request, "Runtime").and_then(Value::as_str) {
        check_runtime(runtime)?;
    }
    if let Some(variables) = find(request, "Environment.Variables").and_then(Value::as_object) {
        check_environment(variables, bounds)?;
    }
    if let Some(tags) = find(request, "Tags").and_then(Value::as_object) {
        check_tags(tags, bounds)?;
    }
    match find(request, "Lichen").map(Options::deserialize) {
        Some(Err(error)) => Err(Fault::invalid_parameter(format!("The member Lichen cannot be used: {error}"))),
        _ => Ok(()),
    }
}

/// Checks the profiles that a request names: that there are PUs for one of them, and that none asks for too much.
pub fn check_profiles(request: &Map<String, Value>, pus: &Pus, bounds: &Bounds) -> Result<(), Fault> {
    let options = find(request, "Lichen").map(Options::deserialize).and_then(Result::ok).unwrap_or_default();
    if let Some(mib) = options.pu.iter().filter_map(|pu| pu.memory_mib).find(|mib| *mib > bounds.memory_max_mib) {
        let limit = bounds.memory_max_mib;
        return Err(Fault::invalid_parameter(format!(
            "A profile asks for {mib} MiB of memory, and {limit} is the most."
        )));
    }
    let is_here = |profile: &Profile| pus.all().iter().any(|pu| pu.kind == profile.kind);
    if options.pu.is_empty() || options.pu.iter().any(is_here) {
        return Ok(());
    }
    let asked: Vec<&str> = options.pu.iter().map(|profile| profile.kind.as_str()).collect();
    Err(Fault::invalid_parameter(format!(
        "The function is to run on {}, and this node has no such processing unit: `lichen pu ls` shows those that it has.",
        asked.join(", ")
    )))
}

fn check_runtime(runtime: &str) -> Result<(), Fault> {
    if RETIRED.contains(&runtime) {
        return Err(Fault::invalid_parameter(format!(
            "The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We \
             recommend you use a supported runtime while creating or updating functions."
        )));
    }
    if kind_of(runtime).is_some() {
        return Ok(());
    }
    if OTHER_RUNTIMES.iter().any(|other| runtime.starts_with(other)) {
        let message =
            format!("This node does not run {runtime} yet. It runs python3.*, nodejs*.x, provided*, wasm and native.");
        return Err(Fault::invalid_parameter(message));
    }
    Err(Fault::invalid_parameter(format!(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{RUNTIMES}] \
         or be a valid ARN"
    )))
}

fn check_environment(variables: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    if variables.values().any(|value| value.as_str().is_some_and(|value| value.contains('\0'))) {
        return Err(Fault::invalid_parameter("Environment variables cannot contain a null character."));
    }
    let reserved: Vec<&str> = variables.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(Fault::invalid_parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided contains reserved keys that are currently not supported for modification. Reserved keys used in \
             this request: {}",
            reserved.join(", ")
        )));
    }
    let measured = Value::Object(variables.clone()).to_string();
    if measured.len() > bounds.environment_max {
        let limit = match bounds.environment_max {
            4096 => "4KB".to_owned(),
            bytes => format!("{bytes}B"),
        };
        return Err(Fault::invalid_parameter(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the {limit} limit. String measured: {measured}"
        )));
    }
    Ok(())
}

pub fn check_tags(tags: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    if tags.len() > bounds.tags_max {
        return Err(Fault::invalid_parameter("Number of tags exceeds resource tag limit."));
    }
    Ok(())
}

/// A new function's settings: what its creator said, and Lambda's defaults for the rest.
pub fn new_settings(request: Map<String, Value>, bounds: &Bounds) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.extend([
        ("Description".to_owned(), json!("")),
        ("Timeout".to_owned(), json!(3)),
        ("MemorySize".to_owned(), json!(128)),
        ("PackageType".to_owned(), json!("Zip")),
        ("Architectures".to_owned(), json!([architecture()])),
        ("TracingConfig".to_owned(), json!({ "Mode": "PassThrough" })),
        ("EphemeralStorage".to_owned(), json!({ "Size": 512 })),
        ("SnapStart".to_owned(), json!({ "ApplyOn": "None" })),
    ]);
    if bounds.network != sandbox::spec::Network::default() {
        settings.insert("Lichen".to_owned(), json!({ "Network": bounds.network }));
    }
    change_settings(&mut settings, request);
    settings
}

/// Puts what a request says in the place of what there is. Lambda's ways to say "none" take members away.
pub fn change_settings(settings: &mut Map<String, Value>, request: Map<String, Value>) {
    for (name, value) in request {
        if NOT_SETTINGS.contains(&name.as_str()) || value.is_null() {
            continue;
        }
        if is_nothing(&name, &value) {
            settings.remove(&name);
        } else if name == "LoggingConfig" {
            logging_config::merge(settings.entry(name).or_insert_with(|| json!({})), &value);
        } else if name == "Lichen" {
            merge(settings.entry(name).or_insert_with(|| json!({})), value);
        } else {
            settings.insert(name, value);
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn is_nothing(name: &str, value: &Value) -> bool {
    let is_empty = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        other => other.is_none_or(Value::is_null),
    };
    match name {
        "Environment" => value.get("Variables").is_none_or(Value::is_null),
        "DeadLetterConfig" => is_empty(value.get("TargetArn")),
        "Layers" | "FileSystemConfigs" | "KMSKeyArn" => is_empty(Some(value)),
        _ => false,
    }
}

/// This machine's, in AWS's words.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn creation(more: Value) -> Result<(), String> {
        let mut request = object(json!({
            "FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/service/r", "Code": {},
            "Runtime": "python3.11", "Handler": "app.handler",
        }));
        request.extend(object(more));
        check_creation(&request, &Bounds::default()).map_err(|fault| fault.message().to_owned())
    }

    #[test]
    fn what_lambda_takes_is_taken() {
        assert_eq!(creation(json!({})), Ok(()));
        let rich = json!({
            "Timeout": 900, "MemorySize": 10240, "Environment": { "Variables": { "LEVEL": "1", "a_": "" } }, "Layers": [],
            "VpcConfig": { "SubnetIds": ["s"], "SecurityGroupIds": ["g"] }, "DurableConfig": { "ExecutionTimeout": 1 },
            "Tags": { "a": "b" }, "Lichen": { "Isolation": "request", "MinWarm": 2, "Pu": ["cpu"] }, "Publish": true,
        });
        assert_eq!(creation(rich), Ok(()));
    }

    #[test]
    fn what_lambda_refuses_is_refused_in_its_words() {
        let refused = [
            (
                json!({ "Runtime": "PYTHON3.9" }),
                "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [",
            ),
            (json!({ "Runtime": "java21" }), "This node does not run java21 yet."),
            (json!({ "Handler": null }), "Runtime and Handler are mandatory parameters"),
            (
                json!({ "Environment": { "Variables": { "AWS_REGION": "x" } } }),
                "Reserved keys used in this request: AWS_REGION",
            ),
            (json!({ "Runtime": "python3.7" }), "The runtime parameter of python3.7 is no longer supported"),
            (
                json!({ "Environment": { "Variables": { "LARGE_VAR": "x".repeat(4096) } } }),
                "exceeded the 4KB limit. String measured: {\"LARGE_VAR\":\"xxx",
            ),
            (json!({ "PackageType": "Image" }), "takes no images yet"),
            (json!({ "Lichen": { "Isolaton": "request" } }), "unknown field `Isolaton`"),
            (json!({ "Lichen": { "Network": "all" } }), "unknown variant `all`"),
            (json!({ "Lichen": { "Pu": ["tpu"] } }), "there is cpu, dpu, gpu and fpga"),
        ];
        for (request, words) in refused {
            let message = creation(request).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn settings_are_merged_and_emptied() {
        let request = object(json!({ "FunctionName": "f", "Runtime": "python3.11", "Novelty": [1], "Timeout": null,
            "Environment": { "Variables": { "A": "1" } }, "Lichen": { "MinWarm": 1, "Network": "egress" } }));
        let mut settings = new_settings(request, &Bounds::default());
        assert_eq!(
            (&settings["Novelty"], &settings["Timeout"], settings.get("FunctionName")),
            (&json!([1]), &json!(3), None)
        );
        let request = object(json!({ "Environment": { "Variables": {} }, "Timeout": 9, "Lichen": { "MinWarm": 0 } }));
        change_settings(&mut settings, request);
        assert_eq!((&settings["Environment"], &settings["Timeout"]), (&json!({ "Variables": {} }), &json!(9)));
        assert_eq!(settings["Lichen"], json!({ "MinWarm": 0, "Network": "egress" }));
    }

    #[test]
    fn profiles_are_for_units_that_the_node_has() {
        let check = |pu: Value| {
            let request = object(json!({ "Lichen": { "Pu": pu } }));
            check_profiles(&request, &Pus::default(), &Bounds::default()).map_err(|fault| fault.message().to_owned())
        };
        assert_eq!((check(json!([])), check(json!(["dpu", "cpu:memory=10240"]))), (Ok(()), Ok(())));
        assert!(check(json!(["dpu", "gpu"])).unwrap_err().contains("is to run on dpu, gpu"));
        assert!(check(json!(["cpu:memory=10241"])).unwrap_err().contains("10240 is the most"));
    }
}
