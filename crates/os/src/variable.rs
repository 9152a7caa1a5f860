//! A variable of this process's environment that often changes. glibc's `setenv` keeps every value that it was ever given, until the
//! process ends; this one has a place of its own, which is written anew.

use std::ffi::{CStr, CString};
use std::ptr::copy_nonoverlapping;

/// Longer values are given to `setenv`.
const ROOM: usize = 512;

/// The place of a variable. It is never freed: the environment may point to it as long as the process lives.
#[derive(Debug)]
pub struct Variable {
    name: &'static CStr,
    /// `NAME=value`, and zeros: whoever reads while it is written finds an end.
    text: *mut [u8; ROOM],
    value: usize,
}

impl Variable {
    /// # Panics
    /// If there is no room for the name.
    pub fn new(name: &'static CStr) -> Self {
        let mut text = Box::new([0; ROOM]);
        let value = name.count_bytes() + 1;
        text[..value - 1].copy_from_slice(name.to_bytes());
        text[value - 1] = b'=';
        Self { name, text: Box::into_raw(text), value }
    }

    /// Sets it to what is before the first zero, if there is one.
    ///
    /// # Safety
    /// As for `setenv`: no other thread changes the environment, or looks a variable up, meanwhile.
    pub unsafe fn set(&self, value: &[u8]) {
        let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
        let end = self.value + value.len();
        if end >= ROOM {
            let Ok(value) = CString::new(value) else { return };
            // SAFETY: the caller's promise; both are copied. Without memory the variable stays as it is.
            unsafe { libc::setenv(self.name.as_ptr(), value.as_ptr(), 1) };
            return;
        }
        // SAFETY: the text is alive for good, is written by whoever has it alone, by the caller's promise, and there is room. The
        // environment takes the pointer, unless it has it.
        unsafe {
            let text = self.text.cast::<u8>();
            copy_nonoverlapping(value.as_ptr(), text.add(self.value), value.len());
            text.add(end).write(0);
            if libc::getenv(self.name.as_ptr()).cast_const().cast() != text.add(self.value).cast_const() {
                libc::putenv(text.cast());
            }
        }
    }

    /// Takes it out of the environment.
    ///
    /// # Safety
    /// As for [`Variable::set`].
    pub unsafe fn remove(&self) {
        // SAFETY: the caller's promise.
        unsafe { libc::unsetenv(self.name.as_ptr()) };
    }

    /// What the environment has for it.
    ///
    /// # Safety
    /// As for [`Variable::set`], for as long as the result is used.
    pub unsafe fn get(&self) -> Option<&CStr> {
        // SAFETY: the caller's promise.
        let value = unsafe { libc::getenv(self.name.as_ptr()) };
        // SAFETY: a text that ends, until it is changed.
        (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, for there is one environment, and no other test of this program changes it.
    #[test]
    fn it_is_what_it_was_set_to_last() {
        let variable = Variable::new(c"LICHEN_TEST_OF_A_VARIABLE");
        let is = |expected: Option<&str>| {
            // SAFETY: nothing else in this program's tests touches the environment.
            assert_eq!(unsafe { variable.get() }.map(CStr::to_bytes), expected.map(str::as_bytes));
        };
        // SAFETY: as above.
        let set = |value: &[u8]| unsafe { variable.set(value) };
        is(None);
        set(b"one");
        is(Some("one"));
        // SAFETY: as above.
        let place = || unsafe { variable.get() }.map(CStr::as_ptr);
        let first = place();
        set(b"a longer one");
        is(Some("a longer one"));
        set(b"");
        is(Some(""));
        set(b"cut\0here");
        is(Some("cut"));
        assert_eq!(place(), first);
        // Somebody else sets it; more than there is room for; and back.
        // SAFETY: as above.
        unsafe { libc::setenv(c"LICHEN_TEST_OF_A_VARIABLE".as_ptr(), c"another".as_ptr(), 1) };
        is(Some("another"));
        let long = "x".repeat(2 * ROOM);
        set(long.as_bytes());
        is(Some(&long));
        set(b"short");
        is(Some("short"));
        assert_eq!(place(), first);
        // SAFETY: as above.
        unsafe { variable.remove() };
        is(None);
        set(b"again");
        is(Some("again"));
    }
}
