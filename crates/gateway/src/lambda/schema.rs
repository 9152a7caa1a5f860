//! What a function's configuration may contain: AWS's model as tables of rules, and the rules that no table can say.

use super::bounds::Bounds;
use super::constraint::{Member, Rule, Shape, check, find, member, sentence};
use super::fault::Fault;
use api::lambda::Options;
use runtime::registry::kind_of;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Runtimes that this node runs, as they are listed to those who ask for another.
const RUNTIMES: &str = "python3.9, python3.10, python3.11, python3.12, python3.13, python3.14, \
    nodejs18.x, nodejs20.x, nodejs22.x, nodejs24.x, provided, provided.al2, provided.al2023";
/// Runtimes that Lambda has and this node has not.
const OTHER_RUNTIMES: [&str; 5] = ["java", "dotnet", "ruby", "go", "custom"];
const ROLE: &str = "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+";
const LOG_GROUP: &str = "[\\.\\-_/#A-Za-z0-9]+";
const VARIABLE: &str = "[a-zA-Z]([a-zA-Z0-9_])+";
const ARCHITECTURES: &[&str] = &["x86_64", "arm64"];
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

/// Settings, in `CreateFunction` and `UpdateFunctionConfiguration` alike.
const SETTINGS: &[Member] = &[
    member("Runtime", Shape::Text, &[]),
    member("Role", Shape::Text, &[Rule::Pattern(ROLE, is_role)]),
    member("Handler", Shape::Text, &[Rule::Length { min: 0, max: 128 }, Rule::Pattern("[^\\s]+", has_no_space)]),
    member("Description", Shape::Text, &[Rule::Length { min: 0, max: 256 }]),
    member("Timeout", Shape::Integer, &[Rule::AtLeast(1), Rule::AtMost(|bounds| bounds.timeout_max_s.into())]),
    member("MemorySize", Shape::Integer, &[Rule::AtLeast(128), Rule::AtMost(|bounds| bounds.memory_max_mib.into())]),
    member("Environment", Shape::Object, &[]),
    member("Environment.Variables", Shape::Object, &[]),
    member("EphemeralStorage", Shape::Object, &[]),
    member(
        "EphemeralStorage.Size",
        Shape::Integer,
        &[Rule::AtLeast(512), Rule::AtMost(|bounds| bounds.tmp_max_mib.into())],
    ),
    member("PackageType", Shape::Text, &[Rule::OneOf(&["Zip", "Image"])]),
    member("Architectures", Shape::List, &[Rule::Items { min: 1, max: 1 }, Rule::EachOneOf(ARCHITECTURES)]),
    member("TracingConfig.Mode", Shape::Text, &[Rule::OneOf(&["Active", "PassThrough"])]),
    member("SnapStart.ApplyOn", Shape::Text, &[Rule::OneOf(&["PublishedVersions", "None"])]),
    member("LoggingConfig.LogFormat", Shape::Text, &[Rule::OneOf(&["JSON", "Text"])]),
    member(
        "LoggingConfig.LogGroup",
        Shape::Text,
        &[Rule::Length { min: 1, max: 512 }, Rule::Pattern(LOG_GROUP, is_log_group)],
    ),
    member("VpcConfig.SubnetIds", Shape::List, &[Rule::Items { min: 0, max: 16 }]),
    member("VpcConfig.SecurityGroupIds", Shape::List, &[Rule::Items { min: 0, max: 5 }]),
    member("Layers", Shape::List, &[]),
    member("Tags", Shape::Object, &[]),
    member("Publish", Shape::Flag, &[]),
    member("RevisionId", Shape::Text, &[]),
    member("Lichen", Shape::Object, &[]),
];

/// Members of `UpdateFunctionCode` that are no code.
pub const CODE_UPDATE: &[Member] = &[
    member("Architectures", Shape::List, &[Rule::Items { min: 1, max: 1 }, Rule::EachOneOf(ARCHITECTURES)]),
    member("DryRun", Shape::Flag, &[]),
    member("Publish", Shape::Flag, &[]),
    member("RevisionId", Shape::Text, &[]),
];

/// `PutFunctionConcurrency`.
pub const CONCURRENCY: &[Member] =
    &[member("ReservedConcurrentExecutions", Shape::Integer, &[Rule::AtLeast(0), Rule::AtMost(|_| u32::MAX.into())])];

/// Checks what `CreateFunction` was asked.
pub fn check_creation(request: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    check(request, SETTINGS, &["FunctionName", "Role", "Code"], bounds)?;
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
    check(request, SETTINGS, &[], bounds)?;
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

fn check_runtime(runtime: &str) -> Result<(), Fault> {
    if kind_of(runtime).is_some() {
        return Ok(());
    }
    if OTHER_RUNTIMES.iter().any(|other| runtime.starts_with(other)) {
        let message = format!("This node does not run {runtime} yet. It runs python3.*, nodejs*.x and provided*.");
        return Err(Fault::invalid_parameter(message));
    }
    Err(Fault::invalid_parameter(format!(
        "Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [{RUNTIMES}] \
         or be a valid ARN"
    )))
}

fn check_environment(variables: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    if variables.values().any(|value| !value.is_string()) {
        return Err(Fault::serialization("The values of environment variables are Strings"));
    }
    if let Some(name) = variables.keys().find(|name| !is_variable(name)) {
        let rule =
            format!("Map keys must satisfy constraint: [Member must satisfy regular expression pattern: {VARIABLE}]");
        return Err(Fault::validation(sentence("environment.variables", &format!("{{{name}}}"), &rule)));
    }
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
    if tags.values().any(|value| !value.is_string()) {
        return Err(Fault::serialization("The values of tags are Strings"));
    }
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
        } else if name == "Lichen" || name == "LoggingConfig" {
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
        "Environment" => is_empty(value.get("Variables")),
        "DeadLetterConfig" => is_empty(value.get("TargetArn")),
        "VpcConfig" => is_empty(value.get("SubnetIds")) && is_empty(value.get("SecurityGroupIds")),
        "Layers" | "FileSystemConfigs" | "KMSKeyArn" => is_empty(Some(value)),
        _ => false,
    }
}

/// This machine's, in AWS's words.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}

fn is_role(text: &str) -> bool {
    let rest = text.strip_prefix("arn:").and_then(|rest| rest.split_once(":iam::"));
    rest.is_some_and(|(partition, rest)| {
        let (account, role) = rest.split_once(":role").unwrap_or(("", ""));
        let role = role.strip_prefix('/').unwrap_or(role);
        (partition.is_empty() || partition.starts_with("aws"))
            && daemon::node::Account::is_valid(account)
            && !role.is_empty()
            && role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&byte))
    })
}

fn has_no_space(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

fn is_log_group(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte))
}

fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && text.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
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
                json!({ "Role": "r1" }),
                "Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
            ),
            (
                json!({ "SnapStart": { "ApplyOn": "invalidOption" } }),
                "Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
            ),
            (json!({ "Timeout": 901 }), "less than or equal to 900"),
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
            (json!({ "Environment": { "Variables": { "1A": "x" } } }), "Map keys must satisfy constraint"),
            (
                json!({ "Environment": { "Variables": { "LARGE_VAR": "x".repeat(4096) } } }),
                "exceeded the 4KB limit. String measured: {\"LARGE_VAR\":\"xxx",
            ),
            (json!({ "PackageType": "Image" }), "takes no images yet"),
            (json!({ "Lichen": { "Isolaton": "request" } }), "unknown field `Isolaton`"),
            (json!({ "Lichen": { "Network": "all" } }), "unknown variant `all`"),
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
        assert_eq!((settings.get("Environment"), &settings["Timeout"]), (None, &json!(9)));
        assert_eq!(settings["Lichen"], json!({ "MinWarm": 0, "Network": "egress" }));
    }
}
