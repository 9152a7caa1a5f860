//! One server under measurement: a request that is sent again and again, by one client and by many.

use crate::census;
use crate::error::BenchError;
use crate::http::{Connection, Crowd, Request};
use std::time::{Duration, Instant};

pub struct Server {
    pub name: String,
    request: Request,
    connection: Connection,
    /// Microseconds of each request of the one client.
    pub taken: Vec<f64>,
    pub per_second: Vec<f64>,
    /// The node that it is of, and microseconds that its engines have computed for a request, of so many clients.
    node: Option<u32>,
    pub engines: Vec<f64>,
}

impl Server {
    pub fn new(name: impl Into<String>, request: Request) -> Self {
        let (name, connection) = (name.into(), Connection::new());
        Self { name, request, connection, taken: vec![], per_second: vec![], node: None, engines: vec![] }
    }

    /// One that engines of this node answer for.
    pub fn of_node(self, node: u32) -> Self {
        Self { node: Some(node), ..self }
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
            let answer = self.connection.call(&self.request);
            let took = began.elapsed();
            let answer = answer.map_err(|source| BenchError::Silent { who: self.name.clone(), source })?;
            if answer.status != 200 || answer.header("x-amz-function-error").is_some() {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(BenchError::Refused { who: self.name.clone(), status: answer.status, body });
            }
            self.taken.push(took.as_nanos() as f64 / 1000.0);
        }
        Ok(())
    }

    pub fn crowd(&mut self, clients: usize, time: Duration) -> Result<(), BenchError> {
        let crowd = Crowd { clients, request: self.request.clone() };
        let before = self.node.map(engines_seconds);
        let load = crowd.ask_for(time).map_err(|source| BenchError::Silent { who: self.name.clone(), source })?;
        if load.refused > 0 {
            return Err(BenchError::Broken(format!("{} has refused {} requests under load", self.name, load.refused)));
        }
        self.per_second.push(load.per_second());
        let spent = self.node.map(engines_seconds).zip(before).map(|(after, before)| after - before);
        self.engines.extend(spent.map(|seconds| seconds * 1e6 / load.latencies.len() as f64));
        Ok(())
    }
}

/// What all engines of a node have computed until now.
pub fn engines_seconds(node: u32) -> f64 {
    census::processor_seconds(node, "lichen-engine")
}
