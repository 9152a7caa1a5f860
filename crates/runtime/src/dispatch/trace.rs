//! The stops of the main path, as events of `tracing`: one each, with the fields `pu function instance request`.
//!
//! They are emitted when an invocation is over, each with the time at which the stop was passed, and cost nothing while
//! nobody asks for them.

use super::call::Spans;
use crate::function::Function;
use tracing::{Level, enabled, event};

/// Who asks for the stops asks for this target.
const TARGET: &str = "lichen::path";
/// There is one processing unit so far.
const PU: &str = "cpu";

pub(super) fn stops(spans: &Spans, function: &Function, instance: u64, request: &str) {
    if !enabled!(target: TARGET, Level::DEBUG) {
        return;
    }
    let stops = [
        ("accepted", spans.accepted),
        ("decided", spans.decided),
        ("forked", spans.forked),
        ("entered", spans.entered),
        ("loaded", spans.loaded),
        ("begun", spans.begun),
        ("ended", spans.ended),
        ("received", spans.received),
    ];
    for (stop, at_ns) in stops.into_iter().filter(|(_, at_ns)| *at_ns > 0) {
        event!(target: TARGET, Level::DEBUG, pu = PU, function = function.key.name, instance, request, stop, at_ns);
    }
}
