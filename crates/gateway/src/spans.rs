//! `X-Lichen-Spans: 1` on an invocation: its answer then says in a header of that name when it passed its stations, in
//! nanoseconds of `CLOCK_MONOTONIC`, and where its instance came from. What `lichen bench` measures with.

use crate::http::Response;
use crate::route::Exchange;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::{Report, Spans, StartKind};

const HEADER: HeaderName = HeaderName::from_static("x-lichen-spans");

/// Whether the caller wants to know.
pub fn wanted(exchange: &Exchange) -> bool {
    exchange.header(HEADER.as_str()) == Some("1")
}

pub fn tell(response: &mut Response, report: &Report) {
    if let Ok(value) = HeaderValue::try_from(text(report)) {
        response.headers_mut().insert(HEADER, value);
    }
}

fn text(report: &Report) -> String {
    let Spans { accepted, decided, forked, entered, loaded, begun, ended, received } = report.spans;
    let start = match report.start {
        StartKind::Cold => "cold",
        StartKind::Warm => "warm",
        StartKind::Stem => "stem",
    };
    format!(
        "accepted={accepted},decided={decided},forked={forked},entered={entered},loaded={loaded},begun={begun},\
         ended={ended},received={received},start={start},pu={}",
        report.pu
    )
}
