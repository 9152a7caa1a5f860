//! The event loop's part in waiting for invocations: a handle on the channel's bell.
//!
//! The handle keeps the loop alive while the instance waits, and does not while it serves: then an empty loop means that
//! nothing is left which could ever answer.

use crate::abi::{self, Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, call};
use crate::with_instance;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};

/// What happens when the bell rings.
#[derive(Clone, Copy)]
struct Bell {
    env: RawEnv,
    event_loop: *mut c_void,
    /// A reference to the JavaScript function that is called.
    callback: *mut c_void,
    context: *mut c_void,
}

thread_local! {
    static BELL: Cell<Option<Bell>> = const { Cell::new(None) };
    /// What the loop waits for, while there is something.
    static HANDLE: Cell<Option<Handle>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Handle {
    /// libuv's.
    raw: *mut c_void,
    descriptor: RawFd,
    /// Whoever takes what has come stops it ringing. The others are hushed when they have rung.
    rings_once: bool,
}

/// `listen(callback: () => void)`: `callback` is to be called when there may be an invocation.
pub unsafe extern "C" fn listen(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [callback]: [Value; 1]| {
        BELL.set(Some(Bell::new(env, callback)?));
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// In what JavaScript's callbacks run; null before there is one.
pub fn context() -> *mut c_void {
    BELL.get().map_or(std::ptr::null_mut(), |bell| bell.context)
}

/// Whether the loop waits for this descriptor.
pub fn hangs_on(descriptor: RawFd) -> bool {
    HANDLE.get().is_some_and(|handle| handle.descriptor == descriptor)
}

/// Lets the loop wait for this descriptor, which must stay open, and for no other any more.
pub fn hang(descriptor: RawFd, rings_once: bool) -> Result<(), Thrown> {
    take_down();
    let bell = BELL.get().ok_or_else(|| Thrown::Because("nobody listens".into()))?;
    // SAFETY: libuv says how large a handle is; it is never freed, and this is the loop's thread.
    let failed = unsafe {
        let words = abi::uv_handle_size(abi::UV_POLL as u32).div_ceil(size_of::<u128>());
        let raw: *mut c_void = Box::leak(vec![0u128; words].into_boxed_slice()).as_mut_ptr().cast();
        HANDLE.set(Some(Handle { raw, descriptor, rings_once }));
        match abi::uv_poll_init(bell.event_loop, raw, descriptor) {
            0 => abi::uv_poll_start(raw, abi::UV_READABLE, on_ring),
            failed => failed,
        }
    };
    if failed == 0 { Ok(()) } else { Err(Thrown::Because(format!("the bell cannot be waited for ({failed})"))) }
}

/// Whether the loop is to stay alive for the next invocation's sake.
pub fn keeps_loop(yes: bool) {
    if let Some(handle) = HANDLE.get() {
        // SAFETY: the handle lives as long as the process, and this is its loop's thread.
        unsafe { if yes { abi::uv_ref(handle.raw) } else { abi::uv_unref(handle.raw) } }
    }
}

/// Waits no more.
pub fn take_down() {
    if let Some(handle) = HANDLE.take() {
        // SAFETY: the handle lives as long as the process, and this is its loop's thread.
        unsafe { abi::uv_poll_stop(handle.raw) };
    }
}

impl Bell {
    fn new(env: Env, callback: Value) -> Result<Self, Thrown> {
        let name = env.text(b"lichen")?;
        let (mut reference, mut context, mut event_loop) =
            (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: values of this call; all results live as long as the process.
        unsafe {
            env.check(abi::napi_get_uv_event_loop(env.raw(), &mut event_loop))?;
            env.check(abi::napi_create_reference(env.raw(), callback.raw(), 1, &mut reference))?;
            env.check(abi::napi_async_init(env.raw(), std::ptr::null_mut(), name.raw(), &mut context))?;
        }
        Ok(Self { env: env.raw(), event_loop, callback: reference, context })
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

/// Called by libuv.
unsafe extern "C" fn on_ring(_handle: *mut c_void, _status: c_int, _events: c_int) {
    let (Some(bell), Some(handle)) = (BELL.get(), HANDLE.get()) else { return };
    if handle.rings_once {
        // Only where nothing is taken now. Whoever plays no instance any more has nothing to hush.
        let _ = with_instance(|instance| {
            instance.hush();
            Ok(())
        });
    } else {
        // SAFETY: the instance keeps its bell open as long as it lives. A function that has closed it harms itself.
        interconnect::doorbell::hush(unsafe { BorrowedFd::borrow_raw(handle.descriptor) });
    }
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
