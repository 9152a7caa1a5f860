//! N-API and libuv, as far as they are used. Both promise a stable ABI: N-API by its versions, libuv within version 1.
//!
//! Declarations only: what upholds their contracts is in [`crate::value`] and [`crate::bell`].

use std::ffi::{c_char, c_int, c_uint, c_void};

/// What an addon's function is called with, beside the environment.
pub type Info = *mut c_void;
/// The interpreter that called.
pub type RawEnv = *mut c_void;
/// A JavaScript value, alive until the function that got it returns.
pub type RawValue = *mut c_void;
/// A function of ours that JavaScript can call.
pub type Function = unsafe extern "C" fn(RawEnv, Info) -> RawValue;

/// A call has succeeded.
pub const OK: c_int = 0;
/// A call has failed because JavaScript has thrown.
pub const PENDING_EXCEPTION: c_int = 10;
/// What `napi_typeof` says of strings.
pub const STRING: c_int = 4;
/// Takes a string's length from its terminating zero.
pub const AUTO_LENGTH: usize = usize::MAX;

/// What a poll handle waits for: that there is something to read.
pub const UV_READABLE: c_int = 1;
/// The kind of a poll handle, for [`uv_handle_size`].
pub const UV_POLL: c_int = 8;

/// Called when a polled descriptor is ready.
pub type PollCallback = unsafe extern "C" fn(handle: *mut c_void, status: c_int, events: c_int);

/// Called when a handle is closed.
pub type CloseCallback = unsafe extern "C" fn(handle: *mut c_void);

unsafe extern "C" {
    pub fn napi_create_array_with_length(env: RawEnv, len: usize, result: *mut RawValue) -> c_int;
    pub fn napi_create_double(env: RawEnv, value: f64, result: *mut RawValue) -> c_int;
    pub fn napi_create_function(
        env: RawEnv,
        name: *const c_char,
        len: usize,
        function: Function,
        data: *mut c_void,
        result: *mut RawValue,
    ) -> c_int;
    pub fn napi_create_string_utf8(env: RawEnv, text: *const c_char, len: usize, result: *mut RawValue) -> c_int;
    pub fn napi_create_string_latin1(env: RawEnv, text: *const c_char, len: usize, result: *mut RawValue) -> c_int;
    pub fn napi_get_undefined(env: RawEnv, result: *mut RawValue) -> c_int;
    pub fn napi_get_boolean(env: RawEnv, value: bool, result: *mut RawValue) -> c_int;
    pub fn napi_get_array_length(env: RawEnv, array: RawValue, result: *mut u32) -> c_int;
    pub fn napi_get_element(env: RawEnv, array: RawValue, index: u32, result: *mut RawValue) -> c_int;
    pub fn napi_set_element(env: RawEnv, array: RawValue, index: u32, value: RawValue) -> c_int;
    pub fn napi_set_named_property(env: RawEnv, object: RawValue, name: *const c_char, value: RawValue) -> c_int;
    pub fn napi_get_cb_info(
        env: RawEnv,
        info: Info,
        count: *mut usize,
        arguments: *mut RawValue,
        this: *mut RawValue,
        data: *mut *mut c_void,
    ) -> c_int;
    pub fn napi_get_value_double(env: RawEnv, value: RawValue, result: *mut f64) -> c_int;
    pub fn napi_get_value_string_utf8(
        env: RawEnv,
        value: RawValue,
        text: *mut c_char,
        size: usize,
        result: *mut usize,
    ) -> c_int;
    pub fn napi_get_typedarray_info(
        env: RawEnv,
        array: RawValue,
        kind: *mut c_int,
        len: *mut usize,
        data: *mut *mut c_void,
        buffer: *mut RawValue,
        offset: *mut usize,
    ) -> c_int;
    pub fn napi_typeof(env: RawEnv, value: RawValue, result: *mut c_int) -> c_int;
    pub fn napi_throw_error(env: RawEnv, code: *const c_char, message: *const c_char) -> c_int;
    pub fn napi_get_and_clear_last_exception(env: RawEnv, result: *mut RawValue) -> c_int;
    pub fn napi_fatal_exception(env: RawEnv, error: RawValue) -> c_int;

    pub fn napi_create_reference(env: RawEnv, value: RawValue, count: u32, result: *mut *mut c_void) -> c_int;
    pub fn napi_delete_reference(env: RawEnv, reference: *mut c_void) -> c_int;
    pub fn napi_create_buffer_copy(
        env: RawEnv,
        len: usize,
        data: *const c_void,
        copy: *mut *mut c_void,
        result: *mut RawValue,
    ) -> c_int;
    pub fn napi_get_reference_value(env: RawEnv, reference: *mut c_void, result: *mut RawValue) -> c_int;
    pub fn napi_open_handle_scope(env: RawEnv, result: *mut *mut c_void) -> c_int;
    pub fn napi_close_handle_scope(env: RawEnv, scope: *mut c_void) -> c_int;
    pub fn napi_async_init(env: RawEnv, resource: RawValue, name: RawValue, result: *mut *mut c_void) -> c_int;
    pub fn napi_make_callback(
        env: RawEnv,
        context: *mut c_void,
        receiver: RawValue,
        function: RawValue,
        count: usize,
        arguments: *const RawValue,
        result: *mut RawValue,
    ) -> c_int;
    pub fn napi_get_global(env: RawEnv, result: *mut RawValue) -> c_int;
    pub fn napi_get_uv_event_loop(env: RawEnv, result: *mut *mut c_void) -> c_int;

    pub fn uv_handle_size(kind: c_uint) -> usize;
    pub fn uv_loop_fork(event_loop: *mut c_void) -> c_int;
    pub fn uv_poll_init(event_loop: *mut c_void, handle: *mut c_void, descriptor: c_int) -> c_int;
    pub fn uv_poll_start(handle: *mut c_void, events: c_int, callback: PollCallback) -> c_int;
    pub fn uv_close(handle: *mut c_void, closed: CloseCallback);
    pub fn uv_poll_stop(handle: *mut c_void) -> c_int;
    pub fn uv_ref(handle: *mut c_void);
    pub fn uv_unref(handle: *mut c_void);
    pub fn uv_update_time(event_loop: *mut c_void);
}
