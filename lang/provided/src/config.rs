//! An instance's configuration (`lang/README.md`), and the environment that its programs get.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Where a function's code is, and its layers.
pub const TASK_ROOT: &str = "/var/task";
/// Where the instance's programs find the APIs.
pub const API: &str = "127.0.0.1:9001";
/// Where programs are looked for.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/opt/bin";
/// The longest answer unless the configuration says otherwise.
const RESPONSE_MAX: usize = 6 * 1024 * 1024 + 100;

/// Variables that extensions do not get.
const NOT_FOR_EXTENSIONS: [&str; 8] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
];

#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub function_name: String,
    pub function_version: String,
    pub function_arn: String,
    pub handler: String,
    pub memory_mib: u32,
    region: String,
    log_group: String,
    pub log_stream: String,
    pub initialization_type: String,
    pub runtime: String,
    /// Of a language's, the version that it gets here: `3.11`, or empty for any.
    #[serde(default)]
    pub language_version: String,
    #[serde(default = "response_max")]
    pub response_max: usize,
    environment: BTreeMap<String, String>,
}

fn response_max() -> usize {
    RESPONSE_MAX
}

/// What a template is told.
#[derive(Deserialize)]
pub struct TemplateConfig {
    /// A dedicated one's function.
    pub function: Option<Config>,
}

/// What accompanies a fork request to a dedicated template, if anything does.
#[derive(Deserialize)]
struct Change {
    log_stream: String,
}

/// The language of a function's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Python,
    Node,
    /// The function brings its own.
    Own,
}

impl Config {
    /// What an instance is to be, from its fork request and from what its template knew.
    pub fn of(known: Option<Self>, request: &[u8]) -> Result<Self, serde_json::Error> {
        match known {
            Some(known) if request.is_empty() => Ok(known),
            Some(known) => serde_json::from_slice(request).map(|Change { log_stream }| Self { log_stream, ..known }),
            None => serde_json::from_slice(request),
        }
    }

    pub fn language(&self) -> Language {
        match &self.runtime {
            runtime if runtime.starts_with("python") => Language::Python,
            runtime if runtime.starts_with("node") => Language::Node,
            _ => Language::Own,
        }
    }

    /// The function's own variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Lambda's variables, and over them the function's own.
    pub fn environment(&self) -> BTreeMap<&str, String> {
        let mut variables: BTreeMap<&str, String> = [
            ("_HANDLER", self.handler.as_str()),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_LAMBDA_FUNCTION_NAME", &self.function_name),
            ("AWS_LAMBDA_FUNCTION_VERSION", &self.function_version),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", &self.initialization_type),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &self.log_group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", &self.log_stream),
            ("AWS_LAMBDA_RUNTIME_API", API),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
            ("HOME", "/tmp"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("LAMBDA_TASK_ROOT", TASK_ROOT),
            ("LANG", "en_US.UTF-8"),
            ("LD_LIBRARY_PATH", "/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"),
            ("PATH", PATH),
            ("PWD", TASK_ROOT),
            ("TZ", ":UTC"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into();
        variables.insert("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", self.memory_mib.to_string());
        if self.language() == Language::Python {
            variables.insert("PYTHONPATH", "/var/runtime".to_owned());
        }
        if self.language() != Language::Own {
            variables.insert("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", self.runtime));
        }
        variables.extend(self.environment.iter().map(|(name, value)| (name.as_str(), value.clone())));
        variables
    }

    /// What extensions get of it.
    pub fn environment_of_extensions(&self) -> BTreeMap<&str, String> {
        let mut variables = self.environment();
        variables.retain(|name, _| !NOT_FOR_EXTENSIONS.contains(name));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = r#"{"function_name": "f", "function_version": "$LATEST", "function_arn": "arn", "handler": "h",
        "memory_mib": 128, "timeout_s": 3, "region": "r", "log_group": "g", "log_stream": "s",
        "initialization_type": "on-demand", "runtime": "provided.al2023", "environment": {"TZ": "CET", "EMPTY": ""}}"#;

    #[test]
    fn an_instance_is_what_its_template_or_its_request_says() {
        let known = Config::of(None, KNOWN.as_bytes()).unwrap();
        assert_eq!((known.response_max, known.language()), (RESPONSE_MAX, Language::Own));
        let changed = Config::of(Some(known.clone()), br#"{"log_stream": "t"}"#).unwrap();
        assert_eq!((changed.log_stream.as_str(), changed.handler.as_str()), ("t", "h"));
        assert_eq!(Config::of(Some(known), b"").unwrap().log_stream, "s");
        assert!(Config::of(None, b"").is_err());
    }

    #[test]
    fn the_functions_own_variables_come_last() {
        let config = Config::of(None, KNOWN.as_bytes()).unwrap();
        let all = config.environment();
        assert_eq!((all["TZ"].as_str(), all["_HANDLER"].as_str()), ("CET", "h"));
        assert!(!all.contains_key("AWS_EXECUTION_ENV"), "which only runtimes of AWS's have");
        assert!(!config.environment_of_extensions().contains_key("_HANDLER"));
        assert_eq!(config.variable("EMPTY"), None);
        let python = Config { runtime: "python3.11".into(), ..config };
        assert_eq!(python.environment()["AWS_EXECUTION_ENV"], "AWS_Lambda_python3.11");
    }
}
