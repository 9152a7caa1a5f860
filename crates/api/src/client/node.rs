//! Lichen's own API, as the command line calls it.

use super::{Body, CallError, Client, Request, encode};
use crate::lambda::Invoked;
use crate::node::{
    Bill, Count, DeadEvent, Flow, FlowRun, FlowSpec, Function, LogRecord, Node, Pu, Queue, Revision, Sockets, Template,
    Usage,
};
use std::io::{BufRead, BufReader};

impl Client {
    /// Whether the node takes invocations; what it waits for is in [`Client::node`].
    pub fn is_ready(&self) -> bool {
        self.call(&Request::new("GET", "/readyz")).is_ok()
    }

    pub fn node(&self) -> Result<Node, CallError> {
        self.json(&Request::new("GET", "/v1/node"))
    }

    /// Every function of the node, whatever its account and region.
    pub fn node_functions(&self) -> Result<Vec<Function>, CallError> {
        self.json(&Request::new("GET", "/v1/functions"))
    }

    pub fn instances(&self) -> Result<Vec<Revision>, CallError> {
        self.json(&Request::new("GET", "/v1/instances"))
    }

    pub fn templates(&self) -> Result<Vec<Template>, CallError> {
        self.json(&Request::new("GET", "/v1/templates"))
    }

    /// Totals of every function and day, newest first.
    pub fn usage(&self) -> Result<Vec<Usage>, CallError> {
        self.json(&Request::new("GET", "/v1/usage"))
    }

    pub fn pus(&self) -> Result<Vec<Pu>, CallError> {
        self.json(&Request::new("GET", "/v1/pus"))
    }

    pub fn connections(&self) -> Result<Sockets, CallError> {
        self.json(&Request::new("GET", "/v1/connections"))
    }

    /// Puts a flow there, or a new state of it.
    pub fn put_flow(&self, flow: &FlowSpec) -> Result<Flow, CallError> {
        // Texts and a number cannot fail to be written.
        let body = serde_json::to_vec(flow).unwrap_or_default();
        self.json(&Request::new("POST", "/v1/flows").with_body(&body))
    }

    pub fn flows(&self) -> Result<Vec<Flow>, CallError> {
        self.json(&Request::new("GET", "/v1/flows"))
    }

    pub fn delete_flow(&self, name: &str) -> Result<(), CallError> {
        self.call(&Request::new("DELETE", &format!("/v1/flows/{}", encode(name)))).map(drop)
    }

    /// Runs a flow, waiting for its answer.
    pub fn invoke_flow(&self, name: &str, payload: &[u8]) -> Result<Invoked, CallError> {
        let path = format!("/v1/flows/{}/invoke", encode(name));
        self.invoked(&Request::new("POST", &path).with_body(payload))
    }

    /// Has a flow run, and does not wait: the run's id.
    pub fn begin_flow(&self, name: &str, payload: &[u8]) -> Result<String, CallError> {
        let path = format!("/v1/flows/{}/invoke?async", encode(name));
        let (response, _) = self.call(&Request::new("POST", &path).with_body(payload))?;
        Ok(response.header("x-lichen-run").unwrap_or_default().to_owned())
    }

    fn invoked(&self, request: &Request<'_>) -> Result<Invoked, CallError> {
        let (response, body) = self.call(request)?;
        let header = |name: &str| response.header(name).map(str::to_owned);
        Ok(Invoked {
            body,
            error: header("x-amz-function-error"),
            log_tail: None,
            request_id: header("x-amzn-requestid").unwrap_or_default(),
        })
    }

    /// What is to be said about a flow's text: a list of diagnostics, JSON.
    pub fn check_flow(&self, text: &str) -> Result<Vec<u8>, CallError> {
        self.call(&Request::new("POST", "/v1/flows/check").with_body(text.as_bytes())).map(|(_, body)| body)
    }

    /// A picture of a flow, or of a run, by its path.
    pub fn flow_picture(&self, path: &str) -> Result<Vec<u8>, CallError> {
        self.call(&Request::new("GET", path)).map(|(_, body)| body)
    }

    /// The runs of a flow that are known, the latest first.
    pub fn flow_runs(&self, name: &str) -> Result<Vec<FlowRun>, CallError> {
        self.json(&Request::new("GET", &format!("/v1/flows/{}/runs", encode(name))))
    }

    pub fn flow_run(&self, id: &str) -> Result<FlowRun, CallError> {
        self.json(&Request::new("GET", &format!("/v1/runs/{}", encode(id))))
    }

    pub fn flow_result(&self, id: &str) -> Result<Invoked, CallError> {
        self.invoked(&Request::new("GET", &format!("/v1/runs/{}/result", encode(id))))
    }

    pub fn cancel_run(&self, id: &str) -> Result<(), CallError> {
        self.call(&Request::new("DELETE", &format!("/v1/runs/{}", encode(id)))).map(drop)
    }

    pub fn queue(&self) -> Result<Queue, CallError> {
        self.json(&Request::new("GET", "/v1/queue"))
    }

    /// Dead events, the latest first, without their payloads.
    pub fn dead(&self, limit: u32) -> Result<Vec<DeadEvent>, CallError> {
        self.json(&Request::new("GET", &format!("/v1/dlq?limit={limit}")))
    }

    /// A dead event by its request id.
    pub fn dead_event(&self, request: &str) -> Result<DeadEvent, CallError> {
        self.json(&Request::new("GET", &format!("/v1/dlq/{}", encode(request))))
    }

    /// Has dead events delivered again, one or all: how many.
    pub fn redrive(&self, request: Option<&str>) -> Result<u64, CallError> {
        let count: Count = self.json(&Request::new("POST", &format!("/v1/dlq/redrive{}", chosen(request))))?;
        Ok(count.count)
    }

    /// Deletes dead events, one or all: how many.
    pub fn purge(&self, request: Option<&str>) -> Result<u64, CallError> {
        let count: Count = self.json(&Request::new("DELETE", &format!("/v1/dlq{}", chosen(request))))?;
        Ok(count.count)
    }

    /// A function's latest bills, newest first.
    pub fn bills(&self, name: &str, limit: u32) -> Result<Vec<Bill>, CallError> {
        self.json(&Request::new("GET", &format!("/v1/functions/{}/bills?limit={limit}", encode(name))))
    }

    /// A function's log from `since` (milliseconds since 1970) on; with `follow`, without an end.
    pub fn logs(&self, name: &str, since: u64, follow: bool) -> Result<LogRecords, CallError> {
        let path = format!("/v1/functions/{}/logs?since={since}&follow={follow}", encode(name));
        // A function may be silent for as long as it likes.
        let client = if follow { self.clone().with_patience(None) } else { self.clone() };
        let mut response = client.open(&Request::new("GET", &path))?;
        if response.status >= 400 {
            let body = response.read_to_end().unwrap_or_default();
            return Err(super::refusal(&response, &body));
        }
        Ok(LogRecords { endpoint: self.endpoint.clone(), lines: BufReader::new(response.body) })
    }
}

fn chosen(request: Option<&str>) -> String {
    request.map(|request| format!("?request={}", encode(request))).unwrap_or_default()
}

/// Log records as they come.
pub struct LogRecords {
    endpoint: String,
    lines: BufReader<Body>,
}

impl Iterator for LogRecords {
    type Item = Result<LogRecord, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).map_err(|_| CallError::Foreign {
                endpoint: self.endpoint.clone(),
                what: "a line of its log is not a record",
            })),
            Err(source) => Some(Err(CallError::Broken { endpoint: self.endpoint.clone(), source })),
        }
    }
}
