//! `lichen-cni`: a CNI plugin (0.4, 1.0, 1.1) that splits a Pod's network over processing units. A table of contents.
//!
//! ```text
//!  CNI_COMMAND=ADD  CNI_CONTAINERID=…  CNI_NETNS=…  CNI_IFNAME=eth0  CNI_ARGS=…        lichen-cni < configuration > result
//! ```
//!
//! It stands in a chain after a plugin that gives the Pod an address (`bridge`, for one), or alone, for Pods that need only
//! each other's `localhost`. What the network is made of is `lichen net`'s business, whose daemon is asked; here it is only
//! noted what was asked for, so that every `DEL` and `GC` finds it again, after a crash between any two steps too.
//!
//! It delegates to no other plugin, and moves no address: those of the Pod become local in both halves.
#![forbid(unsafe_code)]

mod attachment;
mod configuration;
mod environment;
mod failure;
mod namespace;
mod networks;
mod outcome;
mod state;
mod verb;

use environment::{Command, Environment};
use failure::Failure;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The most that is read of a configuration.
const INPUT_LIMIT: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut version = configuration::NEWEST.to_owned();
    let answer = act(&mut version);
    let (text, code) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(&version), ExitCode::FAILURE),
    };
    // Who does not listen has ended: there is nobody left to tell.
    let _ = io::stdout().write_all(text.as_bytes());
    code
}

/// Does what is asked. `version` becomes that of the caller, in which failures are told too.
fn act(version: &mut String) -> Result<String, Failure> {
    let environment = Environment::of_process();
    let command = environment.command()?;
    let mut text = String::new();
    io::stdin().take(INPUT_LIMIT + 1).read_to_string(&mut text).map_err(Failure::Input)?;
    if text.len() as u64 > INPUT_LIMIT {
        return Err(Failure::InputTooLong);
    }
    if command == Command::Version {
        return verb::version(&text, version);
    }
    let configuration = configuration::read(&text, command, version)?;
    verb::act(command, &environment, &configuration)
}
