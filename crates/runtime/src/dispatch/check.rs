//! Looks at new code before its first use: whoever deploys it hears at once what is wrong with it.

use super::Dispatcher;
use super::link::Said;
use crate::function::Function;
use sandbox::spec::{Code, Version};
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;
use worker::protocol::Command;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// Those who wait for what a worker has to say.
#[derive(Debug, Default)]
pub(super) struct Checks {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Option<String>>>,
}

impl Dispatcher {
    /// What there is to say against this function's code, as far as it can be known before it is used; nothing also where
    /// nobody is there who could look.
    pub async fn refusal(&self, function: &Function) -> Option<String> {
        if !function.kind.is_pure() {
            return None;
        }
        let code: Code = super::spec::code(function, Version::default(), "", &self.config);
        let pus: Vec<u8> = self.state().places(function).iter().map(|place| place.terms.pu).collect();
        let link = {
            let mut state = self.state();
            pus.into_iter().find_map(|pu| Some(state.pu(pu).ready()?.link.clone()))
        }?;
        let (tell, told) = oneshot::channel();
        let check = {
            let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
            checks.next += 1;
            // Those whose worker is gone have nobody to tell them.
            checks.waiting.retain(|_, waiting| !waiting.is_closed());
            let check = checks.next;
            checks.waiting.insert(check, tell);
            check
        };
        link.tell(Said::Command(Command::Check { check, kind: function.kind, code }));
        tokio::time::timeout(PATIENCE, told).await.ok()?.ok()?
    }

    /// Whether somebody waits for that.
    pub(super) fn is_checking(&self) -> bool {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.waiting.values().any(|waiting| !waiting.is_closed())
    }

    /// A worker has looked.
    pub(super) fn checked(&self, check: u64, refusal: Option<String>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = checks.waiting.remove(&check) {
            let _ = waiting.send(refusal);
        }
    }
}
