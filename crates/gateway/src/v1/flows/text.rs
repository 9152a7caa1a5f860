//! Flows in the flow language: checked against the functions that there are, kept as text with the files that it names,
//! and read again once per revision.
//!
//! Functions are looked up for every run, as they are for an invocation: one that was deployed anew is run as it is now.

use super::known::{Flows, Registered};
use super::{id, timeout};
use crate::gateway::Gateway;
use crate::http::{Response, answer};
use crate::lambda::{Fault, name, scope};
use crate::route::Exchange;
use api::node::{FlowFile, FlowSpec};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use flow::language::diagnostic::Severity;
use flow::{Checked, Offline, Program};
use hyper::StatusCode;
use runtime::flow::{Functions, Hand, Perform};
use runtime::registry::{Resource, ResourceId};
use scope::Scope;
use serde_json::{Map, Value, json};
use sets::Item;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Programs that are kept read.
const PROGRAMS_MAX: usize = 1024;

/// Why a text is not taken.
pub enum Refusal {
    Fault(Fault),
    Text(Checked),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What is kept of a flow, and what is to be said about it.
pub fn checked(exchange: &Exchange, spec: &FlowSpec, text: &str) -> Result<(Map<String, Value>, Vec<String>), Refusal> {
    let main = main_of(text, &spec.name);
    let mut checked = flow::check(text, main, &Text::known(exchange, Some(&spec.name)));
    let warnings = checked.diagnostics.iter().map(|found| found.render(&spec.name)).collect();
    let Some(mut program) = checked.program.take() else { return Err(Refusal::Text(checked)) };
    let files = decoded(&spec.files)?;
    program.bind(&files).map_err(|error| Fault::invalid_parameter(error.to_string()))?;
    let wanted = program.functions().into_iter().map(Value::from).collect::<Vec<_>>();
    let named = program_files(text);
    let files: Map<String, Value> = spec.files.iter().filter(|(path, _)| named.contains(path)).map(kept).collect();
    let mut value = Map::from_iter([("text".to_owned(), text.into()), ("functions".to_owned(), wanted.into())]);
    if !files.is_empty() {
        value.insert("files".to_owned(), files.into());
    }
    Ok((value, warnings))
}

/// The flow of the text that has this name, where there is one; the last one else.
fn main_of<'a>(text: &str, name: &'a str) -> Option<&'a str> {
    let program = flow::check(text, Some(name), &Offline).program?;
    (program.main().name == name).then_some(name)
}

fn program_files(text: &str) -> Vec<String> {
    flow::check(text, None, &Offline).program.map(|program| program.files()).unwrap_or_default()
}

fn kept((path, files): (&String, &Vec<FlowFile>)) -> (String, Value) {
    let files = files.iter().map(|file| json!({ "name": file.name, "data": file.data }));
    (path.clone(), files.collect::<Vec<_>>().into())
}

fn decoded(files: &BTreeMap<String, Vec<FlowFile>>) -> Result<BTreeMap<String, Vec<Item<Bytes>>>, Fault> {
    let one = |path: &str, file: &FlowFile| {
        let refuse = |why: &str| Fault::invalid_parameter(format!("The file {path:?}, item {:?}: {why}", file.name));
        sets::name::check(&file.name).map_err(|error| refuse(&error.to_string()))?;
        let data = BASE64.decode(&file.data).map_err(|_| refuse("its data is not base64."))?;
        Ok(Item::new(file.name.clone(), 0, Bytes::from(data)))
    };
    let all = files.iter().map(|(path, files)| {
        let items: Result<Vec<_>, Fault> = files.iter().map(|file| one(path, file)).collect();
        Ok((path.clone(), items?))
    });
    all.collect()
}

/// What is wrong with a text: for programs, and for people.
pub fn refused(checked: &Checked) -> Response {
    let errors = checked.errors().count();
    let count = if errors == 1 { "an error".to_owned() } else { format!("{errors} errors") };
    let message = format!("The flow's text has {count}.\n{}", checked.render("flow"));
    let body = json!({ "Type": "User", "message": message, "diagnostics": checked.diagnostics });
    let mut response = answer::json(StatusCode::BAD_REQUEST, &body);
    let kind = hyper::header::HeaderValue::from_static("InvalidParameterValueException");
    response.headers_mut().insert("x-amzn-errortype", kind);
    response
}

/// A flow's text, as it is kept.
pub struct Text<'a> {
    text: &'a str,
    files: Option<&'a Value>,
}

impl<'a> Text<'a> {
    /// Nothing for a chain.
    pub fn of(resource: &'a Resource) -> Option<Self> {
        let text = resource.value.get("text")?.as_str()?;
        Some(Self { text, files: resource.value.get("files") })
    }

    /// What whoever puts the flow of this name may apply.
    pub fn known(exchange: &'a Exchange, name: Option<&str>) -> Registered<'a> {
        let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
        Registered(Flows::new(&exchange.gateway, scope, name))
    }

    /// Reads it with the flows that it applies, which may have changed since it was put.
    pub fn read(&self, name: &str, flows: &Flows<'_>) -> Result<Program, Fault> {
        let main = main_of(self.text, name);
        let mut checked = flow::check(self.text, main, flows);
        let program = checked.program.take();
        let mut program = program.ok_or_else(|| {
            checked.diagnostics.retain(|found| found.severity == Severity::Error);
            let said = checked.render(name);
            Fault::invalid_parameter(format!("The flow {name} does not fit the flows that it applies:\n{said}"))
        })?;
        let files: BTreeMap<String, Vec<FlowFile>> =
            self.files.and_then(|files| serde_json::from_value(files.clone()).ok()).unwrap_or_default();
        program.bind(&decoded(&files)?).map_err(|error| Fault::invalid_parameter(error.to_string()))?;
        Ok(program)
    }
}

/// Texts that have been read, by their flows. Each was read together with the flows that it applies: when one of them
/// changes, all are read anew.
#[derive(Debug, Default)]
pub struct Programs(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// How often flows have changed.
    changes: u64,
    /// With the revisions that were read.
    by_arn: HashMap<String, (String, Arc<Program>)>,
}

impl Programs {
    fn all(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, gateway: &Gateway, resource: &Resource, text: &Text<'_>) -> Result<Arc<Program>, Fault> {
        let arn = resource.id.arn();
        let revision = resource.value.get("revision").and_then(Value::as_str).unwrap_or_default();
        let changes = {
            let all = self.all();
            if let Some((_, program)) = all.by_arn.get(&arn).filter(|(read, _)| read == revision) {
                return Ok(program.clone());
            }
            all.changes
        };
        let flows = Flows::new(gateway, scope_of(&resource.id), Some(&resource.id.name));
        let program = Arc::new(text.read(&resource.id.name, &flows)?);
        let mut all = self.all();
        // What was read while a flow changed may be of its old state.
        if all.changes == changes {
            if all.by_arn.len() >= PROGRAMS_MAX {
                all.by_arn.clear();
            }
            all.by_arn.insert(arn, (revision.to_owned(), program.clone()));
        }
        Ok(program)
    }

    /// A flow has changed, or is gone.
    pub fn forget(&self) {
        let mut all = self.all();
        all.changes += 1;
        all.by_arn.clear();
    }
}

fn scope_of(id: &ResourceId) -> Scope<'_> {
    Scope { account: id.account.as_str().into(), region: id.region.as_str().into(), known: true }
}

/// A flow that is ready to run.
pub struct Ready {
    pub program: Arc<Program>,
    pub performer: Arc<dyn Perform>,
    pub timeout: Duration,
}

/// A flow with its functions in their present state.
pub fn ready(gateway: &Arc<Gateway>, resource: &Resource, text: &Text<'_>) -> Result<Ready, Fault> {
    let program = gateway.programs.get(gateway, resource, text)?;
    let scope = scope_of(&resource.id);
    let mut by_name = BTreeMap::new();
    for function in program.functions() {
        if let Some(io) = fetch::Function::named(function) {
            by_name.insert(function.to_owned(), Hand::Io(io));
            continue;
        }
        let target = name::resolve(function.into(), None, scope.clone())?;
        let entry = target.choose(gateway).map_err(|_| {
            Fault::not_found(format!("Function not found: {}, of the flow {}", target.arn(), resource.id.arn()))
        })?;
        if entry.is_per_tenant() {
            let message = format!("{} cannot be in a flow: it has an instance per tenant.", target.arn());
            return Err(Fault::invalid_parameter(message));
        }
        let invoked = target.qualifier.as_ref().map(|_| target.arn()).unwrap_or_default();
        by_name.insert(function.to_owned(), Hand::Function(entry.function.clone(), invoked));
    }
    let performer = Arc::new(Functions::new(gateway.dispatcher.clone(), gateway.fetch.clone(), by_name));
    let seconds = timeout(resource).unwrap_or(gateway.flows.config.timeout_s);
    Ok(Ready { program, performer, timeout: Duration::from_secs(seconds.into()) })
}

/// The flow of this name in the caller's account and region.
pub fn named(exchange: &Exchange, name: &str) -> Option<Arc<Resource>> {
    exchange.gateway.registry.resource(&id(exchange, name))
}
