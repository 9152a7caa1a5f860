//! What `serve` and the daemons' roles have in common: the configuration file, and what the command line overrides.

use crate::verdict::wrong;
use clap::Args;
use daemon::config::Source;
use daemon::node::{Account, Region};
use daemon::telemetry::Format;
use gateway::Config;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options that the supervisor passes on to its daemons as they are.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// Where functions, their code, logs and bills are kept [default: /var/lib/lichen, or ~/.local/share/lichen]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A configuration file (lichen.toml)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The account of requests whose credentials name none [default: 000000000000]
    #[arg(long, value_name = "ID")]
    pub account: Option<Account>,
    /// The region of requests whose credentials name none [default: us-east-1]
    #[arg(long, value_name = "REGION")]
    pub region: Option<Region>,
    /// How the daemons' own log is written: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<Format>,
    /// What it contains: error, warn, info, debug, trace, or PART=LEVEL,…
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl Settings {
    /// The node's configuration: the file, and what the command line overrules.
    pub fn config(&self, listen: Option<SocketAddr>) -> anyhow::Result<Config> {
        let source = match &self.config {
            Some(path) => Source::read(path).map_err(|error| wrong(chain(&error)))?,
            None => Source::default(),
        };
        let mut config = Config::from_source(&source).map_err(|error| wrong(chain(&error)))?;
        overrule(&mut config.node.listen, listen);
        overrule(&mut config.node.data_dir, self.data_dir.clone());
        overrule(&mut config.node.account, self.account.clone());
        overrule(&mut config.node.region, self.region.clone());
        overrule(&mut config.log.format, self.log);
        overrule(&mut config.log.level, self.log_level.clone());
        Ok(config)
    }

    /// The same options as a command line.
    pub fn arguments(&self) -> Vec<String> {
        let format = self.log.map(|format| match format {
            Format::Text => "text".to_owned(),
            Format::Json => "json".to_owned(),
        });
        let options = [
            ("--data-dir", self.data_dir.as_ref().map(|path| path.display().to_string())),
            ("--config", self.config.as_ref().map(|path| path.display().to_string())),
            ("--account", self.account.as_ref().map(Account::to_string)),
            ("--region", self.region.as_ref().map(Region::to_string)),
            ("--log", format),
            ("--log-level", self.log_level.clone()),
        ];
        options.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten().collect()
    }
}

fn overrule<T>(setting: &mut T, typed: Option<T>) {
    if let Some(typed) = typed {
        *setting = typed;
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use daemon::node::Node;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn daemons_understand_what_the_supervisor_was_told() {
        let typed = ["x", "--data-dir", "d", "--account", "123456789012", "--log", "json", "--log-level", "debug"];
        let settings = Typed::parse_from(typed).settings;
        assert_eq!(settings.arguments(), typed[1..]);
        let config = settings.config(None).unwrap();
        assert_eq!((config.node.data_dir, config.node.region), (PathBuf::from("d"), Node::default().region));
        assert_eq!((config.log.format, config.log.level.as_str()), (Format::Json, "debug"));
        assert!(Typed::try_parse_from(["x", "--account", "1"]).is_err());
    }
}
