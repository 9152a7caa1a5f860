//! A function's log: one JSON object a line, from a time on, to now or for ever.

use super::{function, number};
use crate::gateway::Gateway;
use crate::http::{Body, answer};
use crate::lambda::Fault;
use crate::route::{Answer, Exchange};
use api::node::LogRecord;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::logs::{LogGroup, Query, Record};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

/// Bytes that are sent at once.
const PIECE: usize = 64 * 1024;

type Sender = mpsc::Sender<std::io::Result<Bytes>>;

pub async fn logs(exchange: Exchange) -> Answer {
    let entry = function(&exchange)?;
    let group = LogGroup {
        account: entry.id.account.clone(),
        region: entry.id.region.clone(),
        name: entry.function.log_group.clone(),
    };
    let query = Query {
        since_ms: number(&exchange, "since", 0)?,
        until_ms: number(&exchange, "until", 0)?,
        request_id: exchange.query("request").map(|id| id.into_owned()),
        last: number(&exchange, "last", 0)? as usize,
    };
    let gateway = exchange.gateway.clone();
    let follow = exchange.query("follow").is_some_and(|follow| follow != "false");
    // Before the past is read, so that nothing falls between it and the future.
    let live = follow.then(|| gateway.logs.follow(&group));
    let past = gateway.logs.read(&group, query.clone()).await.map_err(|error| Fault::internal(&error))?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        // An error is a client that has gone.
        let _ = send(&gateway, past, live, &query, &sender).await;
    });
    let mut response = answer::with(StatusCode::OK, HeaderValue::from_static("application/x-ndjson"), Bytes::new());
    *response.body_mut() = Body::Stream(receiver);
    Ok(response)
}

/// The client has gone.
struct Gone;

async fn send(
    gateway: &Arc<Gateway>,
    past: Vec<Record>,
    live: Option<broadcast::Receiver<Record>>,
    query: &Query,
    to: &Sender,
) -> Result<(), Gone> {
    let mut piece = Vec::new();
    for record in &past {
        write(&mut piece, record);
        if piece.len() >= PIECE {
            flush(&mut piece, to).await?;
        }
    }
    flush(&mut piece, to).await?;
    match live {
        Some(live) => follow(gateway, Seen::of(past), live, query, to).await,
        None => Ok(()),
    }
}

async fn follow(
    gateway: &Arc<Gateway>,
    mut seen: Seen,
    mut live: broadcast::Receiver<Record>,
    query: &Query,
    to: &Sender,
) -> Result<(), Gone> {
    let mut drain = gateway.drain.clone();
    let mut piece = Vec::new();
    loop {
        // What has come meanwhile is sent together.
        if live.is_empty() {
            flush(&mut piece, to).await?;
        }
        let next = tokio::select! {
            next = live.recv() => next,
            () = to.closed() => return Err(Gone),
            () = drain.begun() => return Ok(()),
        };
        match next {
            Ok(record) if seen.has(&record) || !is_wanted(&record, query) => {}
            Ok(record) => write(&mut piece, &record),
            Err(RecvError::Lagged(missed)) => write(&mut piece, &lagged(missed)),
            Err(RecvError::Closed) => return flush(&mut piece, to).await,
        }
        if piece.len() >= PIECE {
            flush(&mut piece, to).await?;
        }
    }
}

fn is_wanted(record: &Record, query: &Query) -> bool {
    query.request_id.as_deref().is_none_or(|id| *record.request_id == *id)
}

fn lagged(missed: u64) -> Record {
    let text =
        format!("[lichen: {missed} lines came faster than this connection could take them; `lichen logs` has them]");
    Record { at_ms: api::time::now_ms(), stream: "".into(), request_id: "".into(), text: text.into() }
}

fn write(piece: &mut Vec<u8>, record: &Record) {
    let record = LogRecord {
        time: record.at_ms,
        stream: record.stream.to_string(),
        request: record.request_id.to_string(),
        message: record.text.to_string(),
    };
    if serde_json::to_writer(&mut *piece, &record).is_ok() {
        piece.push(b'\n');
    }
}

async fn flush(piece: &mut Vec<u8>, to: &Sender) -> Result<(), Gone> {
    if piece.is_empty() {
        return Ok(());
    }
    to.send(Ok(std::mem::take(piece).into())).await.map_err(|_| Gone)
}

/// Records that were read from the past and may come again: those of its last millisecond on. They are told by what they
/// are and by how many there were, since records have no numbers.
struct Seen {
    until_ms: u64,
    times: HashMap<(u64, Arc<str>, Box<str>), u32>,
}

impl Seen {
    fn of(past: Vec<Record>) -> Self {
        let until_ms = past.last().map_or(0, |record| record.at_ms);
        let mut times = HashMap::new();
        // Whatever was written while the past was read is among its last; a second is more than that takes.
        let recent = past.into_iter().rev().take_while(|record| record.at_ms + 1000 >= until_ms);
        for record in recent {
            *times.entry((record.at_ms, record.stream, record.text)).or_insert(0) += 1;
        }
        Self { until_ms, times }
    }

    fn has(&mut self, record: &Record) -> bool {
        if record.at_ms > self.until_ms {
            return false;
        }
        match self.times.get_mut(&(record.at_ms, record.stream.clone(), record.text.clone())) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_ms: u64, text: &str) -> Record {
        Record { at_ms, stream: "s".into(), request_id: "r".into(), text: text.into() }
    }

    #[test]
    fn what_was_read_is_not_sent_again() {
        let mut seen = Seen::of(vec![record(1, "a"), record(2, "b"), record(2, "b")]);
        assert!(!seen.has(&record(2, "c")));
        assert!(seen.has(&record(2, "b")));
        assert!(seen.has(&record(2, "b")));
        assert!(!seen.has(&record(2, "b")));
        assert!(!seen.has(&record(3, "a")));
        assert!(!Seen::of(Vec::new()).has(&record(0, "a")));
    }
}
