//! The event loop's part in waiting for invocations: a handle on the channel's bell.
//!
//! The handle keeps the loop alive while the instance waits, and does not while it serves: then an empty loop means that
//! nothing is left which could ever answer.

use crate::abi::{self, Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, call};
use crate::with_instance;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

struct Bell {
    env: RawEnv,
    descriptor: RawFd,
    /// A reference to the JavaScript function that is called when the bell rings.
    callback: *mut c_void,
    context: *mut c_void,
}

thread_local! {
    /// The loop's handle, once there is one.
    static HANDLE: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) };
}

/// Whether the loop is to stay alive for the next invocation's sake.
pub fn keeps_loop(yes: bool) {
    let handle = HANDLE.get();
    if handle.is_null() {
        return;
    }
    // SAFETY: the handle lives as long as the process, and this is its loop's thread.
    unsafe { if yes { abi::uv_ref(handle) } else { abi::uv_unref(handle) } }
}

/// Waits no more.
pub fn take_down() {
    let handle = HANDLE.replace(std::ptr::null_mut());
    if !handle.is_null() {
        // SAFETY: the handle lives as long as the process, and this is its loop's thread.
        unsafe { abi::uv_poll_stop(handle) };
    }
}

/// `listen(callback: () => void)`: from now on `callback` is called when there may be an invocation.
pub unsafe extern "C" fn listen(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [callback]: [Value; 1]| {
        let descriptor = with_instance(|instance| {
            instance.sleep_by_event();
            Ok(instance.bell().as_raw_fd())
        })?;
        let bell = Box::new(Bell::new(env, callback, descriptor)?);
        hang(env, bell)?;
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

impl Bell {
    fn new(env: Env, callback: Value, descriptor: RawFd) -> Result<Self, Thrown> {
        let name = env.text(b"lichen")?;
        let (mut reference, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: values of this call; both results live as long as the process.
        unsafe {
            env.check(abi::napi_create_reference(env.raw(), callback.raw(), 1, &mut reference))?;
            env.check(abi::napi_async_init(env.raw(), std::ptr::null_mut(), name.raw(), &mut context))?;
        }
        Ok(Self { env: env.raw(), descriptor, callback: reference, context })
    }

    fn ring(&self) -> Result<(), Thrown> {
        // SAFETY: called from the loop's thread, with a handle scope open.
        let env = unsafe { Env::new(self.env) };
        let (mut global, mut callback, mut ignored) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the reference and the context live as long as the process.
        unsafe {
            env.check(abi::napi_get_global(self.env, &mut global))?;
            env.check(abi::napi_get_reference_value(self.env, self.callback, &mut callback))?;
            let no_arguments = std::ptr::null();
            env.check(abi::napi_make_callback(self.env, self.context, global, callback, 0, no_arguments, &mut ignored))
        }
    }
}

fn hang(env: Env, bell: Box<Bell>) -> Result<(), Thrown> {
    let mut event_loop = std::ptr::null_mut();
    // SAFETY: the environment is alive, and the result is ours to be written.
    env.check(unsafe { abi::napi_get_uv_event_loop(env.raw(), &mut event_loop) })?;
    // SAFETY: libuv says how large a handle is; it and its bell are never freed.
    let failed = unsafe {
        let words = abi::uv_handle_size(abi::UV_POLL as u32).div_ceil(size_of::<u128>());
        let handle: *mut c_void = Box::leak(vec![0u128; words].into_boxed_slice()).as_mut_ptr().cast();
        let failed = abi::uv_poll_init(event_loop, handle, bell.descriptor);
        abi::uv_handle_set_data(handle, Box::into_raw(bell).cast());
        HANDLE.set(handle);
        if failed == 0 { abi::uv_poll_start(handle, abi::UV_READABLE, on_ring) } else { failed }
    };
    if failed == 0 { Ok(()) } else { Err(Thrown::Because(format!("the bell cannot be waited for ({failed})"))) }
}

/// Called by libuv.
unsafe extern "C" fn on_ring(handle: *mut c_void, _status: c_int, _events: c_int) {
    // SAFETY: the handle's data is the bell that `hang` has leaked.
    let bell = unsafe { &*abi::uv_handle_get_data(handle).cast::<Bell>() };
    // SAFETY: the instance keeps its bell open as long as it lives. A function that has closed it harms itself.
    interconnect::doorbell::hush(unsafe { BorrowedFd::borrow_raw(bell.descriptor) });
    let mut scope = std::ptr::null_mut();
    // SAFETY: the loop's thread is the environment's.
    unsafe { abi::napi_open_handle_scope(bell.env, &mut scope) };
    if bell.ring().is_err() {
        let mut error = std::ptr::null_mut();
        // SAFETY: as above. What nobody has caught goes where uncaught errors go.
        unsafe {
            abi::napi_get_and_clear_last_exception(bell.env, &mut error);
            abi::napi_fatal_exception(bell.env, error);
        }
    }
    // SAFETY: the scope that was opened above.
    unsafe { abi::napi_close_handle_scope(bell.env, scope) };
}
