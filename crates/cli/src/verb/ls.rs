//! `lichen ls`: the functions of a node, with what they are doing.

use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict};
use clap::Args;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    let functions = arguments.node.client()?.node_functions().map_err(explain)?;
    if arguments.output.format == Format::Json {
        print::json(&serde_json::to_value(&functions)?)?;
        return Ok(Exit::Done);
    }
    if functions.is_empty() {
        eprintln!("no functions yet: lichen deploy PATH --name NAME");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "RUNTIME", "MEMORY", "INSTANCES", "BUSY", "CALLS", "ERRORS", "MODIFIED"]);
    for function in functions {
        let now = function.instances;
        table.row([
            function.name,
            function.runtime,
            format!("{} MiB", function.memory_mib),
            (now.idle + now.busy + now.starting + now.stems).to_string(),
            now.busy.to_string(),
            function.counters.invocations.to_string(),
            function.counters.errors.to_string(),
            api::time::rfc3339(function.modified),
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}
