//! `lichen_provided`: the runtime of functions that bring their own, and of whatever is started in the same way.
//!
//! A template of it waits at its fork point like those of the languages. An instance is a server, AWS's Runtime and
//! Extensions API on a loopback of its own, between the gateway's channel and the programs that it starts.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what an instance is to be, and its programs' environment |
//! | [`launch`] | its programs: extensions, and the function's runtime |
//! | [`server`] | its life: waits, and does what follows |
//! | [`session`] | decides what follows: the order of things in AWS's APIs |
//! | [`phase`] [`extension`] | how far the runtime is, and each extension |
//! | [`call`] | what can be asked for, and AWS's words |
//! | [`telemetry`] [`output`] | what extensions are told of the platform's doings, and of what programs print |
//! | [`connection`] [`http`] | clients' bytes |

mod call;
mod config;
mod connection;
mod extension;
mod http;
mod launch;
mod output;
mod phase;
mod server;
mod session;
mod telemetry;

use cfork::{Child, ForkPoint};
use config::{Config, TemplateConfig};
use launch::Interpreters;
use server::Server;

const REPORT: &[u8] = br#"{"forkable": true, "reason": null, "init_us": 0, "error": null, "missing": {}}"#;

fn main() -> ! {
    match template() {
        Ok((child, known)) => live(child, known),
        Err(error) => {
            eprintln!("lichen_provided: {error}");
            os::process::exit_now(1)
        }
    }
}

/// Waits at the fork point. Returns in a child, with the function that its template knew.
fn template() -> Result<(Child, Option<Config>), Box<dyn std::error::Error>> {
    // SAFETY: the worker starts a template with its control socket there; nothing else has been opened.
    let (mut point, config) = unsafe { ForkPoint::open() }?;
    let TemplateConfig { function } = serde_json::from_slice(&config)?;
    point.take_stock(&[])?;
    point.ready(REPORT)?;
    // SAFETY: this program has one thread.
    match unsafe { point.serve() } {
        Ok(newborn) => Ok((newborn.settle(), function)),
        Err(cfork::forkpoint::ServeError::Gone) => os::process::exit_now(0),
        Err(error) => Err(error.into()),
    }
}

fn live(child: Child, known: Option<Config>) -> ! {
    // Its programs are of the same user, and need not look into it.
    os::process::set_dumpable(false);
    let interpreters = Interpreters::known();
    let server = match Config::of(known, &child.config) {
        Ok(config) => Server::open(child.instance, config, interpreters).map_err(|error| error.to_string()),
        Err(error) => Err(format!("the configuration is wrong: {error}")),
    };
    match server {
        Ok(server) => server.run(),
        Err(error) => {
            eprintln!("lichen_provided: {error}");
            os::process::exit_now(1)
        }
    }
}
