//! `lichen logs`: what a function has printed, and with `-f` what it prints.

use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output};
use crate::verdict::{Exit, Verdict};
use clap::Args;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The function
    name: String,
    /// Go on with what it prints from now on
    #[arg(short, long)]
    follow: bool,
    /// Only what is younger: 30s, 10m, 2h, 1d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_parser = parse_since, value_name = "TIME")]
    since: Option<u64>,
    /// One JSON object per record instead of its text
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Endpoint,
}

pub fn act(arguments: Arguments) -> Verdict {
    let client = arguments.node.client()?;
    let records = client.logs(&arguments.name, arguments.since.unwrap_or(0), arguments.follow).map_err(explain)?;
    for record in records {
        let record = record?;
        let line = match arguments.output.format {
            Format::Json => serde_json::to_string(&record)?,
            Format::Table => format!("{} {}", api::time::rfc3339(record.time), record.message.trim_end_matches('\n')),
        };
        print::line(&line)?;
    }
    Ok(Exit::Done)
}

/// Milliseconds since 1970.
fn parse_since(text: &str) -> Result<u64, String> {
    let ago = text.char_indices().last().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        text[..at].parse::<u64>().ok()?.checked_mul(seconds * 1000)
    });
    match (ago, api::time::parse(text)) {
        (Some(ago), _) => Ok(api::time::now_ms().saturating_sub(ago)),
        (None, Some(time)) => Ok(time),
        (None, None) => Err("neither a time nor a span such as 10m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_times() {
        let ago = |text: &str| api::time::now_ms() - parse_since(text).unwrap();
        assert!((600_000..601_000).contains(&ago("10m")));
        assert!((86_400_000..86_401_000).contains(&ago("1d")));
        assert_eq!(parse_since("1970-01-01T00:00:01Z").unwrap(), 1000);
        assert!(parse_since("yesterday").is_err() && parse_since("m").is_err() && parse_since("").is_err());
    }
}
