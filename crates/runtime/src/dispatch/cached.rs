//! Runs of pure functions that may have been done before: functions that ask for it (`cache`) share what [`Results`] has
//! kept, and a run that is under way.
//!
//! Nothing that depends on a moment is kept: failures, and data that an engine holds for a while. What was printed is not
//! printed again: a result that was kept has no log, no bill and no instance.

use super::call::{Call, InvokeError, Outcome, Report, Spans, StartKind};
use super::node::Meter;
use super::{Dispatcher, pure};
use crate::function::Function;
use crate::results::{Found, Key, Results};
use bytes::Bytes;
use cfork::invocation::Cause;
use sets::wire::Data;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

impl Dispatcher {
    /// As [`compute`](Dispatcher::compute); `is_lasting` says whether the message has all data of its inputs in it.
    pub(super) async fn compute_or_remember(
        self: &Arc<Self>,
        function: &Arc<Function>,
        mut call: Call,
        is_lasting: bool,
    ) -> Result<Outcome, InvokeError> {
        let asks = function.pure.cache && function.pure.deterministic && is_lasting;
        // Whoever is reserved nothing is switched off.
        if !asks || self.results.is_off() || function.max_concurrency == Some(0) {
            return self.compute(function, call).await;
        }
        // What is kept is kept whole.
        call.lends = false;
        let asked = os::monotonic_ns();
        let meter = self.meter(function, &call)?;
        match self.results.take(key(function, call.parts())).await {
            Found::Hit(body) => {
                meter.counters.remembered();
                Ok(remembered(body, &call, asked))
            }
            Found::Run(turn) => {
                meter.counters.not_remembered();
                let outcome = self.compute(function, call).await;
                match &outcome {
                    Ok(outcome) if !outcome.failed && is_whole(&outcome.body) => turn.keep(&outcome.body),
                    _ => turn.fail(),
                }
                outcome
            }
        }
    }

    /// What is counted of a function, where it may be invoked now.
    fn meter(&self, function: &Arc<Function>, call: &Call) -> Result<Arc<Meter>, InvokeError> {
        let mut state = self.open_for(function, call, os::monotonic_ns())?;
        let post = state.post(function);
        state.posts.get(post).map(|post| post.meter.clone()).ok_or(InvokeError::NoWorker)
    }

    /// Outputs that are kept.
    pub fn results(&self) -> &Results {
        &self.results
    }
}

/// All that outputs depend on. Accounts share nothing: how long an answer takes would tell what others have asked.
fn key<'p>(function: &Function, message: impl Iterator<Item = &'p [u8]>) -> Key {
    let Function { key, kind, code, layers, handler, environment, memory_mib, profiles, pure, .. } = function;
    let depends = (&key.account, &key.region, kind, code, layers, handler, environment, memory_mib, profiles, pure);
    let own = Sha256::digest(format!("{depends:?}"));
    message.fold(Sha256::new().chain_update(own), |sum, part| sum.chain_update(part)).finalize().into()
}

/// Whether outputs have all their data in them.
fn is_whole(body: &Bytes) -> bool {
    let Ok(outputs) = pure::outputs(body) else { return false };
    outputs.iter().flat_map(|set| &set.items).all(|item| matches!(item.data, Data::Inline(_)))
}

fn remembered(body: Bytes, call: &Call, asked: u64) -> Outcome {
    let now = os::monotonic_ns();
    let accepted = if call.accepted > 0 { call.accepted } else { asked };
    let report = Report {
        start: StartKind::Warm,
        instance: 0,
        pu: 0,
        duration: Duration::from_nanos(now.saturating_sub(asked)),
        billed_ms: 0,
        init: None,
        memory_peak: 0,
        remembered: true,
        cause: Cause::Function,
        spans: Spans { accepted, received: now, ..Spans::default() },
    };
    Outcome { body, tail: None, failed: false, log_tail: call.log_tail.then(Vec::new), report }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Pure;
    use sets::wire::{self, Held};
    use sets::{Item, Set};

    fn function(change: impl FnOnce(&mut Function)) -> Function {
        let mut function = super::super::lines::tests::function();
        function.pure = Pure { cache: true, deterministic: true, ..Pure::default() };
        change(&mut function);
        function
    }

    #[test]
    fn keys_tell_apart_what_may_come_out_otherwise() {
        let key = |function: &Function, message: &'static [&'static [u8]]| key(function, message.iter().copied());
        let message: &[&[u8]] = &[b"in"];
        let own = key(&function(|_| {}), message);
        assert_eq!(key(&function(|_| {}), &[b"i", b"n"]), own, "however it comes");
        let same: [fn(&mut Function); 3] = [
            |function| Arc::make_mut(&mut function.key).name = "g".into(),
            |function| function.revision = "another".into(),
            |function| function.timeout_s += 1,
        ];
        for change in same {
            assert_eq!(key(&function(change), message), own);
        }
        let others: [fn(&mut Function); 6] = [
            |function| Arc::make_mut(&mut function.key).account = "1".into(),
            |function| function.code = "/another".into(),
            |function| function.handler = "another".into(),
            |function| function.memory_mib += 1,
            |function| drop(function.environment.insert("A".into(), "b".into())),
            |function| function.pure.inputs.push("x".into()),
        ];
        for change in others {
            assert_ne!(key(&function(change), message), own);
        }
        assert_ne!(key(&function(|_| {}), &[b"other"]), own);
    }

    #[test]
    fn what_an_engine_holds_is_not_kept() {
        let body = |data: Data<&'static [u8]>| {
            let mut message = Vec::new();
            wire::encode(&[Set::new("o", vec![Item::new("x", 0, data)])], &mut message).unwrap();
            Bytes::from(message)
        };
        assert!(is_whole(&body(Data::Inline(b"x"))));
        assert!(!is_whole(&body(Data::Held(Held { engine: 0, id: 1, len: 5000 }))));
        assert!(!is_whole(&Bytes::from_static(b"nonsense")));
    }
}
