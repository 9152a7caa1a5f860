//! Functions of a template: from its configuration to its fork point, and into its children.

use crate::abi::{self, PyObject};
use crate::object::{Borrowed, Object, Raised, answer, because};
use crate::{Role, role, wrong_role};
use cfork::forkpoint::{self, ForkPoint, ServeError};

/// `configure() -> bytes`
pub unsafe extern "C" fn configure(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    answer(role().and_then(|mut role| {
        // SAFETY: the worker starts a template with its control socket there; the second time fails on the closed one.
        let (point, config) = unsafe { ForkPoint::open() }.map_err(|e| because("no worker at descriptor 3")(&e))?;
        *role = Role::Template(point);
        Object::bytes(&config)
    }))
}

/// `rehearse() -> int`
pub unsafe extern "C" fn rehearse(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // The hooks of Python's own are of no use to a child that ends at once.
    let outcome = forkpoint::rehearse().map_err(|e| because("the rehearsal of a fork failed")(&e));
    answer(outcome.and_then(|()| Object::number(forkpoint::threads().into())))
}

/// `obstacles() -> list[str]`
pub unsafe extern "C" fn obstacles(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    answer(role().and_then(|mut role| {
        let Role::Template(point) = &mut *role else { return Err(wrong_role()) };
        let stock = point.take_stock(&[]).map_err(|e| because("the open descriptors cannot be listed")(&e))?;
        let shared = cfork::memory::shared().map_err(|e| because("the mappings cannot be listed")(&e))?;
        let memory = shared.iter().map(|area| format!("memory shared with other processes ({})", area.name));
        let obstacles: Vec<String> = stock.foreign.iter().map(|(_, what)| what.clone()).chain(memory).collect();
        Object::list(obstacles.iter().map(|text| Object::text(text.as_bytes())))
    }))
}

/// `collapse()`
pub unsafe extern "C" fn collapse(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    answer(cfork::memory::collapse().map(|()| Object::none()).map_err(|e| because("the heap stays as it is")(&e)))
}

/// `serve(report) -> bytes`
pub unsafe extern "C" fn serve(_module: *mut PyObject, report: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    answer(unsafe { Borrowed::new(report) }.and_then(|report| {
        let mut role = role()?;
        let Role::Template(point) = std::mem::replace(&mut *role, Role::Nothing) else { return Err(wrong_role()) };
        point.ready(report.contents()?).map_err(|e| because("the worker cannot be told")(&e))?;
        // SAFETY: the template has counted its threads: others than this one would have made it report itself as not
        // forkable, and the worker does not fork from such.
        let before = || unsafe { abi::PyOS_BeforeFork() };
        // SAFETY: the lock is held, and the fork that it closes was opened by `before`.
        let after = || unsafe { abi::PyOS_AfterFork_Parent() };
        // SAFETY: as above.
        match unsafe { point.serve(before, after) } {
            Ok(child) => {
                // SAFETY: this is the child, in the thread that forked.
                unsafe { abi::PyOS_AfterFork_Child() };
                *role = Role::Instance(child.instance);
                Object::bytes(&child.config)
            }
            Err(ServeError::Gone) => os::process::exit_now(0),
            Err(error) => Err(Raised::Because(error.to_string())),
        }
    }))
}
