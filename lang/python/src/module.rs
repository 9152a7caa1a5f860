//! The module `_lichen`: a table of functions, and the one symbol that the interpreter looks for.

use crate::abi::{self, Function, METH_NOARGS, METH_O, METH_VARARGS, PyMethodDef, PyModuleDef, PyObject};
use crate::object::{Object, Raised, answer};
use crate::{hooks, template};
use std::cell::UnsafeCell;
use std::ffi::CStr;

/// The argument of a function, or the tuple of all of them.
///
/// # Safety
/// `object` must be what the interpreter has called the function with.
unsafe fn argument(object: *mut PyObject) -> Result<Object, Raised> {
    // SAFETY: the caller keeps its arguments alive.
    unsafe { Object::borrowed(object) }.ok_or(Raised::Already)
}

macro_rules! function {
    ($name:ident()) => {
        unsafe extern "C" fn $name(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
            answer(template::$name())
        }
    };
    ($name:ident($one:ident)) => {
        unsafe extern "C" fn $name(_module: *mut PyObject, $one: *mut PyObject) -> *mut PyObject {
            // SAFETY: called by the interpreter.
            answer(unsafe { argument($one) }.and_then(|one| template::$name(&one)))
        }
    };
    ($name:ident($one:ident, $two:ident)) => {
        unsafe extern "C" fn $name(_module: *mut PyObject, all: *mut PyObject) -> *mut PyObject {
            // SAFETY: called by the interpreter.
            answer(unsafe { argument(all) }.and_then(|all| template::$name(&all.item(0)?, &all.item(1)?)))
        }
    };
}

function!(configure());
function!(prepare(things));
function!(settle(config));
function!(rehearse_request());
function!(rehearse_import(folder, name));
function!(rehearse_fork());
function!(obstacles());
function!(fill_holes());
function!(serve(arguments));
function!(fifo(arguments));

const fn method(name: &'static CStr, function: Function, flags: i32, doc: &'static CStr) -> PyMethodDef {
    PyMethodDef { name: name.as_ptr(), function: Some(function), flags, doc: doc.as_ptr() }
}

/// Tables that the interpreter keeps pointers to and writes to.
struct Tables {
    methods: UnsafeCell<[PyMethodDef; 15]>,
    module: UnsafeCell<PyModuleDef>,
}

// SAFETY: only the interpreter touches the tables, under its lock.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    methods: UnsafeCell::new([
        method(c"configure", configure, METH_NOARGS, c"Opens the fork point: the template's configuration."),
        method(c"prepare", prepare, METH_O, c"Takes what children will need, as a dict."),
        method(c"settle", settle, METH_O, c"Makes this process the place of a function."),
        method(c"rehearse_request", rehearse_request, METH_NOARGS, c"Answers an event as a child would."),
        method(c"rehearse_import", rehearse_import, METH_VARARGS, c"Imports a file as a child would."),
        method(c"rehearse_fork", rehearse_fork, METH_NOARGS, c"Forks once, for the fork handlers: the threads left."),
        method(c"obstacles", obstacles, METH_NOARGS, c"What parent and child could not share, as a list."),
        method(c"fill_holes", fill_holes, METH_NOARGS, c"Makes what children allocate lie close together."),
        method(c"serve", serve, METH_VARARGS, c"Reports, and forks. A child raises what ends it."),
        method(c"fifo", fifo, METH_VARARGS, c"What `lichen.fifo` is made of: an operation and its arguments."),
        method(c"hook", hooks::hook, METH_O, c"What fork hooks call: before, in the child, in the parent."),
        method(c"before_fork", hooks::before, METH_NOARGS, c"A fork hook."),
        method(c"after_fork_in_child", hooks::in_child, METH_NOARGS, c"A fork hook."),
        method(c"after_fork_in_parent", hooks::in_parent, METH_NOARGS, c"A fork hook."),
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
