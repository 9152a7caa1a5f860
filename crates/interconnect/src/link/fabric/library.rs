//! libfabric, opened when first needed: no build needs it, no start does.
//!
//! Its symbols are asked for with their version, so that a later libfabric answers with the structures that
//! [`super::bindings`] describes. It stays open for the process's life: providers leave threads and handlers behind.

use super::bindings::{DupInfo, FreeInfo, GetInfo, OpenFabric, StrError};
use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use thiserror::Error;

const NAME: &CStr = c"libfabric.so.1";

/// Why there is no libfabric.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LibraryError {
    #[error("libfabric is not installed ({0}): install libfabric1 (Debian, Ubuntu) or libfabric (Fedora, SUSE)")]
    Missing(String),
    #[error("this libfabric has no `{0}`: version 1.17 or later is needed")]
    Old(&'static str),
}

/// The functions that libfabric exports and we call.
pub struct Library {
    pub get_info: GetInfo,
    pub free_info: FreeInfo,
    pub dup_info: DupInfo,
    pub open_fabric: OpenFabric,
    str_error: StrError,
}

impl Library {
    /// The library, opened at the first call.
    pub fn get() -> Result<&'static Self, LibraryError> {
        static LIBRARY: OnceLock<Result<Library, LibraryError>> = OnceLock::new();
        LIBRARY.get_or_init(|| Self::open(NAME)).as_ref().map_err(Clone::clone)
    }

    fn open(name: &CStr) -> Result<Self, LibraryError> {
        // SAFETY: the name is a C string. What the library's constructors do is libfabric's care.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(LibraryError::Missing(reason()));
        }
        // SAFETY: each symbol, at that version, has the type that it is given here: `bindings` is checked against the
        // headers of that version. A pointer to a function is as large as one to data on every Linux.
        unsafe {
            Ok(Self {
                get_info: std::mem::transmute::<*mut c_void, GetInfo>(symbol(handle, "fi_getinfo", c"FABRIC_1.3")?),
                free_info: std::mem::transmute::<*mut c_void, FreeInfo>(symbol(handle, "fi_freeinfo", c"FABRIC_1.3")?),
                dup_info: std::mem::transmute::<*mut c_void, DupInfo>(symbol(handle, "fi_dupinfo", c"FABRIC_1.3")?),
                open_fabric: std::mem::transmute::<*mut c_void, OpenFabric>(symbol(
                    handle,
                    "fi_fabric",
                    c"FABRIC_1.1",
                )?),
                str_error: std::mem::transmute::<*mut c_void, StrError>(symbol(handle, "fi_strerror", c"FABRIC_1.0")?),
            })
        }
    }

    /// What libfabric says of an error number.
    pub fn text(&self, code: c_int) -> String {
        // SAFETY: libfabric answers every number with a static string.
        unsafe { CStr::from_ptr((self.str_error)(code)) }.to_string_lossy().into_owned()
    }
}

fn symbol(handle: *mut c_void, name: &'static str, version: &CStr) -> Result<*mut c_void, LibraryError> {
    let text = std::ffi::CString::new(name).map_err(|_| LibraryError::Old(name))?;
    // SAFETY: the handle is an open library's, both texts are C strings.
    let address = unsafe { libc::dlvsym(handle, text.as_ptr(), version.as_ptr()) };
    if address.is_null() { Err(LibraryError::Old(name)) } else { Ok(address) }
}

fn reason() -> String {
    // SAFETY: dlerror answers null or a string that is this thread's until its next call.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return NAME.to_string_lossy().into_owned();
    }
    // SAFETY: as above; it is copied at once.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_said_how_to_install() {
        let error = Library::open(c"libfabric-that-nobody-has.so.1").err().unwrap();
        assert!(error.to_string().contains("install libfabric1"), "{error}");
        // A library, but not that one.
        assert_eq!(Library::open(c"libc.so.6").err(), Some(LibraryError::Old("fi_getinfo")));
    }
}
