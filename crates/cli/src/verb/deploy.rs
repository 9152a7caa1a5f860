//! `lichen deploy`: code on a node, as a new function or as a new state of one that is there.

use crate::node::{Endpoint, explain, pause};
use crate::package::{self, Described, Language, Package, Wishes};
use crate::print::{self, Format, Output};
use crate::progress::Step;
use crate::verdict::{Exit, Verdict, wrong};
use api::lambda::{FunctionConfiguration, Isolation, NativeEngine, Network};
use api::pu::Profile;
use api::{Client, Manifest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A node that needs longer to take a function has a problem: two minutes for its code, and others' code before it.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a function is made of and how it is to run: for `deploy` and for `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// python, node, provided, wasm, native, or a name of AWS's such as python3.11 [default: told from the files]
    #[arg(long, value_parser = parse_runtime)]
    runtime: Option<Runtime>,
    /// The function to call: FILE.FUNCTION [default: told from the files]
    #[arg(long, value_name = "app.handler")]
    handler: Option<String>,
    /// Memory of an instance, /tmp included [default: 128]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Time that an invocation may take [default: 3]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// An environment variable; any number of them
    #[arg(long, value_parser = parse_variable, value_name = "K=V")]
    env: Vec<(String, String)>,
    /// What an instance serves: one invocation after the other, or a single request
    #[arg(long, value_parser = parse_isolation, value_name = "instance|request")]
    isolation: Option<Isolation>,
    /// What an instance can reach: itself only, or the outside too
    #[arg(long, value_parser = parse_network, value_name = "none|egress")]
    network: Option<Network>,
    /// Input sets of a pure function, the one first that a body is put into [default: in]
    #[arg(long, value_delimiter = ',', value_name = "SET,…")]
    inputs: Option<Vec<String>>,
    /// Output sets of a pure function [default: those that it makes]
    #[arg(long, value_delimiter = ',', value_name = "SET,…")]
    outputs: Option<Vec<String>>,
    /// A pure function's clock stands still, and its random numbers are the same in every run
    #[arg(long)]
    deterministic: bool,
    /// Results of a pure function may be kept for later runs with the same inputs
    #[arg(long)]
    cache: bool,
    /// What runs a native function: an empty process for each run, or a virtual machine without a kernel [default: process]
    #[arg(long, value_parser = parse_engine, value_name = "process|kvm")]
    engine: Option<NativeEngine>,
    /// Install dependencies again instead of taking them from the cache
    #[arg(long)]
    reinstall: bool,
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder, a zip, a .py, .js, .mjs, .cjs or .wasm file, or a program that is its own runtime
    path: PathBuf,
    /// The function's name
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    #[command(flatten)]
    settings: Settings,
    /// Kinds of processing units that may run it, the best first; each with its own memory and price where it has some:
    /// dpu:memory=256:price=0.4,cpu
    #[arg(long, value_delimiter = ',', value_name = "KIND[:memory=MIB][:price=P],…")]
    pu: Vec<Profile>,
    /// Instances kept ready whatever the load
    #[arg(long, value_name = "N")]
    min_warm: Option<u32>,
    /// The most invocations at once
    #[arg(long, value_name = "N")]
    max_concurrency: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Endpoint,
}

/// What holds for a program that is run like a command.
#[derive(Debug)]
pub struct OfAProgram {
    pub environment: Vec<(String, String)>,
    pub memory_mib: Option<u32>,
    pub timeout_s: Option<u32>,
}

/// What `--runtime` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    language: Language,
    /// As AWS writes it.
    name: String,
}

/// How to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Saying what takes long.
    Told,
    /// Saying nothing: what is printed is for programs.
    Quiet,
    /// For one use.
    Fleeting,
}

impl Settings {
    /// The package of the code at this path, and the manifest of a function made of it.
    pub fn pack(self, path: &Path, name: String, how: How) -> anyhow::Result<(Package, Manifest)> {
        let described = Described::of(path)?;
        let built = described.build(path, how == How::Quiet)?;
        let mut settings = self.over(described)?;
        let wishes = Wishes {
            language: settings.runtime.as_ref().map(|runtime| runtime.language),
            handler: settings.handler.as_deref(),
            reinstall: settings.reinstall,
            fleeting: how == How::Fleeting,
            quiet: how == How::Quiet,
        };
        let package = package::pack(&built.path, &wishes)?;
        let runtime = settings.runtime.take();
        let runtime = runtime.map_or_else(|| usual_runtime(package.language).to_owned(), |runtime| runtime.name);
        let is_pure = matches!(package.language, Language::Wasm | Language::Native);
        let vain = settings.vain_for(package.language).join(", ");
        if !vain.is_empty() {
            let kind = if is_pure { "native functions have" } else { "pure functions (wasm, native) have" };
            return Err(wrong(format!("{vain}: only {kind} this, and {name} is a function of runtime {runtime}")));
        }
        let manifest = Manifest {
            name,
            runtime,
            handler: package.handler.clone(),
            memory_mib: settings.memory,
            timeout_s: settings.timeout,
            environment: settings.env.into_iter().collect(),
            isolation: settings.isolation,
            network: settings.network,
            inputs: is_pure.then(|| settings.inputs.unwrap_or_default()),
            outputs: is_pure.then(|| settings.outputs.unwrap_or_default()),
            deterministic: is_pure.then_some(settings.deterministic),
            cache: is_pure.then_some(settings.cache),
            engine: settings.engine,
            ..Manifest::default()
        };
        Ok((package, manifest))
    }

    /// What was asked for that functions of this language do not have.
    fn vain_for(&self, language: Language) -> Vec<&'static str> {
        let is_pure = matches!(language, Language::Wasm | Language::Native);
        let asked = [
            ("inputs", self.inputs.is_some(), is_pure),
            ("outputs", self.outputs.is_some(), is_pure),
            ("deterministic", self.deterministic, is_pure),
            ("cache", self.cache, is_pure),
            ("engine", self.engine.is_some(), language == Language::Native),
        ];
        asked.into_iter().filter(|(_, asked, has)| *asked && !has).map(|(name, ..)| name).collect()
    }

    /// What of it holds for a program; an error where there is more.
    pub fn of_a_program(self) -> anyhow::Result<OfAProgram> {
        let asked = [
            ("--handler", self.handler.is_some()),
            ("--isolation", self.isolation.is_some()),
            ("--network", self.network.is_some()),
            ("--inputs", self.inputs.is_some()),
            ("--outputs", self.outputs.is_some()),
            ("--deterministic", self.deterministic),
            ("--cache", self.cache),
            ("--engine", self.engine.is_some()),
        ];
        let vain: Vec<&str> = asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect();
        if !vain.is_empty() {
            let vain = vain.join(", ");
            return Err(wrong(format!(
                "{vain}: for functions; a program runs as one, on a node for one call, with -d"
            )));
        }
        Ok(OfAProgram { environment: self.env, memory_mib: self.memory, timeout_s: self.timeout })
    }

    /// What was typed, and where nothing was, what the folder says.
    fn over(self, described: Described) -> anyhow::Result<Self> {
        let in_file = |error: String| wrong(format!("function.toml: runtime: {error}"));
        let runtime = described.runtime.as_deref().map(parse_runtime).transpose().map_err(in_file)?;
        let in_file = |error: String| wrong(format!("function.toml: engine: {error}"));
        let engine = described.engine.as_deref().map(parse_engine).transpose().map_err(in_file)?;
        Ok(Self {
            runtime: self.runtime.or(runtime),
            handler: self.handler.or(described.handler),
            memory: self.memory.or(described.memory),
            timeout: self.timeout.or(described.timeout),
            env: described.env.into_iter().chain(self.env).collect(),
            inputs: self.inputs.or(described.inputs),
            outputs: self.outputs.or(described.outputs),
            deterministic: self.deterministic || described.deterministic.unwrap_or_default(),
            cache: self.cache || described.cache.unwrap_or_default(),
            engine: self.engine.or(engine),
            ..self
        })
    }
}

pub fn act(arguments: Arguments) -> Verdict {
    let client = arguments.node.client()?.with_patience(Some(PATIENCE));
    let quiet = arguments.output.format == Format::Json;
    let how = if quiet { How::Quiet } else { How::Told };
    let (package, manifest) = arguments.settings.pack(&arguments.path, arguments.name, how)?;
    let manifest = Manifest {
        min_warm: arguments.min_warm,
        max_concurrency: arguments.max_concurrency,
        pu: arguments.pu,
        ..manifest
    };
    if let (Some(remark), false) = (&package.remark, quiet) {
        eprintln!("{}: {remark}", arguments.path.display());
    }
    let step = Step::begin(&format!("deploying {} ({})", manifest.name, size(package.zip.len())), quiet);
    let (function, how) = put(&client, &manifest, &package)?;
    drop(step);
    match arguments.output.format {
        Format::Json => print::json(&serde_json::to_value(&function)?)?,
        Format::Table => print::line(&format!(
            "{} {how}: {}, {}, {} MiB, {} s",
            function.function_name, function.runtime, function.handler, function.memory_size, function.timeout
        ))?,
    }
    Ok(Exit::Done)
}

/// Makes the function what the manifest and the package say, and waits until it is; tells what it took.
pub fn put(
    client: &Client,
    manifest: &Manifest,
    package: &Package,
) -> anyhow::Result<(FunctionConfiguration, &'static str)> {
    let how = match client.function(&manifest.name) {
        Ok(there) => {
            let same_code = there.code_sha256 == BASE64.encode(Sha256::digest(&package.zip));
            if !same_code {
                client.update_code(manifest, &package.zip).map_err(explain)?;
                settled(client, &manifest.name)?;
            }
            client.update_configuration(manifest).map_err(explain)?;
            if same_code { "is deployed, its code as before" } else { "is deployed anew" }
        }
        Err(error) if error.code() == "ResourceNotFoundException" => {
            client.create_function(manifest, &package.zip).map_err(explain)?;
            "is deployed"
        }
        Err(error) => return Err(explain(error)),
    };
    if manifest.max_concurrency.is_some() {
        client.reserve_concurrency(&manifest.name, manifest.max_concurrency).map_err(explain)?;
    }
    Ok((settled(client, &manifest.name)?, how))
}

/// Waits until the node has done with the function what it was asked to.
fn settled(client: &Client, name: &str) -> anyhow::Result<FunctionConfiguration> {
    let begun = Instant::now();
    loop {
        let function = client.function(name).map_err(explain)?;
        let reason = |member: &str| {
            let text = function.other.get(member).and_then(|text| text.as_str());
            wrong(format!("{name} cannot run: {}", text.unwrap_or("the node does not say why")))
        };
        match (function.state.as_str(), function.last_update_status.as_str()) {
            ("Failed", _) => return Err(reason("StateReason")),
            (_, "Failed") => return Err(reason("LastUpdateStatusReason")),
            ("Active" | "Inactive", "Successful" | "") => return Ok(function),
            _ if begun.elapsed() > PATIENCE => {
                anyhow::bail!("the node has not made {name} ready in {} s: see its log", PATIENCE.as_secs())
            }
            _ => pause(LOOK_AGAIN),
        }
    }
}

fn size(bytes: usize) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}

/// What a function's runtime is called when only its language is known.
fn usual_runtime(language: Language) -> &'static str {
    match language {
        Language::Python => "python3.11",
        Language::Node => "nodejs20.x",
        Language::Provided => "provided.al2023",
        Language::Wasm => "wasm",
        Language::Native => "native",
    }
}

fn parse_runtime(text: &str) -> Result<Runtime, String> {
    let versioned =
        |prefix: &str| text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let named = |language, name: &str| Ok(Runtime { language, name: name.to_owned() });
    match text {
        "python" | "python3" => named(Language::Python, usual_runtime(Language::Python)),
        "node" | "nodejs" => named(Language::Node, usual_runtime(Language::Node)),
        _ if versioned("python3.") => named(Language::Python, text),
        _ if versioned("nodejs") => named(Language::Node, text),
        "provided" => named(Language::Provided, usual_runtime(Language::Provided)),
        "provided.al2" | "provided.al2023" => named(Language::Provided, text),
        "wasm" => named(Language::Wasm, text),
        "native" => named(Language::Native, text),
        "opencl" | "rtl" | "cuda" => {
            Err("functions of this kind are not supported yet: python, node, provided, wasm and native are".to_owned())
        }
        _ => Err(
            "there is python, node, provided, wasm, native, and AWS's names for their versions, such as python3.11 and nodejs20.x"
                .to_owned(),
        ),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not of the form NAME=VALUE".to_owned()),
    }
}

fn parse_isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "instance" => Ok(Isolation::Instance),
        "request" => Ok(Isolation::Request),
        _ => Err("there is instance and request".to_owned()),
    }
}

fn parse_engine(text: &str) -> Result<NativeEngine, String> {
    match text {
        "process" => Ok(NativeEngine::Process),
        "kvm" => Ok(NativeEngine::Kvm),
        _ => Err("there is process and kvm".to_owned()),
    }
}

fn parse_network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "egress" => Ok(Network::Egress),
        _ => Err("there is none and egress".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_by_either_name() {
        let parsed = |text: &str| parse_runtime(text).map(|runtime| (runtime.language, runtime.name));
        assert_eq!(parsed("python").unwrap(), (Language::Python, "python3.11".into()));
        assert_eq!(parsed("python3.12").unwrap(), (Language::Python, "python3.12".into()));
        assert_eq!(parsed("nodejs22.x").unwrap(), (Language::Node, "nodejs22.x".into()));
        assert_eq!(parsed("wasm").unwrap(), (Language::Wasm, "wasm".into()));
        assert!(parsed("cuda").unwrap_err().contains("not supported yet"));
        assert!(parsed("ruby3.3").is_err() && parsed("python3.").is_err());
    }

    #[test]
    fn nothing_is_asked_for_in_vain() {
        let settings =
            Settings { cache: true, inputs: Some(vec![]), engine: Some(NativeEngine::Kvm), ..Settings::default() };
        assert_eq!(settings.vain_for(Language::Python), ["inputs", "cache", "engine"]);
        assert_eq!(settings.vain_for(Language::Wasm), ["engine"]);
        assert!(settings.vain_for(Language::Native).is_empty());
        assert!(Settings::default().vain_for(Language::Node).is_empty());
        assert!(settings.of_a_program().is_err() && Settings::default().of_a_program().is_ok());
    }

    #[test]
    fn variables_may_contain_equals_signs() {
        assert_eq!(parse_variable("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!(parse_variable("A=").unwrap(), ("A".into(), String::new()));
        assert!(parse_variable("A").is_err() && parse_variable("=x").is_err());
    }
}
