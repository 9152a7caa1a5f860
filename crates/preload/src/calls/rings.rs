//! liburing's ways to make a ring. Where that library is not there, they answer as where rings are forbidden (`-EPERM`).

use crate::{real, rings};
use libc::{c_int, c_uint, c_void, size_t};

/// # Safety
/// As liburing's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_uring_queue_init(entries: c_uint, ring: *mut c_void, flags: c_uint) -> c_int {
    rings::begin();
    // SAFETY: the arguments as they came.
    unsafe { real::io_uring_queue_init(entries, ring, flags) }
}

/// # Safety
/// As liburing's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_uring_queue_init_params(
    entries: c_uint,
    ring: *mut c_void,
    parameters: *mut c_void,
) -> c_int {
    rings::begin();
    // SAFETY: the arguments as they came.
    unsafe { real::io_uring_queue_init_params(entries, ring, parameters) }
}

/// # Safety
/// As liburing's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_uring_queue_init_mem(
    entries: c_uint,
    ring: *mut c_void,
    parameters: *mut c_void,
    memory: *mut c_void,
    len: size_t,
) -> c_int {
    rings::begin();
    // SAFETY: the arguments as they came.
    unsafe { real::io_uring_queue_init_mem(entries, ring, parameters, memory, len) }
}

/// # Safety
/// As liburing's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn io_uring_setup(entries: c_uint, parameters: *mut c_void) -> c_int {
    rings::begin();
    // SAFETY: the arguments as they came.
    unsafe { real::io_uring_setup(entries, parameters) }
}
