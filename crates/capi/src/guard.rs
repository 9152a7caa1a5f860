//! What every call does with what C gives it: null is refused, a panic does not cross into C.

use crate::status::{Status, XPU_EINTERNAL, XPU_EINVAL};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Runs a call's body: what it answers, or the status of its error.
pub(crate) fn call(body: impl FnOnce() -> Result<i64, c_int>) -> i64 {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(XPU_EINTERNAL));
    result.unwrap_or_else(i64::from)
}

/// The same for calls whose answers fit into an `int`.
pub(crate) fn call_int(body: impl FnOnce() -> Result<(), c_int>) -> c_int {
    call(|| body().map(|()| 0)) as c_int
}

pub(crate) fn failed<E: Status>(error: E) -> c_int {
    error.status()
}

/// What a pointer from C points to.
///
/// # Safety
/// It is null, or points to a `T` that nobody changes meanwhile.
pub(crate) unsafe fn borrow<'a, T>(pointer: *const T) -> Result<&'a T, c_int> {
    // SAFETY: by this function's contract.
    unsafe { pointer.as_ref() }.ok_or(XPU_EINVAL)
}

/// The same, to be changed.
///
/// # Safety
/// It is null, or points to a `T` that nobody else uses meanwhile.
pub(crate) unsafe fn borrow_mut<'a, T>(pointer: *mut T) -> Result<&'a mut T, c_int> {
    // SAFETY: by this function's contract.
    unsafe { pointer.as_mut() }.ok_or(XPU_EINVAL)
}

/// Puts an answer where C wants it.
///
/// # Safety
/// `place` is null, or valid for a write of a `T`, whatever is there.
pub(crate) unsafe fn answer<T>(place: *mut T, value: T) -> Result<(), c_int> {
    if place.is_null() {
        return Err(XPU_EINVAL);
    }
    // SAFETY: by this function's contract.
    unsafe { place.write(value) };
    Ok(())
}

/// A C string that is UTF-8.
///
/// # Safety
/// It is null, or a C string.
pub(crate) unsafe fn text<'a>(string: *const c_char) -> Result<&'a str, c_int> {
    if string.is_null() {
        return Err(XPU_EINVAL);
    }
    // SAFETY: by this function's contract.
    unsafe { CStr::from_ptr(string) }.to_str().map_err(|_| XPU_EINVAL)
}

/// How long a call may wait.
pub(crate) enum Patience {
    None,
    Until(Instant),
    Forever,
}

/// What milliseconds say: none, as many, or (negative) without end.
pub(crate) fn patience(milliseconds: c_int) -> Patience {
    match u64::try_from(milliseconds) {
        Ok(0) => Patience::None,
        Ok(milliseconds) => Patience::Until(Instant::now() + Duration::from_millis(milliseconds)),
        Err(_) => Patience::Forever,
    }
}
