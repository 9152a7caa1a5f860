//! What is asked again and again, and how long it takes.

use super::texts;
use crate::error::BenchError;
use crate::http::{Answer, Connection, Request};
use crate::node::Node;
use crate::spans::{HEADER, Spans};
use std::time::Instant;

/// One request by one client.
pub struct Course {
    name: &'static str,
    request: Request,
    connection: Connection,
    /// Microseconds.
    pub taken: Vec<f64>,
}

impl Course {
    pub fn new(name: &'static str, request: Request) -> Self {
        Self { name, request, connection: Connection::new(), taken: Vec::new() }
    }

    /// Requests that do not count.
    pub fn warm(&mut self, times: usize) -> Result<(), BenchError> {
        self.ask(times)?;
        self.taken.clear();
        Ok(())
    }

    pub fn ask(&mut self, times: usize) -> Result<(), BenchError> {
        for _ in 0..times {
            let began = Instant::now();
            call(&mut self.connection, self.name, &self.request)?;
            self.taken.push(began.elapsed().as_nanos() as f64 / 1000.0);
        }
        Ok(())
    }
}

fn call(connection: &mut Connection, who: &str, request: &Request) -> Result<Answer, BenchError> {
    let answer = connection.call(request).map_err(|source| BenchError::Silent { who: who.to_owned(), source })?;
    if answer.status != 200 || answer.header("x-amz-function-error").is_some() {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(BenchError::Refused { who: who.to_owned(), status: answer.status, body });
    }
    Ok(answer)
}

/// What a flow would do, by a client that calls one function after the other: microseconds per function.
pub fn loop_over_http(node: &Node, items: usize) -> Result<f64, BenchError> {
    let (mut connection, map) = (Connection::new(), texts::function(node, "echo", b"word 1"));
    let began = Instant::now();
    let mut made = Vec::with_capacity(items);
    for _ in 0..items {
        made.push(String::from_utf8_lossy(&call(&mut connection, "a function", &map)?.body).into_owned());
    }
    let body = serde_json::json!({ "sets": { "pairs": made } }).to_string();
    call(&mut connection, "a function", &texts::function(node, "sum", body.as_bytes()))?;
    Ok(began.elapsed().as_nanos() as f64 / 1000.0 / (items + 1) as f64)
}

/// Microseconds that an engine spends on one run, by its own account.
pub fn engine_alone(node: &Node, times: usize) -> Result<Vec<f64>, BenchError> {
    let mut connection = Connection::new();
    let request = node.invocation("echo", br#"{"sets": {"in": ["word 1"]}}"#);
    let one = |connection: &mut Connection| {
        let answer = call(connection, "a function", &request)?;
        let spans = answer.header(HEADER).and_then(Spans::parse);
        let spans = spans.ok_or_else(|| BenchError::NoSpans { who: "a function".to_owned() })?;
        Ok(spans.ended.saturating_sub(spans.begun) as f64 / 1000.0)
    };
    (0..times).map(|_| one(&mut connection)).collect()
}
