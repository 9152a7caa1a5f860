//! `lichen invoke`: calls a function. Standard output gets its answer and nothing else.

use crate::node::{Endpoint, explain, payload};
use crate::print;
use crate::verdict::{Exit, Verdict};
use api::lambda::Invoked;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The function
    name: String,
    /// The event: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// Do not wait for the answer: the node calls the function when it can
    #[arg(long = "async", conflicts_with = "log")]
    asynchronous: bool,
    /// Show the end of what the function printed, on standard error
    #[arg(long)]
    log: bool,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    let event = payload(arguments.data.as_deref())?;
    // The function has its own time limit: the node keeps it.
    let client = arguments.node.client()?.with_patience(None);
    if arguments.asynchronous {
        client.invoke_event(&arguments.name, &event).map_err(explain)?;
        return Ok(Exit::Done);
    }
    let invoked = client.invoke(&arguments.name, &event, arguments.log).map_err(explain)?;
    tell(&invoked)
}

/// Prints an answer where it belongs, and judges it.
pub fn tell(invoked: &Invoked) -> Verdict {
    if let Some(log) = &invoked.log_tail {
        std::io::stderr().lock().write_all(log)?;
    }
    print::answer(&invoked.body)?;
    if invoked.error.is_none() {
        return Ok(Exit::Done);
    }
    eprintln!("lichen: the function failed: {}", reason(&invoked.body));
    Ok(Exit::FunctionFailed)
}

/// `TYPE: MESSAGE` of Lambda's error object.
fn reason(body: &[u8]) -> String {
    let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match (error["errorType"].as_str(), error["errorMessage"].as_str()) {
        (Some(kind), Some(message)) if !kind.is_empty() => format!("{kind}: {message}"),
        (_, Some(message)) => message.to_owned(),
        _ => "it does not say why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        assert_eq!(reason(br#"{"errorType": "ValueError", "errorMessage": "no"}"#), "ValueError: no");
        assert_eq!(reason(br#"{"errorMessage": "no"}"#), "no");
        assert_eq!(reason(b"what?"), "it does not say why");
    }
}
