//! Python objects with owners, and Python's errors as results.
//!
//! All of it is for threads that hold the interpreter lock: a function that Python calls does.

use crate::abi::{self, PyObject};
use std::ffi::{CString, c_char};
use std::ptr::NonNull;

/// A Python exception is set, or is to be set by [`answer`].
#[derive(Debug)]
pub enum Raised {
    /// By the interpreter, already.
    Already,
    /// A `RuntimeError` with this message.
    Because(String),
}

/// A reference of our own to an object.
pub struct Object(NonNull<PyObject>);

impl Object {
    /// Takes over a new reference, as the interpreter's functions return them.
    fn owned(object: *mut PyObject) -> Result<Self, Raised> {
        NonNull::new(object).map(Self).ok_or(Raised::Already)
    }

    pub fn none() -> Self {
        // SAFETY: None lives as long as the interpreter, and the lock is held.
        unsafe {
            let none = &raw mut abi::PY_NONE;
            abi::Py_IncRef(none);
            Self(NonNull::new_unchecked(none))
        }
    }

    pub fn bytes(bytes: &[u8]) -> Result<Self, Raised> {
        // SAFETY: the interpreter copies as many bytes as there are.
        Self::owned(unsafe { abi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize) })
    }

    /// Text from UTF-8 that need not be valid.
    pub fn text(bytes: &[u8]) -> Result<Self, Raised> {
        let (start, len) = (bytes.as_ptr().cast(), bytes.len() as isize);
        // SAFETY: the interpreter copies as many bytes as there are.
        Self::owned(unsafe { abi::PyUnicode_DecodeUTF8(start, len, c"surrogatepass".as_ptr()) })
    }

    pub fn number(value: u64) -> Result<Self, Raised> {
        // SAFETY: an integer goes in, an object comes out.
        Self::owned(unsafe { abi::PyLong_FromUnsignedLongLong(value) })
    }

    pub fn list(items: impl IntoIterator<Item = Result<Self, Raised>>) -> Result<Self, Raised> {
        // SAFETY: the lock is held.
        let list = Self::owned(unsafe { abi::PyList_New(0) })?;
        for item in items {
            // SAFETY: both are alive; the list takes a reference of its own.
            if unsafe { abi::PyList_Append(list.0.as_ptr(), item?.0.as_ptr()) } < 0 {
                return Err(Raised::Already);
            }
        }
        Ok(list)
    }

    pub fn tuple<const N: usize>(items: [Result<Self, Raised>; N]) -> Result<Self, Raised> {
        // SAFETY: the lock is held.
        let tuple = Self::owned(unsafe { abi::PyTuple_New(N as isize) })?;
        for (index, item) in items.into_iter().enumerate() {
            // SAFETY: the tuple is new, has room at this index, and takes the reference over.
            unsafe { abi::PyTuple_SetItem(tuple.0.as_ptr(), index as isize, item?.into_raw()) };
        }
        Ok(tuple)
    }

    fn into_raw(self) -> *mut PyObject {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the lock is held.
        unsafe { abi::Py_DecRef(self.0.as_ptr()) }
    }
}

/// An object that somebody else keeps alive while we look at it: an argument.
#[derive(Clone, Copy)]
pub struct Borrowed<'a>(&'a PyObject);

impl<'a> Borrowed<'a> {
    /// # Safety
    /// The object must stay alive for `'a`, and the interpreter lock be held.
    pub unsafe fn new(object: *mut PyObject) -> Result<Self, Raised> {
        // SAFETY: by the contract, where it is not null.
        unsafe { object.as_ref() }.map(Self).ok_or(Raised::Already)
    }

    fn raw(self) -> *mut PyObject {
        std::ptr::from_ref(self.0).cast_mut()
    }

    /// The UTF-8 of a `str`, or the bytes of a `bytes`.
    pub fn contents(self) -> Result<&'a [u8], Raised> {
        // SAFETY: the object is alive, and so is its type.
        let flags = unsafe { abi::PyType_GetFlags(self.0.kind) };
        let mut len = 0;
        let start: *const c_char = if flags & abi::TPFLAGS_TEXT != 0 {
            // SAFETY: a str; the answer lives as long as it does.
            unsafe { abi::PyUnicode_AsUTF8AndSize(self.raw(), &mut len) }
        } else if flags & abi::TPFLAGS_BYTES != 0 {
            let mut start = std::ptr::null_mut();
            // SAFETY: a bytes object; the answer lives as long as it does.
            unsafe { abi::PyBytes_AsStringAndSize(self.raw(), &mut start, &mut len) };
            start
        } else {
            // SAFETY: a terminated message.
            unsafe { abi::PyErr_SetString(abi::PyExc_TypeError, c"str or bytes expected".as_ptr()) };
            std::ptr::null()
        };
        if start.is_null() {
            return Err(Raised::Already);
        }
        // SAFETY: the interpreter said where, and how many.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), len as usize) })
    }

    /// A small integer.
    pub fn number(self) -> Result<i64, Raised> {
        // SAFETY: the object is alive; other kinds raise.
        match unsafe { abi::PyLong_AsLong(self.raw()) } {
            -1 => Err(Raised::Already),
            number => Ok(number),
        }
    }

    /// The items of a list that nobody changes meanwhile.
    pub fn items(self) -> Result<Vec<Borrowed<'a>>, Raised> {
        // SAFETY: the object is alive; other kinds raise.
        let len = unsafe { abi::PyList_Size(self.raw()) };
        if len < 0 {
            return Err(Raised::Already);
        }
        // SAFETY: the list keeps its items alive; out of range raises.
        (0..len).map(|index| unsafe { Borrowed::new(abi::PyList_GetItem(self.raw(), index)) }).collect()
    }
}

/// What a function returns to Python: the object, or null with an exception set.
pub fn answer(outcome: Result<Object, Raised>) -> *mut PyObject {
    match outcome {
        Ok(object) => object.into_raw(),
        Err(Raised::Already) => std::ptr::null_mut(),
        Err(Raised::Because(message)) => {
            let message = CString::new(message).unwrap_or_default();
            // SAFETY: a terminated message, and the lock is held.
            unsafe { abi::PyErr_SetString(abi::PyExc_RuntimeError, message.as_ptr()) };
            std::ptr::null_mut()
        }
    }
}

/// An error of ours, as Python sees it.
pub fn because(what: &str) -> impl FnOnce(&dyn std::error::Error) -> Raised {
    move |error| Raised::Because(format!("{what}: {error}"))
}

/// Runs `work` while other threads may run Python.
pub fn without_lock<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: this thread holds the lock, as it was called from Python; `work` gets nothing of the interpreter.
    let state = unsafe { abi::PyEval_SaveThread() };
    let answer = work();
    // SAFETY: the state that was saved above, by the same thread.
    unsafe { abi::PyEval_RestoreThread(state) };
    answer
}

/// Runs Python's handlers of signals that have arrived.
pub fn handle_signals() -> Result<(), Raised> {
    // SAFETY: the lock is held.
    if unsafe { abi::PyErr_CheckSignals() } < 0 { Err(Raised::Already) } else { Ok(()) }
}
