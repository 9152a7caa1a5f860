//! What is used of Python's stable ABI, as of 3.11: the few dozen symbols of it, declared by hand, so that building
//! needs no Python and the library works with every later version.
//!
//! Nothing is made safe here: `object` is where ownership and errors become types.

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void};

/// The head that every object has, in builds with a global interpreter lock.
#[repr(C)]
pub struct PyObject {
    pub refcount: isize,
    pub kind: *mut PyObject,
}

pub type Function = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;

#[repr(C)]
pub struct PyMethodDef {
    pub name: *const c_char,
    pub function: Option<Function>,
    pub flags: c_int,
    pub doc: *const c_char,
}

#[repr(C)]
pub struct PyModuleDef {
    pub head: PyObject,
    pub init: *mut c_void,
    pub index: isize,
    pub copy: *mut PyObject,
    pub name: *const c_char,
    pub doc: *const c_char,
    pub size: isize,
    pub methods: *mut PyMethodDef,
    pub slots: *mut c_void,
    pub traverse: *mut c_void,
    pub clear: *mut c_void,
    pub free: *mut c_void,
}

/// The function takes its arguments as a tuple.
pub const METH_VARARGS: c_int = 1;
/// The function takes no argument.
pub const METH_NOARGS: c_int = 4;
/// The function takes one argument.
pub const METH_O: c_int = 8;
/// The version of the stable ABI.
pub const PYTHON_ABI_VERSION: c_int = 3;

/// Bits of a type's flags: its instances are `bytes`, or `str`.
pub const TPFLAGS_BYTES: c_ulong = 1 << 27;
pub const TPFLAGS_TEXT: c_ulong = 1 << 28;

unsafe extern "C" {
    #[link_name = "_Py_NoneStruct"]
    pub static mut PY_NONE: PyObject;
    pub static PyExc_Exception: *mut PyObject;
    pub static PyExc_RuntimeError: *mut PyObject;
    pub static PyExc_TypeError: *mut PyObject;

    pub fn Py_IncRef(object: *mut PyObject);
    pub fn Py_DecRef(object: *mut PyObject);
    pub fn PyModule_Create2(module: *mut PyModuleDef, version: c_int) -> *mut PyObject;
    pub fn PyModule_NewObject(name: *mut PyObject) -> *mut PyObject;
    pub fn PyModule_GetDict(module: *mut PyObject) -> *mut PyObject;
    pub fn PyImport_GetModuleDict() -> *mut PyObject;
    pub fn PyEval_GetBuiltins() -> *mut PyObject;
    pub fn PyEval_EvalCode(code: *mut PyObject, globals: *mut PyObject, locals: *mut PyObject) -> *mut PyObject;
    pub fn PySys_GetObject(name: *const c_char) -> *mut PyObject;
    pub fn PyType_GetFlags(kind: *mut PyObject) -> c_ulong;

    pub fn PyErr_SetString(kind: *mut PyObject, message: *const c_char);
    pub fn PyErr_SetObject(kind: *mut PyObject, value: *mut PyObject);
    pub fn PyErr_ExceptionMatches(kind: *mut PyObject) -> c_int;
    pub fn PyErr_Clear();
    pub fn PyErr_CheckSignals() -> c_int;
    pub fn PyErr_Fetch(kind: *mut *mut PyObject, value: *mut *mut PyObject, traceback: *mut *mut PyObject);
    pub fn PyErr_NormalizeException(kind: *mut *mut PyObject, value: *mut *mut PyObject, traceback: *mut *mut PyObject);
    pub fn PyException_SetTraceback(value: *mut PyObject, traceback: *mut PyObject) -> c_int;

    pub fn PyObject_CallObject(callable: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject;
    pub fn PyObject_GetAttr(object: *mut PyObject, name: *mut PyObject) -> *mut PyObject;
    pub fn PyObject_SetAttr(object: *mut PyObject, name: *mut PyObject, value: *mut PyObject) -> c_int;
    pub fn PySequence_Contains(sequence: *mut PyObject, item: *mut PyObject) -> c_int;

    pub fn PyBytes_FromStringAndSize(bytes: *const c_char, len: isize) -> *mut PyObject;
    pub fn PyBytes_AsStringAndSize(object: *mut PyObject, bytes: *mut *mut c_char, len: *mut isize) -> c_int;
    pub fn PyUnicode_DecodeUTF8(bytes: *const c_char, len: isize, errors: *const c_char) -> *mut PyObject;
    pub fn PyUnicode_AsUTF8AndSize(object: *mut PyObject, len: *mut isize) -> *const c_char;
    pub fn PyUnicode_InternFromString(text: *const c_char) -> *mut PyObject;
    pub fn PyUnicode_Join(separator: *mut PyObject, parts: *mut PyObject) -> *mut PyObject;
    pub fn PyUnicode_GetLength(text: *mut PyObject) -> isize;
    pub fn PyLong_FromUnsignedLongLong(value: u64) -> *mut PyObject;
    pub fn PyLong_AsLong(object: *mut PyObject) -> c_long;
    pub fn PyList_New(len: isize) -> *mut PyObject;
    pub fn PyList_Append(list: *mut PyObject, item: *mut PyObject) -> c_int;
    pub fn PyTuple_New(len: isize) -> *mut PyObject;
    pub fn PyTuple_SetItem(tuple: *mut PyObject, index: isize, item: *mut PyObject) -> c_int;
    pub fn PyTuple_GetItem(tuple: *mut PyObject, index: isize) -> *mut PyObject;
    pub fn PyTuple_Size(tuple: *mut PyObject) -> isize;
    pub fn PyDict_New() -> *mut PyObject;
    pub fn PyDict_Clear(dict: *mut PyObject);
    pub fn PyDict_GetItemString(dict: *mut PyObject, key: *const c_char) -> *mut PyObject;
    pub fn PyDict_GetItemWithError(dict: *mut PyObject, key: *mut PyObject) -> *mut PyObject;
    pub fn PyDict_SetItem(dict: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int;
    pub fn PyDict_DelItem(dict: *mut PyObject, key: *mut PyObject) -> c_int;

    pub fn PyObject_Malloc(bytes: usize) -> *mut c_void;
    pub fn PyObject_Free(block: *mut c_void);
    pub fn PyEval_SaveThread() -> *mut c_void;
    pub fn PyEval_RestoreThread(state: *mut c_void);
    pub fn PyOS_BeforeFork();
    pub fn PyOS_AfterFork_Child();
}
