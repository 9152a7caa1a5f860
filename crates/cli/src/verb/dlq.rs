//! `lichen dlq`: the events that were given up and had nowhere to go.

use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict, wrong};
use api::Client;
use api::client::CallError;
use clap::{Args, Subcommand};

/// As many as are listed.
const LISTED: u32 = 1000;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, the latest first
    Ls {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Show one with its payload and its last error, as JSON
    Show {
        /// Its request id
        #[arg(value_name = "REQUEST")]
        request: String,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Deliver them again, as if they had just been accepted
    Redrive(Chosen),
    /// Throw them away
    Purge(Chosen),
}

#[derive(Debug, Args)]
struct Chosen {
    /// The request ids
    #[arg(value_name = "REQUEST", conflicts_with = "all")]
    requests: Vec<String>,
    /// All there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    match arguments.action {
        Action::Ls { output, node } => list(output, &node.client()?),
        Action::Show { request, node } => {
            let event = node.client()?.dead_event(&request).map_err(explain)?;
            print::json(&serde_json::to_value(&event)?)?;
            Ok(Exit::Done)
        }
        Action::Redrive(chosen) => each(&chosen, "delivered again", Client::redrive),
        Action::Purge(chosen) => each(&chosen, "thrown away", Client::purge),
    }
}

fn list(output: Output, client: &Client) -> Verdict {
    let dead = client.dead(LISTED).map_err(explain)?;
    if output.format == Format::Json {
        print::json(&serde_json::to_value(&dead)?)?;
        return Ok(Exit::Done);
    }
    if dead.is_empty() {
        eprintln!("no dead events");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["REQUEST", "TARGET", "REASON", "ATTEMPTS", "ACCEPTED", "DIED"]);
    for event in dead {
        table.row([
            event.request,
            event.target,
            event.reason,
            event.attempts.to_string(),
            api::time::rfc3339(event.accepted),
            api::time::rfc3339(event.died),
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn each(chosen: &Chosen, done: &str, action: fn(&Client, Option<&str>) -> Result<u64, CallError>) -> Verdict {
    let client = chosen.node.client()?;
    if chosen.requests.is_empty() && !chosen.all {
        return Err(wrong("which events? Name their request ids (lichen dlq ls), or say --all"));
    }
    let one = |request: Option<&str>| action(&client, request).map_err(explain);
    let count = match chosen.all {
        true => one(None)?,
        false => chosen.requests.iter().map(|request| one(Some(request))).sum::<Result<u64, _>>()?,
    };
    eprintln!("{count} {done}");
    Ok(Exit::Done)
}
