//! What can be typed. Help, man pages and completions come from here, so that they cannot disagree.

use crate::verb::*;
use crate::verdict::Verdict;
use clap::{Parser, Subcommand};

/// Shown when nothing at all was typed.
pub const GREETING: &str = "\
Lichen runs functions. Each starts in about a millisecond, isolated from all others.

  lichen run examples/greet -d '{\"name\": \"Ada\"}'    try a function: nothing stays behind

  lichen serve                                       start a node; then, in another terminal:
  lichen deploy examples/greet --name greet
  lichen invoke greet -d '{\"name\": \"Ada\"}'

lichen help shows all verbs, lichen doctor what this machine can do.
";

/// A serverless runtime on one machine: Python and Node.js functions that start in about a millisecond, isolated, behind
/// AWS Lambda's API.
#[derive(Debug, Parser)]
#[command(name = "lichen", version, disable_help_subcommand = false, max_term_width = 100)]
pub struct Lichen {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a node, and keep it running
    Serve(serve::Arguments),
    /// Make a folder to begin a function with
    New(new::Arguments),
    /// Run a function once, on a throw-away node
    Run(run::Arguments),
    /// Put a function on a node, or a new state of it
    Deploy(deploy::Arguments),
    /// Call a function and print its answer
    Invoke(invoke::Arguments),
    /// Chain functions, so that each gets the result of the one before
    Flow(flow::Arguments),
    /// List the functions of a node
    Ls(ls::Arguments),
    /// Show what a function has printed
    Logs(logs::Arguments),
    /// Look at events that were given up, try them again, or throw them away
    Dlq(dlq::Arguments),
    /// Remove functions from a node
    Rm(rm::Arguments),
    /// Look at the processing units of a node, and let other machines be some
    Pu(pu::Arguments),
    /// Make this machine a processing unit of another one's node
    Join(join::Arguments),
    /// Keep networks of Pods: of halves on several processing units, or of one, whose users share memory
    Net(net::Arguments),
    /// Run programs whose TCP connections to each other go through memory
    Socket(socket::Arguments),
    /// Watch a node at work
    Top(top::Arguments),
    /// Install AWS's SDKs for functions that bring none
    Sdk(sdk::Arguments),
    /// Measure this machine: the figures of the papers, and more
    Bench(bench::Arguments),
    /// Say what this machine can do, what is missing, and how to get it
    Doctor(doctor::Arguments),
    /// Write man pages
    Man(man::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
    /// The HTTP faces and the control plane; started by serve
    #[command(hide = true)]
    Gateway(roles::GatewayArguments),
    /// The daemon that runs sandboxes; started by serve
    #[command(hide = true)]
    Worker(roles::WorkerArguments),
    /// What processes of a PU attach to, to speak to those of others; started by serve
    #[command(hide = true)]
    Shim(shim::Arguments),
    /// A processing unit that is a part of this machine; started by serve
    #[command(hide = true)]
    Unit(roles::WorkerArguments),
    /// Where a remote processing unit arrives; started by serve
    #[command(hide = true)]
    Pier(pier::Arguments),
    /// The broker of sockets; started by serve and net serve
    #[command(hide = true)]
    Broker(roles::BrokerArguments),
    /// The other end of a way between processes; started by bench
    #[command(hide = true)]
    BenchPeer(roles::BenchPeerArguments),
}

impl Verb {
    /// Does it. Nothing here has started a thread: the worker's role needs a process that has one.
    pub fn act(self) -> Verdict {
        match self {
            Self::Serve(arguments) => serve::act(arguments),
            Self::New(arguments) => new::act(arguments),
            Self::Run(arguments) => run::act(arguments),
            Self::Deploy(arguments) => deploy::act(arguments),
            Self::Invoke(arguments) => invoke::act(arguments),
            Self::Flow(arguments) => flow::act(arguments),
            Self::Ls(arguments) => ls::act(arguments),
            Self::Logs(arguments) => logs::act(arguments),
            Self::Dlq(arguments) => dlq::act(arguments),
            Self::Rm(arguments) => rm::act(arguments),
            Self::Pu(arguments) => pu::act(arguments),
            Self::Join(arguments) => join::act(arguments),
            Self::Net(arguments) => net::act(arguments),
            Self::Pier(arguments) => pier::act(arguments),
            Self::Socket(arguments) => socket::act(arguments),
            Self::Top(arguments) => top::act(arguments),
            Self::Sdk(arguments) => sdk::act(arguments),
            Self::Bench(arguments) => bench::act(arguments),
            Self::Doctor(arguments) => doctor::act(arguments),
            Self::Man(arguments) => man::act(arguments),
            Self::Completions(arguments) => completions::act(arguments),
            Self::Gateway(arguments) => roles::gateway(arguments),
            Self::Worker(arguments) => roles::worker(arguments),
            Self::Shim(arguments) => shim::act(arguments),
            Self::Unit(arguments) => roles::unit(arguments),
            Self::Broker(arguments) => roles::broker(arguments),
            Self::BenchPeer(arguments) => roles::bench_peer(arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_table_is_sound() {
        Lichen::command().debug_assert();
    }

    #[test]
    fn roles_are_not_for_people() {
        let help = Lichen::command().render_long_help().to_string();
        assert!(help.contains("deploy") && !help.contains("gateway") && !help.contains("worker"), "{help}");
    }
}
