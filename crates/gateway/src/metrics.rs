//! `/metrics`: what the node counts, in Prometheus' text format. Written by hand: counters live where they are counted.
//!
//! Times are seconds and memory bytes, as Prometheus wants its units.

use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use crate::v1::connections::census;
use api::node::Sockets;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::counters::{BOUNDS_US, Fault, Tally};
use runtime::dispatch::snapshot::{EngineState, FunctionState, NodeState, PuState};
use runtime::function::FunctionKey;
use sources::State;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub const ROUTES: &[Route] = &[route!(GET "/metrics" GetMetrics => metrics)];

async fn metrics(exchange: Exchange) -> Answer {
    let gateway = &exchange.gateway;
    let mut page = Page::default();
    let state = gateway.dispatcher.snapshot();
    node(&mut page, gateway, &state);
    queue(&mut page, gateway);
    sources(&mut page, gateway);
    if gateway.broker.get().is_some() {
        connections(&mut page, &census(gateway).await);
    }
    functions(&mut page, &state.functions);
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(answer::with(StatusCode::OK, text, page.0))
}

fn node(page: &mut Page, gateway: &Gateway, state: &NodeState) {
    page.metric("lichen_ready", "gauge", "Whether the node takes invocations.");
    page.sample("lichen_ready", "", u64::from(gateway.waiting_for().is_empty()));
    page.metric("lichen_in_flight", "gauge", "Invocations that run or wait for an instance.");
    page.sample("lichen_in_flight", "", state.in_flight);
    page.metric("lichen_concurrency_limit", "gauge", "The most invocations at once.");
    page.sample("lichen_concurrency_limit", "", state.concurrency);
    page.metric("lichen_worker_losses_total", "counter", "Workers that ended unasked.");
    pus(page, state, "lichen_worker_losses_total", |pu| pu.losses as f64);
    page.metric("lichen_pu_ready", "gauge", "Whether the PU's worker is there.");
    pus(page, state, "lichen_pu_ready", |pu| f64::from(u8::from(pu.ready)));
    page.metric("lichen_pu_instances", "gauge", "Instances on the PU, those included that wait or are ending.");
    pus(page, state, "lichen_pu_instances", |pu| pu.instances.into());
    page.metric("lichen_pu_starting", "gauge", "Instances that are being started on the PU.");
    pus(page, state, "lichen_pu_starting", |pu| pu.starting.into());
    page.metric("lichen_pu_reserved_bytes", "gauge", "Memory that the PU's instances may use.");
    pus(page, state, "lichen_pu_reserved_bytes", |pu| (pu.reserved_mib << 20) as f64);
    page.metric("lichen_pu_templates", "gauge", "Templates that are ready on the PU.");
    pus(page, state, "lichen_pu_templates", |pu| pu.templates.into());
    page.metric("lichen_pu_starts_ordered_total", "counter", "Starts that the PU's worker was ordered, by the way.");
    for pu in &state.pus {
        for (way, starts) in [("fifo", pu.ordered.fifo), ("socket", pu.ordered.socket)] {
            page.sample(
                "lichen_pu_starts_ordered_total",
                &format!("{{pu=\"{}\",way=\"{way}\"}}", pu.spec.name),
                starts,
            );
        }
    }
    engines(page, state);
    page.metric("lichen_bills_lost_total", "counter", "Bills that could not be kept.");
    page.sample("lichen_bills_lost_total", "", gateway.ledger.lost());
    let kept = gateway.dispatcher.results().fill();
    page.metric("lichen_cache_entries", "gauge", "Outputs of pure functions that are kept.");
    page.sample("lichen_cache_entries", "", kept.entries);
    page.metric("lichen_cache_bytes", "gauge", "What they take.");
    page.sample("lichen_cache_bytes", "", kept.bytes);
    page.metric("lichen_cache_evictions_total", "counter", "Outputs that had to make room for others.");
    page.sample("lichen_cache_evictions_total", "", kept.evictions);
    page.metric("lichen_http_responses_total", "counter", "Answers by the class of their status.");
    for (class, count) in (1..).zip(&gateway.tally.statuses) {
        let count = count.load(Ordering::Relaxed);
        page.sample("lichen_http_responses_total", &format!("{{status=\"{class}xx\"}}"), count);
    }
}

/// One number of each PU.
fn pus(page: &mut Page, state: &NodeState, name: &str, number: impl Fn(&PuState) -> f64) {
    for pu in &state.pus {
        // A name has letters, digits and hyphens: nothing to escape.
        page.sample(name, &format!("{{pu=\"{}\",kind=\"{}\"}}", pu.spec.name, pu.spec.kind), number(pu));
    }
}

/// The engines of pure functions.
fn engines(page: &mut Page, state: &NodeState) {
    let of = |pu: u8| state.pus.get(usize::from(pu)).map_or("", |pu| pu.spec.name.as_str());
    let mut all = |name: &str, kind: &str, help: &str, number: fn(&EngineState) -> f64| {
        page.metric(name, kind, help);
        for engine in &state.engines {
            let (pu, processor, is_long) = (of(engine.pu), engine.processor, engine.class.is_long());
            let its_own = engine.class.number().map(|own| format!(",number=\"{own}\"")).unwrap_or_default();
            let labels = format!("{{pu=\"{pu}\",processor=\"{processor}\",long=\"{is_long}\"{its_own}}}");
            page.sample(name, &labels, number(engine));
        }
    };
    all("lichen_engine_runs_total", "counter", "Runs of pure functions.", |engine| engine.runs as f64);
    all("lichen_engine_busy_seconds_total", "counter", "What they took.", |engine| engine.busy as f64 / 1e9);
    all("lichen_engine_requests", "gauge", "Requests that an engine runs, or that wait for it.", |engine| {
        engine.requests.into()
    });
    all("lichen_engine_rests", "gauge", "Whether an engine leaves its processor to requests and answers.", |engine| {
        f64::from(u8::from(engine.rests))
    });
}

/// Of programs under `lichen socket run`.
fn connections(page: &mut Page, sockets: &Sockets) {
    const CONNECTIONS: &str = "lichen_socket_connections";
    page.metric("lichen_socket_broker", "gauge", "Whether the broker of sockets answers.");
    page.sample("lichen_socket_broker", "", u64::from(sockets.broker));
    page.metric("lichen_socket_processes", "gauge", "Processes that the broker of sockets serves.");
    page.sample("lichen_socket_processes", "", sockets.processes);
    page.metric("lichen_socket_met_total", "counter", "Connections that it has given memory.");
    page.sample("lichen_socket_met_total", "", sockets.met);
    page.metric(CONNECTIONS, "gauge", "Connections that it knows, by where their bytes go now.");
    for tier in ["memory", "tcp"] {
        let count = sockets.connections.iter().filter(|connection| connection.tier == tier).count();
        page.sample(CONNECTIONS, &format!("{{tier=\"{tier}\"}}"), count as u64);
    }
    let bytes: u64 = sockets.connections.iter().map(|connection| connection.record_bytes).sum();
    page.metric("lichen_socket_record_bytes", "gauge", "Memory that they have taken beyond what each has.");
    page.sample("lichen_socket_record_bytes", "", bytes);
}

fn queue(page: &mut Page, gateway: &Gateway) {
    let state = gateway.queue.state();
    let age = state.oldest_age_ms as f64 / 1e3;
    let gauges: [(&str, &str, f64); 5] = [
        ("lichen_events", "Asynchronous invocations that wait or run.", state.depth as f64),
        ("lichen_events_running", "Asynchronous invocations that run.", state.running as f64),
        ("lichen_events_oldest_age_seconds", "Age of the oldest of them.", age),
        ("lichen_events_dead", "Events that were given up and had nowhere to go.", state.dead as f64),
        ("lichen_events_bytes", "Bytes of all events, the dead included.", state.bytes as f64),
    ];
    for (name, help, value) in gauges {
        page.metric(name, "gauge", help);
        page.sample(name, "", value);
    }
    page.metric("lichen_events_accepted_total", "counter", "Events accepted.");
    page.sample("lichen_events_accepted_total", "", state.accepted);
    page.metric("lichen_event_retries_total", "counter", "Retries of events that failed.");
    page.sample("lichen_event_retries_total", "", state.retries);
}

/// Event source mappings, with what their last batch came to.
fn sources(page: &mut Page, gateway: &Gateway) {
    const NAME: &str = "lichen_event_source_well";
    page.metric(NAME, "gauge", "Whether an enabled event source could be read and served when it was tried last.");
    for mapping in gateway.sources.all() {
        let Some((State::Enabled, result)) = gateway.sources.state(&mapping.uuid) else { continue };
        let well = u64::from(!result.starts_with("PROBLEM"));
        // A source is an ARN, or addresses: neither has anything to escape.
        page.sample(NAME, &format!("{{mapping=\"{}\",source=\"{}\"}}", mapping.uuid, mapping.source), well);
    }
}

/// A function's revisions are one function. One that nothing has happened to is left out: there may be ten thousand.
fn functions(page: &mut Page, states: &[FunctionState]) {
    let used = states.iter().filter(|state| is_used(state));
    let labelled: Vec<(String, &FunctionState)> = used.map(|state| (labels(&state.key), state)).collect();
    let mut gauges: BTreeMap<&str, [u64; 5]> = BTreeMap::new();
    let mut tallies: BTreeMap<&str, &Tally> = BTreeMap::new();
    for (labels, state) in &labelled {
        let counts = [state.idle, state.busy, state.starting, state.stems, state.queued];
        let sums = gauges.entry(labels).or_default();
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(count));
        tallies.insert(labels, &state.tally);
    }
    page.metric("lichen_instances", "gauge", "Instances by what they do.");
    for (labels, counts) in &gauges {
        for (state, count) in ["idle", "busy", "starting", "stem"].iter().zip(counts) {
            page.sample("lichen_instances", &format!("{{{labels},state=\"{state}\"}}"), count);
        }
    }
    page.metric("lichen_queue_length", "gauge", "Invocations that wait for an instance.");
    gauges.iter().for_each(|(labels, counts)| page.sample("lichen_queue_length", &format!("{{{labels}}}"), counts[4]));
    starts(page, &tallies);
    remembered(page, &tallies);
    errors(page, &tallies);
    durations(page, &tallies);
}

fn is_used(state: &FunctionState) -> bool {
    [state.idle, state.busy, state.starting, state.stems, state.queued] != [0; 5] || state.tally != Tally::default()
}

fn starts(page: &mut Page, tallies: &BTreeMap<&str, &Tally>) {
    page.metric("lichen_invocations_total", "counter", "Invocations by where their instance came from.");
    for (labels, tally) in tallies {
        for (start, count) in [("cold", tally.cold), ("stem", tally.stem), ("warm", tally.warm)] {
            page.sample("lichen_invocations_total", &format!("{{{labels},start=\"{start}\"}}"), count);
        }
    }
}

/// Of functions that ask for their outputs to be kept; there are few.
fn remembered(page: &mut Page, tallies: &BTreeMap<&str, &Tally>) {
    page.metric("lichen_cache_requests_total", "counter", "Requests for runs that may have been done before.");
    for (labels, tally) in tallies.iter().filter(|(_, tally)| tally.remembered + tally.not_remembered > 0) {
        for (result, count) in [("hit", tally.remembered), ("miss", tally.not_remembered)] {
            page.sample("lichen_cache_requests_total", &format!("{{{labels},result=\"{result}\"}}"), count);
        }
    }
}

fn errors(page: &mut Page, tallies: &BTreeMap<&str, &Tally>) {
    page.metric("lichen_errors_total", "counter", "Invocations that ended as an error of the function.");
    for (labels, tally) in tallies {
        for (fault, count) in Fault::ALL.iter().zip(tally.faults) {
            page.sample("lichen_errors_total", &format!("{{{labels},error=\"{}\"}}", fault.as_str()), count);
        }
    }
    page.metric("lichen_throttles_total", "counter", "Invocations refused for want of concurrency.");
    tallies.iter().for_each(|(labels, tally)| {
        page.sample("lichen_throttles_total", &format!("{{{labels}}}"), tally.throttles);
    });
    page.metric("lichen_platform_errors_total", "counter", "Invocations that the node could not serve.");
    tallies.iter().for_each(|(labels, tally)| {
        page.sample("lichen_platform_errors_total", &format!("{{{labels}}}"), tally.platform_errors);
    });
}

fn durations(page: &mut Page, tallies: &BTreeMap<&str, &Tally>) {
    const NAME: &str = "lichen_duration_seconds";
    page.metric(NAME, "histogram", "From the function's being loaded to its answer.");
    for (labels, tally) in tallies {
        let mut sum = 0;
        for (bound, count) in BOUNDS_US.iter().zip(tally.buckets) {
            sum += count;
            let bound = *bound as f64 / 1e6;
            page.sample("lichen_duration_seconds_bucket", &format!("{{{labels},le=\"{bound}\"}}"), sum);
        }
        sum += tally.buckets[BOUNDS_US.len()];
        page.sample("lichen_duration_seconds_bucket", &format!("{{{labels},le=\"+Inf\"}}"), sum);
        page.sample("lichen_duration_seconds_sum", &format!("{{{labels}}}"), tally.duration_us as f64 / 1e6);
        page.sample("lichen_duration_seconds_count", &format!("{{{labels}}}"), sum);
    }
}

/// Names, versions and regions hold nothing that would have to be escaped.
fn labels(key: &FunctionKey) -> String {
    let FunctionKey { account, region, name, version } = key;
    format!("account=\"{account}\",region=\"{region}\",function=\"{name}\",version=\"{version}\"")
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative() {
        let mut tally = Tally { duration_us: 1_500_000, ..Tally::default() };
        (tally.buckets[0], tally.buckets[3], tally.buckets[BOUNDS_US.len()]) = (2, 1, 1);
        let mut page = Page::default();
        durations(&mut page, &BTreeMap::from([("function=\"f\"", &tally)]));
        let line = |text: &str| page.0.lines().any(|line| line == text);
        assert!(line("lichen_duration_seconds_bucket{function=\"f\",le=\"0.0001\"} 2"), "{}", page.0);
        assert!(line("lichen_duration_seconds_bucket{function=\"f\",le=\"0.001\"} 3"), "{}", page.0);
        assert!(line("lichen_duration_seconds_bucket{function=\"f\",le=\"+Inf\"} 4"), "{}", page.0);
        assert!(line("lichen_duration_seconds_sum{function=\"f\"} 1.5"), "{}", page.0);
    }
}
