//! The place that a function expects: its environment, its folder, its settings.

use crate::object::{Object, Raised, because};
use crate::prepared::Prepared;
use serde::Deserialize;
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

/// Where a function's code is.
pub const TASK_ROOT: &str = "/var/task";
/// The longest answer unless the configuration says otherwise.
const RESPONSE_MAX: usize = 6 * 1024 * 1024 + 100;

/// An instance configuration: see `lang/README.md`.
#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow)]
    function_name: Cow<'a, str>,
    function_version: Cow<'a, str>,
    handler: Cow<'a, str>,
    memory_mib: u32,
    region: Cow<'a, str>,
    log_group: Cow<'a, str>,
    log_stream: Cow<'a, str>,
    initialization_type: Cow<'a, str>,
    runtime: Cow<'a, str>,
    #[serde(default)]
    response_max: Option<usize>,
    #[serde(default)]
    spin_us: u32,
    #[serde(default)]
    layers: bool,
    environment: std::collections::BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// What accompanies a fork request to a dedicated template, if anything does.
#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    log_stream: Cow<'a, str>,
}

/// What the rest has to know of a function.
pub struct Settled {
    pub handler: String,
    /// Bytes of the longest answer.
    pub response_max: usize,
    /// Whether its processes count as restored from a snapshot.
    pub snap_start: bool,
    /// How long to look for the next invocation before sleeping.
    pub spin: Duration,
}

type Variables<'a> = Vec<(&'a str, Cow<'a, str>)>;

impl<'a> Config<'a> {
    /// Lambda's variables, and over them the function's own.
    fn variables(&'a self) -> Variables<'a> {
        let text = |text: &'a str| Cow::Borrowed(text);
        let mut variables: Variables<'a> = vec![
            ("_HANDLER", text(&self.handler)),
            ("AWS_REGION", text(&self.region)),
            ("AWS_DEFAULT_REGION", text(&self.region)),
            ("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", self.runtime).into()),
            ("AWS_LAMBDA_FUNCTION_NAME", text(&self.function_name)),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", self.memory_mib.to_string().into()),
            ("AWS_LAMBDA_FUNCTION_VERSION", text(&self.function_version)),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", text(&self.initialization_type)),
            ("AWS_LAMBDA_LOG_GROUP_NAME", text(&self.log_group)),
            ("AWS_LAMBDA_LOG_STREAM_NAME", text(&self.log_stream)),
            ("AWS_XRAY_CONTEXT_MISSING", text("LOG_ERROR")),
            ("HOME", text("/tmp")),
            ("LAMBDA_RUNTIME_DIR", text("/var/runtime")),
            ("LAMBDA_TASK_ROOT", text(TASK_ROOT)),
            ("LANG", text("en_US.UTF-8")),
            ("LD_LIBRARY_PATH", text("/var/task:/var/task/lib:/opt/lib")),
            ("PATH", text("/usr/local/bin:/usr/bin:/bin:/opt/bin")),
            ("PWD", text(TASK_ROOT)),
            ("PYTHONPATH", text("/var/runtime")),
            ("TZ", text(":UTC")),
        ];
        variables.retain(|(name, _)| !self.environment.contains_key(*name));
        variables.extend(self.environment.iter().map(|(name, value)| (name.as_ref(), text(value))));
        variables
    }

    fn settled(&self) -> Settled {
        let response_max = self.response_max.unwrap_or(RESPONSE_MAX);
        let spin = Duration::from_micros(self.spin_us.into());
        let snap_start = self.initialization_type == "snap-start";
        Settled { handler: self.handler.clone().into_owned(), response_max, snap_start, spin }
    }
}

/// Makes this process the place that a function expects.
pub fn settle(prepared: &Prepared, config: &[u8]) -> Result<Settled, Raised> {
    let config = parse(config)?;
    let variables = config.variables();
    replace_environment(&variables);
    prepared.environ.clear();
    for (name, value) in &variables {
        prepared.environ.insert(&Object::bytes(name.as_bytes())?, &Object::bytes(value.as_bytes())?)?;
    }
    rustix::process::chdir(TASK_ROOT).map_err(|e| because("the function's folder cannot be entered")(&e))?;
    for (name, value) in [
        (c"function_name", Object::text(config.function_name.as_bytes())?),
        (c"function_version", Object::text(config.function_version.as_bytes())?),
        (c"memory", Object::text(config.memory_mib.to_string().as_bytes())?),
        (c"log_group", Object::text(config.log_group.as_bytes())?),
        (c"log_stream", Object::text(config.log_stream.as_bytes())?),
    ] {
        prepared.settings.set_attribute(name, &value)?;
    }
    let is_json = config.environment.get("AWS_LAMBDA_LOG_FORMAT").is_some_and(|form| form.eq_ignore_ascii_case("json"));
    let more = ["TZ", "AWS_LAMBDA_LOG_LEVEL"].iter().any(|name| config.environment.contains_key(*name));
    if config.layers || is_json || more {
        prepared.settled.call([])?;
    }
    Ok(config.settled())
}

/// What [`settle`] would answer, without doing anything.
pub fn read(config: &[u8]) -> Result<Settled, Raised> {
    Ok(parse(config)?.settled())
}

fn parse(config: &[u8]) -> Result<Config<'_>, Raised> {
    serde_json::from_slice(config).map_err(|e| because("the configuration is wrong")(&e))
}

/// Applies what a fork request to a dedicated template brings.
pub fn change(prepared: &Prepared, change: &[u8]) -> Result<(), Raised> {
    if change.is_empty() {
        return Ok(());
    }
    let change: Change<'_> = serde_json::from_slice(change).map_err(|e| because("the configuration is wrong")(&e))?;
    let name = c"AWS_LAMBDA_LOG_STREAM_NAME";
    let stream = change.log_stream.as_bytes();
    prepared.settings.set_attribute(c"log_stream", &Object::text(stream)?)?;
    prepared.environ.insert(&Object::bytes(name.to_bytes())?, &Object::bytes(stream)?)?;
    set_variable(name, stream);
    Ok(())
}

fn set_variable(name: &CStr, value: &[u8]) {
    if let Ok(value) = CString::new(value) {
        // SAFETY: a new child has one thread; the C library copies both.
        unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
    }
}

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Makes these the C library's environment. What it was is not freed: somebody may still point to it.
fn replace_environment(variables: &Variables<'_>) {
    let pairs = variables.iter().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok());
    let list: Vec<*mut c_char> = pairs.map(CString::into_raw).chain([std::ptr::null_mut()]).collect();
    // SAFETY: settling happens while the process has one thread, or holds the interpreter's lock before any code of the
    // function has run. The C library takes the list over as it is, and copies it when it has to change it.
    unsafe { environ = Box::leak(list.into_boxed_slice()).as_mut_ptr() };
}
