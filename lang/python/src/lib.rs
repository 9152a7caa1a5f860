//! `_lichen`: the part of the Python runtime that Python cannot do itself.
//!
//! | module | what it is |
//! |---|---|
//! | [`abi`] | Python's stable ABI, as far as it is used |
//! | [`object`] | its objects and errors as Rust types |
//! | [`template`] | functions of a template: up to the fork point, and out of it |
//! | [`instance`] | functions of an instance: take an invocation, answer it |
//!
//! What an event, a handler or an environment is, is for the Python files in `runtime/` to know.

mod abi;
mod instance;
mod object;
mod template;

use abi::{Function, METH_NOARGS, METH_O, PyMethodDef, PyModuleDef, PyObject};
use object::Raised;
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard};

/// What this process is.
pub(crate) enum Role {
    Nothing,
    Template(cfork::ForkPoint),
    Instance(cfork::Instance),
}

static ROLE: Mutex<Role> = Mutex::new(Role::Nothing);

/// The role, which only one thread at a time may play.
pub(crate) fn role() -> Result<MutexGuard<'static, Role>, Raised> {
    ROLE.try_lock().map_err(|_| Raised::Because("another thread of this process is waiting for invocations".into()))
}

pub(crate) fn wrong_role() -> Raised {
    Raised::Because("this process is not at the right stage for that".into())
}

const fn method(name: &'static CStr, function: Function, flags: i32, doc: &'static CStr) -> PyMethodDef {
    PyMethodDef { name: name.as_ptr(), function: Some(function), flags, doc: doc.as_ptr() }
}

/// Tables that the interpreter keeps pointers to and writes to.
struct Tables {
    methods: UnsafeCell<[PyMethodDef; 13]>,
    module: UnsafeCell<PyModuleDef>,
}

// SAFETY: only the interpreter touches the tables, under its lock.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    methods: UnsafeCell::new([
        method(c"configure", template::configure, METH_NOARGS, c"Opens the fork point: the template's configuration."),
        method(c"rehearse", template::rehearse, METH_NOARGS, c"Forks once, for the fork handlers: the threads left."),
        method(c"obstacles", template::obstacles, METH_NOARGS, c"What parent and child could not share, as a list."),
        method(c"collapse", template::collapse, METH_NOARGS, c"Backs the heap by huge pages."),
        method(c"serve", template::serve, METH_O, c"Reports, then forks; returns the configuration in each child."),
        method(c"environment", instance::environment, METH_O, c"Replaces the C library's environment by NAME=VALUE."),
        method(c"ready", instance::ready, METH_NOARGS, c"Tells that the function is loaded."),
        method(c"init_failed", instance::init_failed, METH_O, c"Tells that it could not be loaded."),
        method(c"take", instance::take, METH_O, c"The next invocation, after spinning for so many nanoseconds."),
        method(c"begin", instance::begin, METH_NOARGS, c"Notes that the handler's first line comes next."),
        method(c"reply", instance::reply, METH_O, c"Answers; the limit where the answer is too long, else nothing."),
        method(c"fail", instance::fail, METH_O, c"Answers with an error object, as reply does."),
        PyMethodDef { name: std::ptr::null(), function: None, flags: 0, doc: std::ptr::null() },
    ]),
    module: UnsafeCell::new(PyModuleDef {
        head: PyObject { refcount: 1, kind: std::ptr::null_mut() },
        init: std::ptr::null_mut(),
        index: 0,
        copy: std::ptr::null_mut(),
        name: c"_lichen".as_ptr(),
        doc: c"The fork point and the channel of Lichen's Python runtime.".as_ptr(),
        size: -1,
        methods: std::ptr::null_mut(),
        slots: std::ptr::null_mut(),
        traverse: std::ptr::null_mut(),
        clear: std::ptr::null_mut(),
        free: std::ptr::null_mut(),
    }),
};

/// Called by the interpreter when it imports `_lichen`.
#[unsafe(no_mangle)]
pub extern "C" fn PyInit__lichen() -> *mut PyObject {
    // SAFETY: the interpreter's lock is held, so nobody else writes; both tables are static.
    unsafe {
        (*TABLES.module.get()).methods = TABLES.methods.get().cast();
        abi::PyModule_Create2(TABLES.module.get(), abi::PYTHON_ABI_VERSION)
    }
}
