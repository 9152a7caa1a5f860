//! How verbs reach a node, and what its refusals mean for the exit code.

use crate::verdict::wrong;
use anyhow::Context;
use api::Client;
use api::client::{CallError, DEFAULT_ENDPOINT, Key};
use clap::Args;
use rustix::event::{Timespec, poll};
use std::env;
use std::fs;
use std::io::Read;
use std::time::Duration;

/// The option of every verb that talks to a node.
#[derive(Clone, Debug, Args)]
pub struct Endpoint {
    /// The node to talk to
    #[arg(long, env = "LICHEN_ENDPOINT", default_value = DEFAULT_ENDPOINT, value_name = "URL")]
    pub endpoint: String,
}

impl Endpoint {
    pub fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(&self.endpoint).map_err(|error| wrong(format!("--endpoint: {error}")))?;
        // Not options: whoever lists processes sees those.
        let key = env::var("LICHEN_ACCESS_KEY_ID").ok().zip(env::var("LICHEN_SECRET_ACCESS_KEY").ok());
        Ok(client.with_key(key.map(|(id, secret)| Key { id, secret })))
    }
}

/// What a call that failed means: a refusal of what was asked is for the person to put right, all else is the platform's.
pub fn explain(error: CallError) -> anyhow::Error {
    match &error {
        CallError::Refused { status: 400..=428 | 430..=499, message, .. } => wrong(message.clone()),
        _ => error.into(),
    }
}

/// The payload that `-d` describes: JSON, `@FILE`, or `-` for standard input. Nothing is an empty payload.
pub fn payload(data: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let bytes = match data {
        None => return Ok(Vec::new()),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
            bytes
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => fs::read(path).map_err(|error| wrong(format!("-d @{path}: cannot read it: {error}")))?,
            None => text.as_bytes().to_vec(),
        },
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            Err(wrong(format!("-d: the data is not JSON ({error}): give JSON, @FILE, or - for standard input")))
        }
    }
}

/// Lets time pass between two looks at something that cannot be waited for.
pub fn pause(time: Duration) {
    let limit = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // Woken early by a signal: then the next look comes early.
    let _ = poll(&mut [], Some(&limit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Exit, conclude};

    #[test]
    fn payloads() {
        assert_eq!(payload(None).unwrap(), b"");
        assert_eq!(payload(Some("{\"a\": 1}")).unwrap(), b"{\"a\": 1}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "[1]").unwrap();
        assert_eq!(payload(Some(&format!("@{}", file.path().display()))).unwrap(), b"[1]");
        for bad in ["{a: 1}", "@nowhere", "", "1 2"] {
            assert_eq!(conclude(payload(Some(bad)).map(|_| Exit::Done)), Exit::WrongUsage, "{bad}");
        }
    }

    #[test]
    fn refusals_are_usage_and_throttling_is_not() {
        let exit = |status| {
            let error = CallError::Refused { status, code: "X".into(), message: "no".into() };
            conclude(Err(explain(error)))
        };
        assert_eq!([400, 404, 409, 429, 500, 503].map(exit), {
            use Exit::{PlatformFailed as P, WrongUsage as W};
            [W, W, W, P, P, P]
        });
    }
}
