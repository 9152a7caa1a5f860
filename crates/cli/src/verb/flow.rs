//! `lichen flow`: functions composed, by a text in the flow language or as a chain.
//!
//! | module | what it is |
//! |---|---|
//! | here | what can be typed; flows put, listed, removed |
//! | [`source`] | files with texts, and the files that these name |
//! | [`run`] | runs: begun, looked at, ended |

mod run;
mod source;

use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict, conclude};
use api::node::{Flow, FlowSpec};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what is wrong with a flow's text; no node is needed
    Check {
        /// The file with the text
        file: PathBuf,
        /// Look for its functions on a node
        #[arg(long)]
        online: bool,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Put a flow on a node, or a new state of it
    Deploy {
        /// The file with its text; of a chain, its name
        flow: String,
        /// What to call it; the name of the last flow in the text unless given
        #[arg(long, conflicts_with = "chain")]
        name: Option<String>,
        /// Functions in their order, each given the result of the one before: names or ARNs, with versions or aliases
        #[arg(long, value_name = "FUNCTION,…", value_delimiter = ',')]
        chain: Vec<String>,
        /// For all of it together
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Run a flow and print its answer
    Invoke(run::Invoke),
    /// Show a flow, or one run of it with its times, as a picture (SVG)
    Graph {
        /// The file with its text, or the flow's name
        flow: String,
        /// A run of it
        #[arg(long, value_name = "ID")]
        run: Option<String>,
        #[command(flatten)]
        node: Endpoint,
    },
    /// List a flow's runs, or show one
    Runs {
        /// The flow, or the id of a run
        name: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        node: Endpoint,
    },
    /// Print what a run came to that nobody waited for
    Result {
        /// The run's id
        run: String,
        /// Wait until it is over
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        node: Endpoint,
    },
    /// End a run
    Cancel {
        /// The run's id
        run: String,
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
        Action::Check { file, online, output, node } => source::check(&file, online.then_some(&node), output),
        Action::Deploy { flow, name, chain, timeout, output, node } => {
            let spec = match chain.is_empty() {
                true => source::spec(&flow, name, timeout)?,
                false => FlowSpec { name: flow, chain, timeout_s: timeout, ..FlowSpec::default() },
            };
            deploy(&spec, output, &node)
        }
        Action::Invoke(invoke) => run::invoke(invoke),
        Action::Graph { flow, run, node } => match run {
            Some(run) => print::bytes(&node.client()?.flow_picture(&format!("/v1/runs/{run}/graph")).map_err(explain)?)
                .map(|()| Exit::Done),
            None => source::graph(&flow, &node),
        },
        Action::Runs { name, output, node } => run::list(&name, output, &node),
        Action::Result { run, wait, node } => run::result(&run, wait, &node),
        Action::Cancel { run, node } => {
            node.client()?.cancel_run(&run).map_err(explain)?;
            Ok(Exit::Done)
        }
        Action::Ls { output, node } => list(output, &node),
        Action::Rm { names, node } => {
            let client = node.client()?;
            let remove = |name: &String| match client.delete_flow(name) {
                Ok(()) => Exit::Done,
                Err(error) => conclude(Err(explain(error))),
            };
            Ok(names.iter().map(remove).max().unwrap_or(Exit::Done))
        }
    }
}

fn deploy(spec: &FlowSpec, output: Output, node: &Endpoint) -> Verdict {
    let flow = node.client()?.put_flow(spec).map_err(explain)?;
    for warning in &flow.warnings {
        eprintln!("{warning}");
    }
    match output.format {
        Format::Json => print::json(&serde_json::to_value(&flow)?)?,
        Format::Table => eprintln!("{}: {}", flow.name, path(&flow)),
    }
    Ok(Exit::Done)
}

fn list(output: Output, node: &Endpoint) -> Verdict {
    let flows = node.client()?.flows().map_err(explain)?;
    if output.format == Format::Json {
        print::json(&serde_json::to_value(&flows)?)?;
        return Ok(Exit::Done);
    }
    if flows.is_empty() {
        eprintln!("no flows yet: lichen flow deploy FILE, or lichen flow deploy NAME --chain FUNCTION,FUNCTION");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "FUNCTIONS", "PATH", "MODIFIED"]);
    for flow in flows {
        let (count, path) = ((flow.chain.len() + flow.functions.len()).to_string(), path(&flow));
        table.row([flow.name, count, path, api::time::rfc3339(flow.modified)]);
    }
    table.print()?;
    Ok(Exit::Done)
}

/// `intent → home:live → light`; the functions of a text have an order of their own.
fn path(flow: &Flow) -> String {
    let name = |arn: &String| arn.split_once(":function:").map_or(arn.clone(), |(_, name)| name.to_owned());
    match flow.chain.is_empty() {
        true => flow.functions.join(", "),
        false => flow.chain.iter().map(name).collect::<Vec<_>>().join(" → "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_names_and_qualifiers() {
        let arn = |name: &str| format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
        let flow = Flow { chain: vec![arn("one"), arn("two:live")], ..Flow::default() };
        assert_eq!(path(&flow), "one → two:live");
        let flow = Flow { functions: vec!["b".into(), "a".into()], ..Flow::default() };
        assert_eq!(path(&flow), "b, a");
    }
}
