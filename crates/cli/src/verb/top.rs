//! `lichen top`: what a node is doing, every second where a person watches, once elsewhere.

use crate::node::{Endpoint, explain, pause};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict};
use api::Client;
use api::client::CallError;
use api::node::{Engine, Function, Node, Pu, Sockets};
use clap::Args;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Connections that are shown; `lichen socket ls` shows all.
const SHOWN: usize = 20;
const INTERVAL: Duration = Duration::from_secs(1);
/// Cursor to the top left, then each line erased to its end as it is written: no flicker.
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K\n";
const ERASE_BELOW: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print once and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Endpoint,
}

/// A node at one moment.
struct Look {
    node: Node,
    functions: Vec<Function>,
    pus: Vec<Pu>,
    sockets: Sockets,
    at: Instant,
}

fn look(client: &Client) -> anyhow::Result<Look> {
    let node = client.node().map_err(explain)?;
    let functions = client.node_functions().map_err(explain)?;
    let pus = client.pus().map_err(explain)?;
    let sockets = match client.connections() {
        // A node of an older version.
        Err(CallError::Refused { status: 404, .. }) => Sockets::default(),
        answer => answer.map_err(explain)?,
    };
    Ok(Look { node, functions, pus, sockets, at: Instant::now() })
}

pub fn act(arguments: Arguments) -> Verdict {
    let client = arguments.node.client()?;
    let mut now = look(&client)?;
    if arguments.output.format == Format::Json {
        let Look { node, functions, pus, sockets, .. } = now;
        print::json(&serde_json::json!({ "node": node, "functions": functions, "pus": pus, "sockets": sockets }))?;
        return Ok(Exit::Done);
    }
    if arguments.once || !std::io::stdout().is_terminal() {
        print::bytes(render(&now, None).as_bytes())?;
        return Ok(Exit::Done);
    }
    let mut before = None;
    print::bytes(CLEAR.as_bytes())?;
    loop {
        let text = render(&now, before.as_ref()).replace('\n', ERASE_LINE);
        print::bytes(format!("{HOME}{text}{ERASE_BELOW}").as_bytes())?;
        pause(INTERVAL);
        before = Some(std::mem::replace(&mut now, look(&client)?));
    }
}

fn render(now: &Look, before: Option<&Look>) -> String {
    let node = &now.node;
    let state = if node.waiting_for.is_empty() {
        "ready".to_owned()
    } else {
        format!("waiting for {}", node.waiting_for.join(", "))
    };
    let mut text = format!(
        "lichen {} · {state} · {} · {} of {} invocations at once\n\n",
        node.version,
        match now.functions.len() {
            1 => "1 function".to_owned(),
            count => format!("{count} functions"),
        },
        node.concurrency.busy,
        node.concurrency.limit
    );
    // The host alone is no news.
    if now.pus.len() > 1 {
        text.push_str(&super::pu::render(&now.pus));
        text.push('\n');
    }
    text.push_str(&engines(now, before));
    let rate_heading = if before.is_some() { "CALLS/S" } else { "CALLS" };
    let mut table = Table::new(&[
        "NAME",
        "RUNTIME",
        rate_heading,
        "BUSY",
        "IDLE",
        "STEMS",
        "STARTING",
        "QUEUED",
        "COLD",
        "STEM",
        "WARM",
        "CACHED",
        "ERRORS",
        "THROTTLED",
    ]);
    let calls = calls(now, before);
    for function in &now.functions {
        let (instances, counters) = (function.instances, function.counters);
        let numbers = [
            instances.busy,
            instances.idle,
            instances.stems,
            instances.starting,
            instances.queued,
            counters.cold_starts,
            counters.stem_starts,
            counters.warm_starts,
            counters.cache_hits,
            counters.errors,
            counters.throttles,
        ];
        let words = [function.name.clone(), function.runtime.clone(), calls[&key(function)].clone()];
        table.row(words.into_iter().chain(numbers.map(|number| number.to_string())));
    }
    text.push_str(&table.render());
    if !now.sockets.connections.is_empty() {
        text.push('\n');
        text.push_str(&super::socket::render(&now.sockets, SHOWN));
    }
    text
}

/// The engines of pure functions: nothing where none has run anything. With two looks, what they did in between.
fn engines(now: &Look, before: Option<&Look>) -> String {
    let of = |look: &Look| -> Vec<(String, Engine)> {
        let pus = look.pus.iter();
        pus.flat_map(|pu| pu.engines.iter().map(|engine| (pu.name.clone(), *engine))).collect()
    };
    let (all, old) = (of(now), before.map(of).unwrap_or_default());
    if all.is_empty() {
        return String::new();
    }
    let mut table = match before {
        Some(_) => Table::new(&["ENGINE", "PROCESSOR", "RUNS/S", "BUSY %", "REQUESTS"]),
        None => Table::new(&["ENGINE", "PROCESSOR", "RUNS", "BUSY S", "REQUESTS"]),
    };
    for (pu, engine) in all {
        let which = |engine: &Engine| (engine.processor, engine.for_long, engine.number);
        let last = old.iter().find(|(of, last)| (of, which(last)) == (&pu, which(&engine)));
        let last = last.map(|(_, last)| *last).unwrap_or_default();
        let (runs, busy) =
            (engine.runs.saturating_sub(last.runs), engine.busy_us.saturating_sub(last.busy_us) as f64 / 1e6);
        let (runs, busy) = match before {
            Some(before) => {
                let seconds = (now.at - before.at).as_secs_f64().max(0.001);
                (format!("{:.1}", runs as f64 / seconds), format!("{:.1}", 100.0 * busy / seconds))
            }
            None => (runs.to_string(), format!("{busy:.1}")),
        };
        let long = match (engine.for_long, engine.number) {
            (_, Some(number)) => format!(" (long runs apart, {number})"),
            (true, None) => " (long runs)".to_owned(),
            (false, None) => String::new(),
        };
        let processor = format!("{}{long}{}", engine.processor, if engine.rests { " (rests)" } else { "" });
        table.row([pu, processor, runs, busy, engine.requests.to_string()]);
    }
    format!("{}\n", table.render())
}

fn key(function: &Function) -> (String, String, String) {
    (function.account.clone(), function.region.clone(), function.name.clone())
}

/// Each function's invocations: in a second, or in all where there is nothing to compare with.
fn calls(now: &Look, before: Option<&Look>) -> HashMap<(String, String, String), String> {
    let invocations = |f: &Function| (key(f), f.counters.invocations);
    let old: HashMap<_, _> = before.iter().flat_map(|look| look.functions.iter().map(invocations)).collect();
    let seconds = before.map(|before| (now.at - before.at).as_secs_f64().max(0.001));
    let cell = |function: &Function| {
        let total = function.counters.invocations;
        let text = match seconds {
            Some(seconds) => {
                let new = total.saturating_sub(old.get(&key(function)).copied().unwrap_or(0));
                format!("{:.1}", new as f64 / seconds)
            }
            None => total.to_string(),
        };
        (key(function), text)
    };
    now.functions.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(invocations: u64, at: Instant) -> Look {
        let mut function = Function { name: "f".into(), runtime: "python3.11".into(), ..Function::default() };
        function.counters.invocations = invocations;
        function.instances.busy = 2;
        Look { node: Node::default(), functions: vec![function], pus: Vec::new(), sockets: Sockets::default(), at }
    }

    #[test]
    fn calls_become_a_rate_when_there_are_two_looks() {
        let begin = Instant::now();
        let (one, two) = (at(10, begin), at(40, begin + Duration::from_secs(2)));
        assert!(render(&one, None).contains("  10  "), "{}", render(&one, None));
        assert!(render(&two, Some(&one)).contains(" 15.0  "), "{}", render(&two, Some(&one)));
    }

    #[test]
    fn engines_are_shown_where_there_are_any() {
        let begin = Instant::now();
        let look = |runs, busy_us, at| {
            let usual = Engine { processor: 3, requests: 1, runs, busy_us, ..Engine::default() };
            let own = Engine { for_long: true, number: Some(2), runs: 2 * runs, ..usual };
            let engines = vec![usual, own];
            let pu = Pu { name: "host".into(), engines, ..Pu::default() };
            Look { node: Node::default(), functions: Vec::new(), pus: vec![pu], sockets: Sockets::default(), at }
        };
        let (one, two) = (look(10, 500_000, begin), look(40, 1_500_000, begin + Duration::from_secs(2)));
        let row = |text: &str, row| text.lines().nth(row).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row(&engines(&one, None), 1), "host 3 10 0.5 1");
        let later = engines(&two, Some(&one));
        assert_eq!([row(&later, 1), row(&later, 2)], ["host 3 15.0 50.0 1", "host 3 (long runs apart, 2) 30.0 50.0 1"]);
        assert_eq!(engines(&at(1, begin), None), "");
    }
}
