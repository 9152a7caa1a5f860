//! `lichen flow`: functions in a chain. Each runs where it runs best, and hands its result to the next by memory.

use crate::node::{Endpoint, explain, payload};
use crate::print::{self, Format, Output, Table};
use crate::verb::invoke;
use crate::verdict::{Exit, Verdict, conclude};
use api::node::{Flow, FlowSpec};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a flow on a node, or a new state of it
    Deploy {
        /// What to call it
        name: String,
        /// The functions, in their order: names or ARNs, with versions or aliases
        #[arg(long, value_name = "FUNCTION,…", value_delimiter = ',', required = true)]
        chain: Vec<String>,
        /// For all of them together; the sum of their own limits unless given
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Run a flow and print its answer
    Invoke {
        /// The flow
        name: String,
        /// The event of its first function: JSON, @FILE, or - for standard input
        #[arg(short, long, value_name = "JSON", allow_hyphen_values = true)]
        data: Option<String>,
        #[command(flatten)]
        node: Endpoint,
    },
    /// List the flows of a node
    Ls {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Remove flows from a node; their functions stay
    Rm {
        /// The flows
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        node: Endpoint,
    },
}

pub fn act(arguments: Arguments) -> Verdict {
    match arguments.action {
        Action::Deploy { name, chain, timeout, output, node } => {
            let flow = FlowSpec { name, chain, timeout_s: timeout };
            let flow = node.client()?.put_flow(&flow).map_err(explain)?;
            match output.format {
                Format::Json => print::json(&serde_json::to_value(&flow)?)?,
                Format::Table => eprintln!("{}: {}", flow.name, path(&flow)),
            }
            Ok(Exit::Done)
        }
        Action::Invoke { name, data, node } => {
            let event = payload(data.as_deref())?;
            // Its functions have their own time limits: the node keeps them.
            let client = node.client()?.with_patience(None);
            invoke::tell(&client.invoke_flow(&name, &event).map_err(explain)?)
        }
        Action::Ls { output, node } => list(output, &node),
        Action::Rm { names, node } => {
            let client = node.client()?;
            let remove = |name: &String| match client.delete_flow(name) {
                Ok(()) => Exit::Done,
                Err(error) => conclude(Err(explain(error))),
            };
            Ok(names.iter().map(remove).max_by_key(|exit| *exit as u8).unwrap_or(Exit::Done))
        }
    }
}

fn list(output: Output, node: &Endpoint) -> Verdict {
    let flows = node.client()?.flows().map_err(explain)?;
    if output.format == Format::Json {
        print::json(&serde_json::to_value(&flows)?)?;
        return Ok(Exit::Done);
    }
    if flows.is_empty() {
        eprintln!("no flows yet: lichen flow deploy NAME --chain FUNCTION,FUNCTION");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "STAGES", "CHAIN", "MODIFIED"]);
    for flow in flows {
        let (stages, path) = (flow.chain.len().to_string(), path(&flow));
        table.row([flow.name, stages, path, api::time::rfc3339(flow.modified)]);
    }
    table.print()?;
    Ok(Exit::Done)
}

/// `intent → home:live → light`.
fn path(flow: &Flow) -> String {
    let name = |arn: &String| arn.split_once(":function:").map_or(arn.clone(), |(_, name)| name.to_owned());
    flow.chain.iter().map(name).collect::<Vec<_>>().join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_names_and_qualifiers() {
        let arn = |name: &str| format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
        let flow = Flow { chain: vec![arn("one"), arn("two:live")], ..Flow::default() };
        assert_eq!(path(&flow), "one → two:live");
    }
}
