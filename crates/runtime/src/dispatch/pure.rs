//! Runs of pure functions: sets of items in, sets of items out.
//!
//! They take the same way as all invocations: to an instance, which is a channel to an engine. What is different: an event
//! becomes sets, and sets an answer; a run that nobody waits for any more is ended; the deadline is kept by the engine, and here there
//! is only a net behind it; and the log has lines of a run only where it printed something, failed, or its tail is wanted.

use super::call::{Call, InvokeError, Outcome, Report};
use super::keep_going::{Cancel, KeepGoing};
use super::reception::Reception;
use super::{Dispatcher, invoke};
use crate::function::{Function, Pure};
use bytes::Bytes;
use sets::wire::{self, Data, Encode, Source, Split};
use sets::{Item, Limits, Set, Sets};
use std::sync::Arc;

/// The data of an item on its way: here, or with an engine that has kept it.
pub type Payload = Data<Bytes>;

/// The input set of a function that names none, and the item that a body without sets becomes.
const INPUT: &str = "in";
const BODY: &str = "body";

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The outputs, or Lambda's error object, whose type begins with `Pure.` where the function is to blame.
    pub outcome: Result<Sets<Payload>, Bytes>,
    /// Whether the last item's data lies where its engine has written it, and may still do: it is to be handed to the kernel, or copied
    /// before it is looked at. Only if the call [`lends`](Call::lends).
    pub is_lent: bool,
    /// The last 4 KB of this run's log, where they were asked for.
    pub log_tail: Option<Vec<u8>>,
    pub report: Report,
}

impl Dispatcher {
    /// Runs a pure function once on these inputs; `call.payload` means nothing. Dropping the future ends the run.
    pub async fn run_pure<D: Encode>(
        self: &Arc<Self>,
        function: &Arc<Function>,
        inputs: &[Set<D>],
        mut call: Call,
    ) -> Result<Computed, InvokeError> {
        let mut items = inputs.iter().flat_map(|set| &set.items);
        let is_lasting = items.all(|item| matches!(item.data.data(), Data::Inline(_)));
        let mut message = Vec::new();
        let encoded = match &call.hold {
            Some(hold) if hold.keeps || !is_lasting => wire::encode_asking(hold.ask(), inputs, &mut message),
            _ => wire::encode(inputs, &mut message),
        };
        encoded.map_err(|error| InvokeError::BadSets { reason: error.to_string() })?;
        call.payload = message.into();
        self.computed(function, call, is_lasting).await
    }

    /// The same on a body that is no sets, in the pieces in which it has come: they are put together where the engine reads
    /// them.
    pub async fn run_pure_on_body(
        self: &Arc<Self>,
        function: &Arc<Function>,
        body: Vec<Bytes>,
        mut call: Call,
    ) -> Result<Computed, InvokeError> {
        let len = body.iter().map(Bytes::len).sum();
        let mut message = Vec::with_capacity(64);
        let encoded = wire::encode_head(first_input(&function.pure), BODY, len, &mut message);
        encoded.map_err(|error| InvokeError::BadSets { reason: error.to_string() })?;
        (call.payload, call.rest) = (message.into(), body);
        self.computed(function, call, true).await
    }

    async fn computed(
        self: &Arc<Self>,
        function: &Arc<Function>,
        call: Call,
        is_lasting: bool,
    ) -> Result<Computed, InvokeError> {
        let outcome = self.compute_or_remember(function, call, is_lasting).await?;
        let (is_lent, tail) = (outcome.tail.is_some(), outcome.tail.map(|tail| Bytes::from_owner(tail.in_place())));
        let result = match outcome.failed {
            true => Err(outcome.body),
            false => {
                let message = Split { front: outcome.body, tail };
                Ok(outputs(&message).map_err(|reason| InvokeError::BadSets { reason })?)
            }
        };
        Ok(Computed { outcome: result, is_lent, log_tail: outcome.log_tail, report: outcome.report })
    }

    /// Runs one on an event, JSON: sets, or the one item.
    pub(super) async fn invoke_pure(
        self: &Arc<Self>,
        function: &Arc<Function>,
        mut call: Call,
    ) -> Result<Outcome, InvokeError> {
        let (len, limit) = (call.payload.len(), self.config.payload_max);
        if len > limit {
            return Err(InvokeError::PayloadTooLarge { len, limit });
        }
        let inputs = of_event(&function.pure, &call.payload)?;
        let mut message = Vec::new();
        let encoded = wire::encode(&inputs, &mut message);
        encoded.map_err(|error| InvokeError::BadSets { reason: error.to_string() })?;
        call.payload = message.into();
        let mut outcome = self.compute_or_remember(function, call, true).await?;
        if !outcome.failed {
            let outputs = outputs(&outcome.body).map_err(|reason| InvokeError::BadSets { reason })?;
            outcome.body = answer(&outputs);
        }
        Ok(outcome)
    }

    /// The common way: sets in their binary form, both ways.
    pub(super) async fn compute(
        self: &Arc<Self>,
        function: &Arc<Function>,
        call: Call,
    ) -> Result<Outcome, InvokeError> {
        let reception = Reception::whole(self.config.response_max);
        let cancel = Cancel::new();
        let run = invoke::run(self.clone(), function.clone(), call, reception, Some(cancel.clone()));
        KeepGoing::cancelling(self.runtime.clone(), run, cancel).await
    }
}

/// What a body that is no sets is to this function: one item of its first input set.
pub fn of_body(pure: &Pure, body: Bytes) -> Sets<Bytes> {
    vec![Set::new(first_input(pure), vec![Item::new(BODY, 0, body)])]
}

/// The input set that a body without sets goes to.
pub fn first_input(pure: &Pure) -> &str {
    pure.inputs.first().map_or(INPUT, String::as_str)
}

/// What an event is to this function.
pub fn of_event(pure: &Pure, event: &Bytes) -> Result<Sets<Bytes>, InvokeError> {
    if !sets::json::is_sets(event) {
        return Ok(of_body(pure, event.clone()));
    }
    sets::json::decode(event, Limits::default()).map_err(|error| InvokeError::BadSets { reason: error.to_string() })
}

/// Reads outputs; an engine, which a guest may have broken, has written them.
pub(super) fn outputs(message: &impl Source<Part = Bytes>) -> Result<Sets<Payload>, String> {
    wire::decode(message, Limits::default()).map_err(|error| format!("the engine's answer makes no sense: {error}"))
}

/// The only item of all sets.
pub fn single<D>(sets: &[Set<D>]) -> Option<&D> {
    let mut items = sets.iter().flat_map(|set| &set.items);
    let first = items.next()?;
    items.next().is_none().then_some(&first.data)
}

/// Outputs as an answer, JSON: a single item as itself where it is JSON, else its text, else all sets.
fn answer(outputs: &Sets<Payload>) -> Bytes {
    if let Some(Data::Inline(bytes)) = single(outputs) {
        if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
            return bytes.clone();
        }
        if let Ok(text) = std::str::from_utf8(bytes) {
            // A string cannot fail to be written.
            return serde_json::to_vec(text).unwrap_or_default().into();
        }
    }
    let shown: Vec<Set<&[u8]>> = outputs.iter().map(shown).collect();
    sets::json::encode(&shown).into()
}

fn shown(set: &Set<Payload>) -> Set<&[u8]> {
    fn data(data: &Payload) -> &[u8] {
        match data {
            Data::Inline(bytes) => bytes,
            Data::Held(_) => &[],
        }
    }
    let items = set.items.iter().map(|item| Item::new(item.name.clone(), item.key, data(&item.data)));
    Set { name: set.name.clone(), items: items.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &'static [u8]) -> Sets<Payload> {
        vec![Set::new("out", vec![Item::new("x", 0, Data::Inline(Bytes::from_static(bytes)))]), Set::new("e", vec![])]
    }

    #[test]
    fn an_event_is_sets_or_the_one_item() {
        let pure = Pure { inputs: vec!["Words".into(), "More".into()], ..Pure::default() };
        let body = of_event(&pure, &Bytes::from_static(b"[1, 2]")).unwrap();
        assert_eq!((body[0].name.as_str(), body[0].items[0].data.as_ref()), ("Words", &b"[1, 2]"[..]));
        assert_eq!(of_event(&Pure::default(), &Bytes::new()).unwrap()[0].name, "in");
        let sets = of_event(&pure, &Bytes::from_static(br#"{"sets": {"A": ["x", "y"]}}"#)).unwrap();
        assert_eq!((sets[0].name.as_str(), sets[0].items.len()), ("A", 2));
        let wrong = of_event(&pure, &Bytes::from_static(br#"{"sets": [1]}"#)).unwrap_err();
        assert!(matches!(wrong, InvokeError::BadSets { .. }), "{wrong}");
    }

    #[test]
    fn an_answer_is_the_single_item_or_all_sets() {
        assert_eq!(answer(&one(br#"{"a": 1}"#)), r#"{"a": 1}"#);
        assert_eq!(answer(&one(b"two words")), r#""two words""#);
        assert_eq!(answer(&one(&[0xff])), r#"{"sets":{"out":[{"name":"x","key":0,"data":"/w=="}],"e":[]}}"#);
        assert_eq!(answer(&Vec::new()), r#"{"sets":{}}"#);
    }
}
