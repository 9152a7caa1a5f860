//! `lichen doctor`: what this machine can do, what is missing, what that would bring, and how to get it.

use crate::doctor::{self, Check, Probe, State};
use crate::print::{self, Format, Output};
use crate::verdict::{Exit, Verdict};
use clap::Args;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Try one thing in this process
    #[arg(long, value_enum, hide = true)]
    probe: Option<Probe>,
}

pub fn act(arguments: Arguments) -> Verdict {
    if let Some(probe) = arguments.probe {
        return probe.run().map(|()| Exit::Done);
    }
    let checks = doctor::examine();
    let fit = doctor::is_fit(&checks);
    match arguments.output.format {
        Format::Json => print::json(&serde_json::json!({ "fit": fit, "checks": checks }))?,
        Format::Table => print::bytes(report(&checks, fit).as_bytes())?,
    }
    Ok(if fit { Exit::Done } else { Exit::PlatformFailed })
}

fn report(checks: &[Check], fit: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Check { name, state, found, brings, remedy } in checks {
        let word = match state {
            State::Ok => "ok     ",
            State::Lacking => "lacking",
            State::Missing => "MISSING",
        };
        text.push_str(&format!("{word}  {name:width$}  {found}\n"));
        if let Some(remedy) = remedy {
            let margin = " ".repeat("lacking".len() + width + 4);
            text.push_str(&format!("{margin}for: {brings}\n{margin}how: {remedy}\n"));
        }
    }
    let lacking = checks.iter().filter(|check| check.state == State::Lacking).count();
    text.push_str(match (fit, lacking) {
        (true, 0) => "\nThis machine can do everything.\n",
        (true, _) => "\nNodes run here, without what is lacking.\n",
        (false, _) => "\nNo node can run here until what is MISSING is there.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_say_what_for_and_how() {
        let check = |state, remedy: Option<&str>| Check {
            name: "nft",
            state,
            found: "none".into(),
            brings: "egress",
            remedy: remedy.map(Into::into),
        };
        let text = report(&[check(State::Lacking, Some("apt install nftables"))], true);
        assert!(text.contains("for: egress") && text.contains("how: apt install nftables"), "{text}");
        assert!(report(&[check(State::Ok, None)], true).contains("can do everything"));
    }
}
