//! Python objects with owners, and Python's errors as results.
//!
//! All of it is for threads that hold the interpreter lock: a function that Python calls does.

use crate::abi::{self, PyObject};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null_mut};

/// A Python exception is set, or is to be set by [`Raised::set`].
#[derive(Debug)]
pub enum Raised {
    /// By the interpreter, already.
    Already,
    /// A `RuntimeError` with this message.
    Because(String),
}

impl Raised {
    /// Makes sure that the interpreter knows of it.
    fn set(self) {
        if let Self::Because(message) = self {
            let message = CString::new(message).unwrap_or_default();
            // SAFETY: a terminated message, and the lock is held.
            unsafe { abi::PyErr_SetString(abi::PyExc_RuntimeError, message.as_ptr()) };
        }
    }

    /// Takes the exception from the interpreter. One that is no `Exception` (an exit, an interrupt) stays raised.
    pub fn catch(self) -> Result<Object, Self> {
        self.set();
        // SAFETY: the lock is held, and an exception is set.
        if unsafe { abi::PyErr_ExceptionMatches(abi::PyExc_Exception) } == 0 {
            return Err(Self::Already);
        }
        let (mut kind, mut value, mut traceback) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the interpreter hands over three references, the last perhaps null.
        unsafe {
            abi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
            abi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
            if !traceback.is_null() {
                abi::PyException_SetTraceback(value, traceback);
                abi::Py_DecRef(traceback);
            }
            abi::Py_DecRef(kind);
        }
        Object::owned(value)
    }

    /// Forgets the exception, unless it is no `Exception`.
    pub fn forget(self) -> Result<(), Self> {
        self.set();
        // SAFETY: the lock is held, and an exception is set.
        if unsafe { abi::PyErr_ExceptionMatches(abi::PyExc_Exception) } == 0 {
            return Err(Self::Already);
        }
        // SAFETY: as above.
        unsafe { abi::PyErr_Clear() };
        Ok(())
    }
}

/// A reference of our own to an object.
pub struct Object(NonNull<PyObject>);

// SAFETY: an object is touched only under the interpreter lock, by whatever thread holds it.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    /// Takes over a new reference, as most of the interpreter's functions return them.
    fn owned(object: *mut PyObject) -> Result<Self, Raised> {
        NonNull::new(object).map(Self).ok_or(Raised::Already)
    }

    /// A reference of our own beside somebody else's; nothing for null.
    ///
    /// # Safety
    /// `object` must be alive, or null.
    pub unsafe fn borrowed(object: *mut PyObject) -> Option<Self> {
        let object = NonNull::new(object)?;
        // SAFETY: by the contract, and the lock is held.
        unsafe { abi::Py_IncRef(object.as_ptr()) };
        Some(Self(object))
    }

    fn raw(&self) -> *mut PyObject {
        self.0.as_ptr()
    }

    fn into_raw(self) -> *mut PyObject {
        std::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    pub fn none() -> Self {
        let none = &raw mut abi::PY_NONE;
        // SAFETY: None lives as long as the interpreter, and the lock is held.
        unsafe {
            abi::Py_IncRef(none);
            Self(NonNull::new_unchecked(none))
        }
    }

    pub fn is_none(&self) -> bool {
        self.raw() == &raw mut abi::PY_NONE
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

    /// Text that is the same object wherever it is a name.
    pub fn name(name: &CStr) -> Result<Self, Raised> {
        // SAFETY: a terminated text.
        Self::owned(unsafe { abi::PyUnicode_InternFromString(name.as_ptr()) })
    }

    pub fn number(value: u64) -> Result<Self, Raised> {
        // SAFETY: an integer goes in, an object comes out.
        Self::owned(unsafe { abi::PyLong_FromUnsignedLongLong(value) })
    }

    pub fn dict() -> Result<Self, Raised> {
        // SAFETY: the lock is held.
        Self::owned(unsafe { abi::PyDict_New() })
    }

    pub fn list(items: impl IntoIterator<Item = Result<Self, Raised>>) -> Result<Self, Raised> {
        // SAFETY: the lock is held.
        let list = Self::owned(unsafe { abi::PyList_New(0) })?;
        for item in items {
            // SAFETY: both are alive; the list takes a reference of its own.
            if unsafe { abi::PyList_Append(list.raw(), item?.raw()) } < 0 {
                return Err(Raised::Already);
            }
        }
        Ok(list)
    }

    pub fn tuple<const N: usize>(items: [&Self; N]) -> Result<Self, Raised> {
        // SAFETY: the lock is held.
        let tuple = Self::owned(unsafe { abi::PyTuple_New(N as isize) })?;
        for (index, item) in items.into_iter().enumerate() {
            // SAFETY: the tuple is new, has room at this index, and takes the reference over.
            unsafe { abi::PyTuple_SetItem(tuple.raw(), index as isize, item.clone().into_raw()) };
        }
        Ok(tuple)
    }

    /// Calls it.
    pub fn call<const N: usize>(&self, arguments: [&Self; N]) -> Result<Self, Raised> {
        let arguments = Self::tuple(arguments)?;
        // SAFETY: both are alive; what cannot be called raises.
        Self::owned(unsafe { abi::PyObject_CallObject(self.raw(), arguments.raw()) })
    }

    pub fn attribute(&self, name: &Self) -> Result<Self, Raised> {
        // SAFETY: both are alive.
        Self::owned(unsafe { abi::PyObject_GetAttr(self.raw(), name.raw()) })
    }

    pub fn set_attribute(&self, name: &CStr, value: &Self) -> Result<(), Raised> {
        let name = Self::name(name)?;
        // SAFETY: all are alive; the object takes a reference of its own.
        done(unsafe { abi::PyObject_SetAttr(self.raw(), name.raw(), value.raw()) })
    }

    pub fn contains(&self, item: &Self) -> Result<bool, Raised> {
        // SAFETY: both are alive; what is no sequence raises.
        match unsafe { abi::PySequence_Contains(self.raw(), item.raw()) } {
            -1 => Err(Raised::Already),
            found => Ok(found == 1),
        }
    }

    /// The item of a tuple.
    pub fn item(&self, index: isize) -> Result<Self, Raised> {
        // SAFETY: the tuple keeps its items alive; other kinds, or no such index, raise.
        unsafe { Self::borrowed(abi::PyTuple_GetItem(self.raw(), index)) }.ok_or(Raised::Already)
    }

    /// All items of a tuple.
    pub fn items(&self) -> Result<Vec<Self>, Raised> {
        // SAFETY: alive; other kinds raise.
        let len = unsafe { abi::PyTuple_Size(self.raw()) };
        if len < 0 { Err(Raised::Already) } else { (0..len).map(|index| self.item(index)).collect() }
    }

    /// The value at a key of a dict, which must be there.
    pub fn value(&self, key: &CStr) -> Result<Self, Raised> {
        // SAFETY: the dict keeps its values alive.
        let value = unsafe { Self::borrowed(abi::PyDict_GetItemString(self.raw(), key.as_ptr())) };
        value.ok_or_else(|| Raised::Because(format!("{} is missing", key.to_string_lossy())))
    }

    /// The value at a key of a dict.
    pub fn get(&self, key: &Self) -> Option<Self> {
        // SAFETY: the dict keeps its values alive.
        unsafe { Self::borrowed(abi::PyDict_GetItemWithError(self.raw(), key.raw())) }
    }

    pub fn insert(&self, key: &Self, value: &Self) -> Result<(), Raised> {
        // SAFETY: all are alive; the dict takes references of its own.
        done(unsafe { abi::PyDict_SetItem(self.raw(), key.raw(), value.raw()) })
    }

    pub fn remove(&self, key: &Self) -> Result<(), Raised> {
        // SAFETY: both are alive.
        done(unsafe { abi::PyDict_DelItem(self.raw(), key.raw()) })
    }

    /// Empties a dict.
    pub fn clear(&self) {
        // SAFETY: alive; other kinds are left alone.
        unsafe { abi::PyDict_Clear(self.raw()) }
    }

    /// The parts, one after the other, with this text between them.
    pub fn join(&self, parts: &Self) -> Result<Self, Raised> {
        // SAFETY: both are alive.
        Self::owned(unsafe { abi::PyUnicode_Join(self.raw(), parts.raw()) })
    }

    /// Characters of a text.
    pub fn chars(&self) -> usize {
        // SAFETY: alive; other kinds answer -1.
        usize::try_from(unsafe { abi::PyUnicode_GetLength(self.raw()) }).unwrap_or(0)
    }

    pub fn is_bytes(&self) -> bool {
        self.type_flags() & abi::TPFLAGS_BYTES != 0
    }

    fn type_flags(&self) -> u64 {
        // SAFETY: the object is alive, and so is its type.
        unsafe { abi::PyType_GetFlags(self.0.as_ref().kind) }
    }

    /// The UTF-8 of a `str`, or the bytes of a `bytes`.
    pub fn contents(&self) -> Result<&[u8], Raised> {
        let mut len = 0;
        let start: *const c_char = if self.type_flags() & abi::TPFLAGS_TEXT != 0 {
            // SAFETY: a str; the answer lives as long as it does.
            unsafe { abi::PyUnicode_AsUTF8AndSize(self.raw(), &mut len) }
        } else if self.is_bytes() {
            let mut start = null_mut();
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

    /// As [`Object::contents`], as text of our own.
    pub fn string(&self) -> Result<String, Raised> {
        Ok(String::from_utf8_lossy(self.contents()?).into_owned())
    }

    /// A small number that is not negative.
    pub fn as_number(&self) -> Result<u64, Raised> {
        // SAFETY: alive; other kinds raise.
        u64::try_from(unsafe { abi::PyLong_AsLong(self.raw()) }).map_err(|_| Raised::Already)
    }

    /// Raises this exception, with the traceback it has.
    pub fn raise(self) -> Raised {
        // SAFETY: the object and its type are alive; the interpreter keeps references of its own.
        unsafe { abi::PyErr_SetObject(self.0.as_ref().kind, self.raw()) };
        Raised::Already
    }

    /// Runs code as a module does: with one dict for all its names.
    pub fn run_in(&self, names: &Self) -> Result<Self, Raised> {
        // SAFETY: both are alive.
        Self::owned(unsafe { abi::PyEval_EvalCode(self.raw(), names.raw(), names.raw()) })
    }
}

impl Clone for Object {
    fn clone(&self) -> Self {
        // SAFETY: alive, as this reference is; and the lock is held.
        unsafe { abi::Py_IncRef(self.raw()) };
        Self(self.0)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the lock is held.
        unsafe { abi::Py_DecRef(self.raw()) }
    }
}

fn done(result: i32) -> Result<(), Raised> {
    if result < 0 { Err(Raised::Already) } else { Ok(()) }
}

/// `sys.NAME`.
pub fn sys(name: &CStr) -> Option<Object> {
    // SAFETY: a terminated name; `sys` keeps what it has alive.
    unsafe { Object::borrowed(abi::PySys_GetObject(name.as_ptr())) }
}

/// `sys.modules`.
pub fn modules() -> Result<Object, Raised> {
    // SAFETY: the lock is held.
    unsafe { Object::borrowed(abi::PyImport_GetModuleDict()) }.ok_or(Raised::Already)
}

/// A new module, and the dict of its names, which are what a module begins with.
pub fn module(name: &Object) -> Result<(Object, Object), Raised> {
    // SAFETY: a live name; a module keeps its dict alive.
    unsafe {
        let module = Object::owned(abi::PyModule_NewObject(name.raw()))?;
        let names = Object::borrowed(abi::PyModule_GetDict(module.raw())).ok_or(Raised::Already)?;
        let builtins = Object::borrowed(abi::PyEval_GetBuiltins()).ok_or(Raised::Already)?;
        names.insert(&Object::name(c"__builtins__")?, &builtins)?;
        Ok((module, names))
    }
}

/// Python's allocator has a pool of this size for each size of small blocks, in steps of 16 bytes up to 512. Its first
/// block lies behind a header of 48 bytes.
const POOL: usize = 16 * 1024;
const POOL_HEADER: usize = 48;
const SMALL_MAX: usize = 512;

/// Fills every pool that has free blocks, so that what children allocate lies together in new pools: each free block of
/// old is in a page that costs a child a copy.
pub fn fill_pools() {
    for size in (16..=SMALL_MAX).step_by(16) {
        // An allocator that works in another way is given up on after a while.
        for _ in 0..(8 << 20) / size {
            if is_new_pool(size) {
                break;
            }
        }
    }
}

/// Allocates, and tells whether it was from a new pool: three blocks in a row from its very beginning. Those are freed.
fn is_new_pool(size: usize) -> bool {
    // SAFETY: the lock is held. Blocks that filled a hole stay allocated for good.
    unsafe {
        let first = abi::PyObject_Malloc(size);
        if first as usize % POOL != POOL_HEADER {
            return false;
        }
        let (second, third) = (abi::PyObject_Malloc(size), abi::PyObject_Malloc(size));
        let sequence = [first as usize + size, first as usize + 2 * size];
        if [second as usize, third as usize] != sequence {
            return false;
        }
        for block in [third, second, first] {
            abi::PyObject_Free(block);
        }
        true
    }
}

/// What a function returns to Python: the object, or null with an exception set.
pub fn answer(outcome: Result<Object, Raised>) -> *mut PyObject {
    outcome.map_or_else(
        |raised| {
            raised.set();
            null_mut()
        },
        Object::into_raw,
    )
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
    done(unsafe { abi::PyErr_CheckSignals() })
}
