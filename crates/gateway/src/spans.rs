//! `X-Lichen-Spans: 1` on an invocation: its answer then says in a header of that name when it passed its stations, in
//! nanoseconds of `CLOCK_MONOTONIC`, and where its instance came from. What `lichen bench` measures with.

use crate::http::Response;
use crate::route::Exchange;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::chain::{FlowOutcome, FlowSpans, StageReport};
use runtime::dispatch::{Report, Spans, StartKind};

const HEADER: HeaderName = HeaderName::from_static("x-lichen-spans");

/// Whether the caller wants to know.
pub fn wanted(exchange: &Exchange) -> bool {
    exchange.header(HEADER) == Some("1")
}

pub fn tell(response: &mut Response, report: &Report) {
    if let Ok(value) = HeaderValue::try_from(text(report)) {
        response.headers_mut().insert(HEADER, value);
    }
}

fn text(report: &Report) -> String {
    let Spans { accepted, decided, forked, entered, loaded, begun, ended, received } = report.spans;
    let start = word(report.start);
    format!(
        "accepted={accepted},decided={decided},forked={forked},entered={entered},loaded={loaded},begun={begun},\
         ended={ended},received={received},pu={},start={start}",
        report.pu
    )
}

fn word(start: StartKind) -> &'static str {
    match start {
        StartKind::Cold => "cold",
        StartKind::Warm => "warm",
        StartKind::Stem => "stem",
    }
}

/// The same of a chain: `begun1=…,ended1=…` are its first stage's.
pub fn tell_of_flow(response: &mut Response, outcome: &FlowOutcome) {
    let FlowSpans { accepted, decided, received } = outcome.spans;
    let stage = |(at, stage): (usize, &StageReport)| {
        let at = at + 1;
        format!("begun{at}={},ended{at}={},", stage.begun, stage.ended)
    };
    let stages: String = outcome.stages.iter().enumerate().map(stage).collect();
    let start = word(outcome.start);
    let text = format!("accepted={accepted},decided={decided},{stages}received={received},start={start}");
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(HEADER, value);
    }
}
