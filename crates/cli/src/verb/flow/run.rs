//! Runs of flows: begun, looked at, waited for.

use super::source;
use crate::node::{Endpoint, explain, pause, payload};
use crate::print::{self, Format, Output, Table};
use crate::verb::invoke::tell;
use crate::verdict::{Exit, Verdict, wrong};
use api::client::Client;
use api::node::FlowRun;
use clap::Args;
use serde_json::{Map, Value};
use std::time::Duration;

/// Between two looks at a run that is waited for.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub struct Invoke {
    /// The flow
    name: String,
    /// Its inputs as {"sets": …}, or one item of its first input: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true, conflicts_with = "sets")]
    data: Option<String>,
    /// Items of one input: a text, @FILE, or @FOLDER for an item of each file in it, however deep; can be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    sets: Vec<(String, String)>,
    /// Do not wait: print the run's id
    #[arg(long = "async")]
    asynchronous: bool,
    #[command(flatten)]
    node: Endpoint,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, NAME=@FILE or NAME=@FOLDER")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub fn invoke(arguments: Invoke) -> Verdict {
    let Invoke { name, data, sets, asynchronous, node } = arguments;
    let body = if sets.is_empty() { payload(data.as_deref())? } else { gathered(sets)? };
    // The flow has its own time limit: the node keeps it.
    let client = node.client()?.with_patience(None);
    if asynchronous {
        print::line(&client.begin_flow(&name, &body).map_err(explain)?)?;
        return Ok(Exit::Done);
    }
    tell(&client.invoke_flow(&name, &body).map_err(explain)?)
}

fn gathered(sets: Vec<(String, String)>) -> anyhow::Result<Vec<u8>> {
    let mut all = Map::new();
    for (name, value) in sets {
        let items = source::items(&value)?;
        if let Value::Array(set) = all.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            set.extend(items);
        }
    }
    Ok(serde_json::to_vec(&serde_json::json!({ "sets": all }))?)
}

/// Whether this is the id of a run: flows may be called anything else.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4
}

pub fn list(name: &str, output: Output, node: &Endpoint) -> Verdict {
    let client = node.client()?;
    if is_id(name) {
        return one(&client.flow_run(name).map_err(explain)?, output);
    }
    let runs = client.flow_runs(name).map_err(explain)?;
    if output.format == Format::Json {
        print::json(&serde_json::to_value(&runs)?)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["RUN", "STATE", "SHARDS", "TIME", "ACCEPTED"]);
    for run in runs {
        let shards: u64 = run.applications.iter().map(|app| app.done + app.failed).sum();
        let time = format!("{:.1} ms", run.took_us as f64 / 1e3);
        table.row([run.run, run.state, shards.to_string(), time, api::time::rfc3339(run.accepted)]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn one(run: &FlowRun, output: Output) -> Verdict {
    if output.format == Format::Json {
        print::json(&serde_json::to_value(run)?)?;
        return Ok(Exit::Done);
    }
    eprintln!("{}: {}, {:.1} ms", run.run, run.state, run.took_us as f64 / 1e3);
    let mut table = Table::new(&["APPLICATION", "LINE", "RUNNING", "DONE", "FAILED", "BUSY"]);
    for app in &run.applications {
        let busy = format!("{:.1} ms", app.busy_us as f64 / 1e3);
        let [line, running, done, failed] =
            [app.line as u64, app.running, app.done, app.failed].map(|number| number.to_string());
        table.row([app.application.clone(), line, running, done, failed, busy]);
    }
    table.print()?;
    Ok(Exit::Done)
}

pub fn result(run: &str, wait: bool, node: &Endpoint) -> Verdict {
    let client = node.client()?;
    if wait {
        until_over(&client, run)?;
    }
    tell(&client.flow_result(run).map_err(explain)?)
}

fn until_over(client: &Client, run: &str) -> anyhow::Result<()> {
    loop {
        match client.flow_run(run).map_err(explain)?.state.as_str() {
            "queued" | "running" => pause(LOOK),
            "cancelled" => return Err(wrong(format!("the run {run} was cancelled"))),
            _ => return Ok(()),
        }
    }
}
