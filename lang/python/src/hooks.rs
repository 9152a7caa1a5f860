//! Fork hooks, as the interpreter calls them: quick where the template forks and no library wants to hear of it.
//!
//! Which hooks there are and which of them a fork needs is for `lichen_forks.py` to know.

use crate::abi::PyObject;
use crate::object::{Object, Raised, answer};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

struct Hooks {
    before: Object,
    in_child: Object,
    in_parent: Object,
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();
/// The template forks, rather than the function.
static OURS: AtomicBool = AtomicBool::new(false);
/// Some library wants to hear of the template's forks.
static ASKED: AtomicBool = AtomicBool::new(false);
/// The function has forked, and this is its child.
static DESCENDANT: AtomicBool = AtomicBool::new(false);

/// Forks from now on are the template's own; `asked` tells whether some library wants to hear of them.
pub fn template_forks(asked: bool) {
    OURS.store(true, Relaxed);
    ASKED.store(asked, Relaxed);
}

/// Forks from now on are the function's.
pub fn function_forks() {
    OURS.store(false, Relaxed);
    DESCENDANT.store(false, Relaxed);
}

/// Whether this process must not answer in the instance's name.
pub fn is_descendant() -> bool {
    DESCENDANT.load(Relaxed)
}

/// `hook((before, in_child, in_parent))`: each is called with whether the fork is the template's.
pub unsafe extern "C" fn hook(_module: *mut PyObject, hooks: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    let hooks = unsafe { Object::borrowed(hooks) }.ok_or(Raised::Already);
    answer(hooks.and_then(|hooks| {
        let hooks = Hooks { before: hooks.item(0)?, in_child: hooks.item(1)?, in_parent: hooks.item(2)? };
        HOOKS.set(hooks).map_err(|_| Raised::Because("the hooks are set already".into()))?;
        Ok(Object::none())
    }))
}

fn run(which: fn(&Hooks) -> &Object) -> *mut PyObject {
    let ours = OURS.load(Relaxed);
    match HOOKS.get().filter(|_| !ours || ASKED.load(Relaxed)) {
        Some(hooks) => answer(Object::number(ours.into()).and_then(|ours| which(hooks).call([&ours]))),
        None => answer(Ok(Object::none())),
    }
}

/// `before_fork()`
pub unsafe extern "C" fn before(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    run(|hooks| &hooks.before)
}

/// `after_fork_in_child()`
pub unsafe extern "C" fn in_child(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    DESCENDANT.store(true, Relaxed);
    run(|hooks| &hooks.in_child)
}

/// `after_fork_in_parent()`
pub unsafe extern "C" fn in_parent(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    run(|hooks| &hooks.in_parent)
}
