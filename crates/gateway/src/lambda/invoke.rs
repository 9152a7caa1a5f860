//! `Invoke`: the main path. No database, no regular expression, no lock that is held for long; one allocation for each
//! header and string that has to outlive the request.

use super::asked::{self, Asked, Kind, Kinds, Manner};
use super::event;
use crate::http::{Response, answer};
use crate::route::{Answer, Exchange, Route, route};
use crate::spans;
use crate::v1::flows;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::Outcome;

pub const ROUTES: &[Route] = &[route!(POST "/2015-03-31/functions/*/invocations" Invoke => invoke)];

const KINDS: Kinds = &[("Event", Kind::Event), ("RequestResponse", Kind::RequestResponse), ("DryRun", Kind::DryRun)];

async fn invoke(mut exchange: Exchange) -> Answer {
    let manner = Manner::of(&exchange, KINDS)?;
    let kind = manner.kind;
    if kind == Kind::Event {
        let arn = match event::arn(&exchange) {
            Err(fault) if fault.is_not_found() => {
                let flow = flows::invoke::meant(&exchange).ok_or(fault)?;
                flows::invoke::accept(&mut exchange, &flow).await?;
                return Ok(answer::empty(StatusCode::ACCEPTED));
            }
            arn => arn?,
        };
        let payload = asked::payload(&mut exchange).await?;
        event::accept(&mut exchange, arn, payload, manner.client_context).await?;
        return Ok(answer::empty(StatusCode::ACCEPTED));
    }
    let asked = match Asked::read(&mut exchange, manner).await {
        Err(fault) if fault.is_not_found() => {
            let flow = flows::invoke::meant(&exchange).ok_or(fault)?;
            return match kind {
                Kind::DryRun => Ok(answer::empty(StatusCode::NO_CONTENT)),
                _ => flows::invoke::invoke_as_function(exchange, &flow).await,
            };
        }
        asked => asked?,
    };
    if kind == Kind::DryRun {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let spans_wanted = spans::wanted(&exchange);
    let (entry, call, told) = asked.parts();
    let outcome = exchange.gateway.dispatcher.invoke(&entry.function, call).await?;
    let outcome = asked::restored(&entry, outcome)?;
    let report = spans_wanted.then(|| outcome.report.clone());
    let mut response = answered(outcome);
    told.tell(&mut response);
    if let Some(report) = report {
        spans::tell(&mut response, &report);
    }
    Ok(response)
}

fn answered(outcome: Outcome) -> Response {
    let mut response = answer::json_text(StatusCode::OK, outcome.body);
    let headers = response.headers_mut();
    if outcome.failed {
        headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    let tail = outcome.log_tail.and_then(|tail| HeaderValue::try_from(BASE64.encode(tail)).ok());
    if let Some(tail) = tail {
        headers.insert("x-amz-log-result", tail);
    }
    response
}
