//! `lichen pu`: the processing units of a node.

use super::invite;
use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict};
use api::node::Pu;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them, with what is on them
    Ls(List),
    /// Print a token by which another machine joins as a remote one
    Token(invite::Token),
    /// End a remote one's membership, and void a token for it
    Revoke(invite::Revoke),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    let list = match arguments.verb {
        Verb::Ls(list) => list,
        Verb::Token(token) => return invite::token(token),
        Verb::Revoke(revoke) => return invite::revoke(revoke),
    };
    let pus = list.node.client()?.pus().map_err(explain)?;
    if list.output.format == Format::Json {
        print::json(&serde_json::to_value(&pus)?)?;
        return Ok(Exit::Done);
    }
    print::bytes(render(&pus).as_bytes())?;
    Ok(Exit::Done)
}

/// A line for each, and below them what is missing somewhere.
pub fn render(pus: &[Pu]) -> String {
    let headings =
        ["NAME", "KIND", "TIER", "STATE", "CPUS", "MEMORY", "PRICE", "INSTANCES", "BUSY", "TEMPLATES", "LOAD", "LOST"];
    let mut table = Table::new(&headings);
    for pu in pus {
        table.row([
            pu.name.clone(),
            pu.kind.clone(),
            pu.tier.clone(),
            if pu.ready { "ready" } else { "down" }.to_owned(),
            pu.cpus.clone().unwrap_or_else(|| format!("all {}", pu.cores)),
            memory(pu),
            pu.price.to_string(),
            pu.instances.to_string(),
            pu.instances.saturating_sub(pu.waiting).to_string(),
            pu.templates.to_string(),
            format!("{:.2}", pu.load),
            pu.losses.to_string(),
        ]);
    }
    let mut text = table.render();
    for (pu, sentence) in pus.iter().flat_map(|pu| pu.missing.iter().map(move |sentence| (pu, sentence))) {
        text.push_str(&format!("\n{}: {sentence}\n", pu.name));
    }
    text
}

/// What its instances may use, and of how much where that is bounded.
fn memory(pu: &Pu) -> String {
    match pu.memory_mib {
        Some(mib) => format!("{} of {mib} MiB", pu.reserved_mib),
        None => format!("{} MiB", pu.reserved_mib),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_line_and_what_it_lacks_a_sentence() {
        let dpu = Pu {
            name: "bf0".into(),
            kind: "dpu".into(),
            memory_mib: Some(512),
            reserved_mib: 256,
            missing: vec!["no way out".into()],
            instances: 3,
            waiting: 2,
            ..Pu::default()
        };
        let text = render(&[dpu]);
        assert!(
            text.contains("256 of 512 MiB") && text.contains(" down ") && text.contains("\nbf0: no way out\n"),
            "{text}"
        );
    }
}
