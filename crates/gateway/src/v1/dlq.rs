//! Dead events: those that were given up and had nowhere to go.

use super::number;
use crate::http::answer;
use crate::lambda::Fault;
use crate::route::{Answer, Exchange};
use api::node::{Count, DeadEvent};
use hyper::StatusCode;
use runtime::queue::{Dead, Which};
use serde_json::Value;

pub async fn list(exchange: Exchange) -> Answer {
    let limit = u32::try_from(number(&exchange, "limit", 100)?).unwrap_or(u32::MAX).min(1_000);
    let which = which(&exchange)?;
    let dead = exchange.gateway.blocking(move |gateway| gateway.queue.dead(&which, limit)).await??;
    let shown: Vec<DeadEvent> = dead.iter().map(|dead| DeadEvent { payload: None, ..shown(dead) }).collect();
    Ok(answer::json(StatusCode::OK, &shown))
}

pub async fn show(exchange: Exchange) -> Answer {
    let id = exchange.capture(0).into_owned();
    let which = Which { request_id: id.clone(), ..Which::default() };
    let dead = exchange.gateway.blocking(move |gateway| gateway.queue.last_dead(&which)).await??;
    let dead = dead.ok_or_else(|| absent(&id))?;
    Ok(answer::json(StatusCode::OK, &shown(&dead)))
}

/// All, or those of the query's `request` or `target`.
pub async fn redrive(exchange: Exchange) -> Answer {
    let which = which(&exchange)?;
    let count = exchange.gateway.queue.redrive(which.clone()).await?;
    counted(count, &which)
}

/// The same.
pub async fn purge(exchange: Exchange) -> Answer {
    let which = which(&exchange)?;
    let count = exchange.gateway.queue.purge(which.clone()).await?;
    counted(count, &which)
}

fn counted(count: u64, which: &Which) -> Answer {
    if count == 0 && !which.request_id.is_empty() {
        return Err(absent(&which.request_id));
    }
    Ok(answer::json(StatusCode::OK, &Count { count }))
}

fn absent(id: &str) -> Fault {
    Fault::not_found(format!("No dead event has the request id {id}"))
}

fn which(exchange: &Exchange) -> Result<Which, Fault> {
    let text = |name: &str| exchange.query(name).map(|text| text.into_owned()).unwrap_or_default();
    Ok(Which { request_id: text("request"), target: text("target") })
}

fn shown(dead: &Dead) -> DeadEvent {
    let json = |bytes: &[u8]| -> Value {
        serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
    };
    DeadEvent {
        request: dead.event.request_id.clone(),
        target: dead.event.target.clone(),
        accepted: dead.event.accepted_ms,
        died: dead.died_ms,
        attempts: dead.event.attempts,
        reason: dead.reason.clone(),
        error: if dead.error.is_empty() { Value::Null } else { json(&dead.error) },
        payload: Some(json(&dead.event.payload)),
    }
}
