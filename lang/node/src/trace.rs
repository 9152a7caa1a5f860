//! Which trace an invocation belongs to, as X-Ray's libraries look for it: a variable of the environment. `process.env` reads it from
//! there; to be set by JavaScript takes it longer than all else that comes before a handler.

use os::variable::Variable;
use std::cell::{Cell, OnceCell};

thread_local! {
    static VARIABLE: OnceCell<Variable> = const { OnceCell::new() };
    /// An invocation before has had one.
    static TOLD: Cell<bool> = const { Cell::new(false) };
}

/// The environment has this one from now on; none, if it is empty.
pub fn tell(id: &str) {
    if id.is_empty() && !TOLD.replace(false) {
        return;
    }
    VARIABLE.with(|variable| {
        let variable = variable.get_or_init(|| Variable::new(c"_X_AMZN_TRACE_ID"));
        // SAFETY: this is the thread that JavaScript sets variables on, and it does not now. What else a function has running
        // it has at its own risk, as on AWS.
        unsafe { if id.is_empty() { variable.remove() } else { variable.set(id.as_bytes()) } }
    });
    TOLD.set(!id.is_empty());
}
