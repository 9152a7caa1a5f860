//! The configuration of a node's gateway: every section of `lichen.toml`, each defined beside what it configures.

use crate::auth::AuthConfig;
use crate::lambda::Bounds;
use aws::AwsConfig;
use daemon::config::{ConfigError, Source};
use daemon::node::Node;
use daemon::pu::Pus;
use daemon::remote::Remote;
use daemon::sockets::Sockets;
use daemon::telemetry::Log;
use fetch::FetchConfig;
use runtime::codestore::CodeConfig;
use runtime::dispatch::DispatchConfig;
use runtime::flow::FlowConfig;
use runtime::ledger::LedgerConfig;
use runtime::logs::LogConfig;
use runtime::queue::QueueConfig;
use sandbox::config::{EnginesConfig, RuntimeConfig};
use serde::Deserialize;
use shim::config::Quotas;

/// `[http]`: what the gateway bears from its clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Connections at once; more are answered with 503 and closed.
    pub connections: usize,
    /// Seconds after which a connection closes that sends no request, or no more of one's head.
    pub idle_s: u64,
    /// Seconds for which a request's body may stand still, and for which a client may leave an answer untaken.
    pub stall_s: u64,
    /// Bytes a second that a request's body keeps over all of it, after its first `stall_s`; 0 for none.
    pub body_rate_min: u32,
    /// Bytes of a request's head.
    pub head_max: usize,
    /// MiB for requests' bodies that are in memory, all together.
    pub bodies_mib: u32,
    /// Names, beside addresses and `localhost`, by which clients may call this node while it listens on this machine
    /// only. A web page that makes its own name mean this machine is refused by that.
    pub hosts: Vec<String>,
    /// Seconds for which running invocations are waited for when the node ends.
    pub drain_s: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            connections: 4096,
            idle_s: 60,
            stall_s: 30,
            body_rate_min: 16 * 1024,
            head_max: 64 * 1024,
            bodies_mib: 512,
            hosts: Vec::new(),
            drain_s: 30,
        }
    }
}

/// All sections.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub node: Node,
    pub log: Log,
    pub http: Http,
    pub auth: AuthConfig,
    pub functions: Bounds,
    pub code: CodeConfig,
    pub bills: LedgerConfig,
    pub logs: LogConfig,
    pub dispatch: DispatchConfig,
    pub queue: QueueConfig,
    pub flows: FlowConfig,
    pub runtime: RuntimeConfig,
    pub engines: EnginesConfig,
    pub aws: AwsConfig,
    pub fetch: FetchConfig,
    pub pus: Pus,
    pub remote: Remote,
    pub socket: Sockets,
    pub shim: Quotas,
}

impl Config {
    /// Reads a file, all of it: what nobody knows is refused.
    pub fn from_source(source: &Source) -> Result<Self, ConfigError> {
        let mut sections = source.parse()?;
        let config = Self {
            node: sections.take("node")?,
            log: sections.take("log")?,
            http: sections.take("http")?,
            auth: sections.take("auth")?,
            functions: sections.take("functions")?,
            code: sections.take("code")?,
            bills: sections.take("bills")?,
            logs: sections.take("logs")?,
            dispatch: sections.take("dispatch")?,
            queue: sections.take("queue")?,
            flows: sections.take("flows")?,
            runtime: sections.take("runtime")?,
            engines: sections.take("engines")?,
            aws: sections.take("aws")?,
            fetch: sections.take("fetch")?,
            pus: sections.take("pu")?,
            remote: sections.take("remote")?,
            socket: sections.take("socket")?,
            shim: sections.take("shim")?,
        };
        sections.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::config::keys_of;

    /// The reference for people, kept true.
    const REFERENCE: &str = include_str!("../../../docs/lichen.toml");

    #[test]
    fn the_reference_has_every_key_with_its_default() {
        let read = Config::from_source(&Source::of("docs/lichen.toml", REFERENCE)).unwrap();
        let own = Config::default();
        assert_eq!(Node { data_dir: own.node.data_dir.clone(), ..read.node }, own.node);
        assert_eq!((read.log, read.http, read.functions), (own.log, own.http, own.functions));
        assert_eq!((read.auth, read.shim, read.remote), (own.auth, own.shim, own.remote));
        assert_eq!(read.socket, own.socket);
        assert_eq!((read.code, read.bills, read.logs), (own.code, own.bills, own.logs));
        assert_eq!((read.dispatch, read.queue, read.flows), (own.dispatch, own.queue, own.flows));
        assert_eq!((read.aws, read.fetch, read.pus), (own.aws, own.fetch, own.pus));
        let has = |section: &str, key: &str| {
            let body = REFERENCE.split_once(&format!("\n[{section}]")).unwrap().1;
            let body = body.split("\n[").next().unwrap();
            let nested = format!("\n[{section}.{key}]");
            body.contains(&format!("\n{key} = ")) || REFERENCE.contains(&nested)
        };
        let keys = [
            ("node", keys_of::<Node>()),
            ("log", keys_of::<Log>()),
            ("http", keys_of::<Http>()),
            ("auth", keys_of::<AuthConfig>()),
            ("functions", keys_of::<Bounds>()),
            ("code", keys_of::<CodeConfig>()),
            ("bills", keys_of::<LedgerConfig>()),
            ("logs", keys_of::<LogConfig>()),
            ("dispatch", keys_of::<DispatchConfig>()),
            ("queue", keys_of::<QueueConfig>()),
            ("flows", keys_of::<FlowConfig>()),
            ("runtime", keys_of::<RuntimeConfig>()),
            ("engines", keys_of::<EnginesConfig>()),
            ("aws", keys_of::<AwsConfig>()),
            ("fetch", keys_of::<FetchConfig>()),
            ("shim", keys_of::<Quotas>()),
            ("remote", keys_of::<Remote>()),
            ("socket", keys_of::<Sockets>()),
        ];
        for (section, key) in keys.into_iter().flat_map(|(section, keys)| keys.iter().map(move |key| (section, key))) {
            assert!(has(section, key), "docs/lichen.toml lacks `{key}` in [{section}]");
        }
    }

    #[test]
    fn every_section_is_known_and_no_other() {
        let read = |text: &str| Config::from_source(&Source::of("lichen.toml", text));
        let config = read("[dispatch]\nkeep_alive_s = 5\nlatency = \"low\"\n[http]\nconnections = 7\n").unwrap();
        assert_eq!((config.dispatch.keep_alive_s, config.http.connections, config.http.idle_s), (5, 7, 60));
        assert!(read("[dispatch]\nkeepalive = 5\n").unwrap_err().to_string().contains("did you mean `keep_alive_s`?"));
        let shim = read("[shim.guest]\nfifos = 3\n").unwrap().shim;
        assert_eq!((shim.guest.fifos, shim.guest.ends), (3, Quotas::default().guest.ends));
        assert!(read("[htpp]\n").unwrap_err().to_string().contains("did you mean `http`?"));
    }
}
