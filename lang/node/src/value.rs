//! JavaScript values and errors as Rust types.
//!
//! All of it is for functions that JavaScript calls: values live until such a function returns.

use crate::abi::{self, Info, RawEnv, RawValue};
use std::ffi::{CStr, CString, c_int};

/// Answers up to this length are read in one go.
const SHORT: usize = 8 * 1024;

/// A JavaScript exception is pending, or is to be thrown by [`call`].
#[derive(Debug)]
pub enum Thrown {
    /// By the interpreter, already.
    Already,
    /// An `Error` with this message.
    Because(String),
}

/// The interpreter, in a function that it has called.
#[derive(Clone, Copy)]
pub struct Env(RawEnv);

/// A value, as long as that function runs.
#[derive(Clone, Copy)]
pub struct Value(RawValue);

/// Runs the body of a function that JavaScript calls with up to `N` arguments; absent ones are `undefined`.
///
/// # Safety
/// `env` and `info` must be those of the call.
pub unsafe fn call<const N: usize>(
    env: RawEnv,
    info: Info,
    body: impl FnOnce(Env, [Value; N]) -> Result<Value, Thrown>,
) -> RawValue {
    let env = Env(env);
    let mut arguments = [std::ptr::null_mut(); N];
    let mut count = N;
    // SAFETY: by the contract; at most N arguments are written.
    let status = unsafe {
        abi::napi_get_cb_info(
            env.0,
            info,
            &mut count,
            arguments.as_mut_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    let outcome = env.check(status).and_then(|()| body(env, arguments.map(Value)));
    match outcome {
        Ok(value) => value.0,
        Err(thrown) => {
            if let Thrown::Because(message) = thrown {
                let message = CString::new(message).unwrap_or_default();
                // SAFETY: a terminated message.
                unsafe { abi::napi_throw_error(env.0, std::ptr::null(), message.as_ptr()) };
            }
            std::ptr::null_mut()
        }
    }
}

impl Env {
    /// The environment of a call that began outside JavaScript.
    ///
    /// # Safety
    /// It must be that of the calling thread, with a handle scope open.
    pub unsafe fn new(env: RawEnv) -> Self {
        Self(env)
    }

    pub fn raw(self) -> RawEnv {
        self.0
    }

    /// What a call of the interpreter answered.
    pub fn check(self, status: c_int) -> Result<(), Thrown> {
        match status {
            abi::OK => Ok(()),
            abi::PENDING_EXCEPTION => Err(Thrown::Already),
            other => Err(Thrown::Because(format!("a call of Node-API failed with status {other}"))),
        }
    }

    fn made(self, make: impl FnOnce(*mut RawValue) -> c_int) -> Result<Value, Thrown> {
        let mut value = std::ptr::null_mut();
        self.check(make(&mut value)).map(|()| Value(value))
    }

    pub fn undefined(self) -> Result<Value, Thrown> {
        // SAFETY: the environment is alive, and the result is ours to be written.
        self.made(|value| unsafe { abi::napi_get_undefined(self.0, value) })
    }

    pub fn truth(self, is: bool) -> Result<Value, Thrown> {
        // SAFETY: as above.
        self.made(|value| unsafe { abi::napi_get_boolean(self.0, is, value) })
    }

    pub fn number(self, number: f64) -> Result<Value, Thrown> {
        // SAFETY: as above.
        self.made(|value| unsafe { abi::napi_create_double(self.0, number, value) })
    }

    /// Text from UTF-8 that need not be valid.
    pub fn text(self, bytes: &[u8]) -> Result<Value, Thrown> {
        let (start, len) = (bytes.as_ptr().cast(), bytes.len());
        if bytes.is_ascii() {
            // SAFETY: the interpreter copies as many bytes as there are. ASCII it need not decode.
            return self.made(|value| unsafe { abi::napi_create_string_latin1(self.0, start, len, value) });
        }
        // SAFETY: as above.
        self.made(|value| unsafe { abi::napi_create_string_utf8(self.0, start, len, value) })
    }

    /// A `Buffer` with these bytes.
    pub fn buffer(self, bytes: &[u8]) -> Result<Value, Thrown> {
        let (start, len, nothing) = (bytes.as_ptr().cast(), bytes.len(), std::ptr::null_mut());
        // SAFETY: the interpreter copies as many bytes as there are.
        self.made(|value| unsafe { abi::napi_create_buffer_copy(self.0, len, start, nothing, value) })
    }

    pub fn list<const N: usize>(self, items: [Value; N]) -> Result<Value, Thrown> {
        self.list_of(&items)
    }

    pub fn list_of(self, items: &[Value]) -> Result<Value, Thrown> {
        // SAFETY: the environment is alive, and the result is ours to be written.
        let list = self.made(|list| unsafe { abi::napi_create_array_with_length(self.0, items.len(), list) })?;
        for (index, item) in items.iter().enumerate() {
            // SAFETY: both values are of this call.
            self.check(unsafe { abi::napi_set_element(self.0, list.0, index as u32, item.0) })?;
        }
        Ok(list)
    }

    /// Gives `object` a function of ours.
    pub fn method(self, object: Value, name: &CStr, function: abi::Function) -> Result<(), Thrown> {
        let (text, len) = (name.as_ptr(), abi::AUTO_LENGTH);
        // SAFETY: a terminated name; the function is static.
        let function = self.made(|value| unsafe {
            abi::napi_create_function(self.0, text, len, function, std::ptr::null_mut(), value)
        })?;
        // SAFETY: a terminated name, and values of this call.
        self.check(unsafe { abi::napi_set_named_property(self.0, object.0, text, function.0) })
    }

    fn is_text(self, value: Value) -> Result<bool, Thrown> {
        let mut kind = 0;
        // SAFETY: a value of this call.
        self.check(unsafe { abi::napi_typeof(self.0, value.0, &mut kind) })?;
        Ok(kind == abi::STRING)
    }

    /// Hands the UTF-8 of a string, or the bytes of a typed array, to `work`, which must not call JavaScript.
    pub fn with_bytes<T>(self, value: Value, work: impl FnOnce(&[u8]) -> T) -> Result<T, Thrown> {
        if !self.is_text(value)? {
            return Ok(work(self.bytes(value)?));
        }
        let mut short = [0; SHORT];
        let len = self.read_text(value, &mut short)?;
        // A character that does not fit is left out whole, so a full buffer may end up to three bytes early.
        if len < SHORT - 4 {
            return Ok(work(&short[..len]));
        }
        let mut whole = 0;
        // SAFETY: no buffer, so the length alone is told.
        let status = unsafe { abi::napi_get_value_string_utf8(self.0, value.0, std::ptr::null_mut(), 0, &mut whole) };
        self.check(status)?;
        let mut long = vec![0; whole + 1];
        let len = self.read_text(value, &mut long)?;
        Ok(work(&long[..len]))
    }

    fn read_text(self, value: Value, to: &mut [u8]) -> Result<usize, Thrown> {
        let mut len = 0;
        let (start, size) = (to.as_mut_ptr().cast(), to.len());
        // SAFETY: the interpreter writes at most `size` bytes, the last of them a zero.
        self.check(unsafe { abi::napi_get_value_string_utf8(self.0, value.0, start, size, &mut len) })?;
        Ok(len)
    }

    fn bytes<'a>(self, value: Value) -> Result<&'a [u8], Thrown> {
        let (mut kind, mut len, mut data) = (0, 0, std::ptr::null_mut());
        // SAFETY: results of ours to be written; other kinds of values are refused.
        let status = unsafe {
            let nothing = std::ptr::null_mut();
            abi::napi_get_typedarray_info(self.0, value.0, &mut kind, &mut len, &mut data, nothing, nothing.cast())
        };
        self.check(status)?;
        if len == 0 {
            return Ok(&[]);
        }
        // SAFETY: elements of one byte, by the check below; the caller calls no JavaScript while it looks at them.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast(), len) };
        // Int8Array, Uint8Array (Buffer is one) and Uint8ClampedArray have elements of one byte.
        if kind <= 2 { Ok(bytes) } else { Err(Thrown::Because("text or a Uint8Array expected".into())) }
    }

    /// Lets `work` fill a typed array.
    pub fn fill<T>(self, array: Value, work: impl FnOnce(&mut [u8]) -> T) -> Result<T, Thrown> {
        let (mut len, mut data, mut kind) = (0, std::ptr::null_mut(), 0);
        // SAFETY: results of ours to be written; other kinds of values are refused.
        let status = unsafe {
            let nothing = std::ptr::null_mut();
            abi::napi_get_typedarray_info(self.0, array.0, &mut kind, &mut len, &mut data, nothing, nothing.cast())
        };
        self.check(status)?;
        // SAFETY: an element has one byte at least, and no JavaScript runs while the slice is alive.
        Ok(if len == 0 { work(&mut []) } else { work(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) }) })
    }

    /// The texts of an array of strings.
    pub fn texts(self, array: Value) -> Result<Vec<Vec<u8>>, Thrown> {
        let mut len = 0;
        // SAFETY: a value of this call; other kinds than arrays are refused.
        self.check(unsafe { abi::napi_get_array_length(self.0, array.0, &mut len) })?;
        let item = |index| {
            // SAFETY: as above.
            let item = self.made(|value| unsafe { abi::napi_get_element(self.0, array.0, index, value) })?;
            self.with_bytes(item, <[u8]>::to_vec)
        };
        (0..len).map(item).collect()
    }

    /// A number that counts something.
    pub fn count(self, value: Value) -> Result<u64, Thrown> {
        let mut number = 0.0;
        // SAFETY: a value of this call; other kinds than numbers are refused.
        self.check(unsafe { abi::napi_get_value_double(self.0, value.0, &mut number) })?;
        Ok(number as u64)
    }
}

impl Value {
    /// # Safety
    /// The value must be of the running call.
    pub unsafe fn new(raw: RawValue) -> Self {
        Self(raw)
    }

    pub fn raw(self) -> RawValue {
        self.0
    }
}

/// An error of ours, as JavaScript sees it.
pub fn because(what: &str) -> impl FnOnce(&dyn std::error::Error) -> Thrown {
    move |error| Thrown::Because(format!("{what}: {error}"))
}
