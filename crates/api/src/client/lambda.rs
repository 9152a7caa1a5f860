//! Lambda's operations, as the command line calls them.

use super::{CallError, Client, Request, encode};
use crate::lambda::{FunctionConfiguration, FunctionPage, Invoked};
use crate::manifest::Manifest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

const FUNCTIONS: &str = "/2015-03-31/functions";
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

fn function(name: &str, rest: &str) -> String {
    format!("{FUNCTIONS}/{}{rest}", encode(name))
}

impl Client {
    /// `CreateFunction`, with a zip file.
    pub fn create_function(&self, manifest: &Manifest, zip: &[u8]) -> Result<FunctionConfiguration, CallError> {
        let body = manifest.create(BASE64.encode(zip)).to_string();
        self.json(&Request::new("POST", FUNCTIONS).with_headers(JSON).with_body(body.as_bytes()))
    }

    /// `UpdateFunctionCode`, with a zip file, and what of it the manifest says is the function.
    pub fn update_code(&self, manifest: &Manifest, zip: &[u8]) -> Result<FunctionConfiguration, CallError> {
        let body = manifest.update_code(BASE64.encode(zip)).to_string();
        let path = function(&manifest.name, "/code");
        self.json(&Request::new("PUT", &path).with_headers(JSON).with_body(body.as_bytes()))
    }

    /// `UpdateFunctionConfiguration`.
    pub fn update_configuration(&self, manifest: &Manifest) -> Result<FunctionConfiguration, CallError> {
        let body = manifest.update().to_string();
        let path = function(&manifest.name, "/configuration");
        self.json(&Request::new("PUT", &path).with_headers(JSON).with_body(body.as_bytes()))
    }

    /// `PutFunctionConcurrency`, or `DeleteFunctionConcurrency` for no limit.
    pub fn reserve_concurrency(&self, name: &str, most: Option<u32>) -> Result<(), CallError> {
        let path = format!("/2017-10-31/functions/{}/concurrency", encode(name));
        let body = most.map(|most| json!({ "ReservedConcurrentExecutions": most }).to_string()).unwrap_or_default();
        let method = if most.is_some() { "PUT" } else { "DELETE" };
        self.call(&Request::new(method, &path).with_headers(JSON).with_body(body.as_bytes())).map(drop)
    }

    /// `GetFunctionConfiguration`.
    pub fn function(&self, name: &str) -> Result<FunctionConfiguration, CallError> {
        self.json(&Request::new("GET", &function(name, "/configuration")))
    }

    /// `ListFunctions`, all pages.
    pub fn functions(&self) -> Result<Vec<FunctionConfiguration>, CallError> {
        let mut all = Vec::new();
        let mut path = format!("{FUNCTIONS}/");
        loop {
            let page: FunctionPage = self.json(&Request::new("GET", &path))?;
            all.extend(page.functions);
            match page.next_marker {
                Some(marker) => path = format!("{FUNCTIONS}/?Marker={}", encode(&marker)),
                None => return Ok(all),
            }
        }
    }

    /// `DeleteFunction`.
    pub fn delete_function(&self, name: &str) -> Result<(), CallError> {
        self.call(&Request::new("DELETE", &function(name, ""))).map(drop)
    }

    /// `Invoke`, waiting for the answer.
    pub fn invoke(&self, name: &str, payload: &[u8], log_tail: bool) -> Result<Invoked, CallError> {
        let headers: &[(&str, &str)] = if log_tail { &[("X-Amz-Log-Type", "Tail")] } else { &[] };
        let path = function(name, "/invocations");
        let (response, body) = self.call(&Request::new("POST", &path).with_headers(headers).with_body(payload))?;
        let header = |name: &str| response.header(name).map(str::to_owned);
        Ok(Invoked {
            body,
            error: header("x-amz-function-error"),
            log_tail: header("x-amz-log-result").and_then(|tail| BASE64.decode(tail).ok()),
            request_id: header("x-amzn-requestid").unwrap_or_default(),
        })
    }

    /// `Invoke` without waiting: the node keeps the event until the function has taken it.
    pub fn invoke_event(&self, name: &str, payload: &[u8]) -> Result<(), CallError> {
        let headers: &[(&str, &str)] = &[("X-Amz-Invocation-Type", "Event")];
        let path = function(name, "/invocations");
        self.call(&Request::new("POST", &path).with_headers(headers).with_body(payload)).map(drop)
    }
}
