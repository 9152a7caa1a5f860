//! What `require('lichen').fifo` is made of. Answers are lists: a word, empty where all went well, and values or a message.
//!
//! Nothing here waits but for the shim: where there is no message yet, or no room, the event loop waits for the end's
//! descriptor, once, and calls back.

use crate::abi::{self, Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, call};
use cfork::fifo::{self, FifoError, Heard};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;

/// A wait that is under way.
struct Watch {
    env: RawEnv,
    handle: *mut c_void,
    /// A reference to the JavaScript function that is called.
    callback: *mut c_void,
}

thread_local! {
    /// By the ends' numbers.
    static WATCHES: RefCell<HashMap<u64, Watch>> = RefCell::new(HashMap::new());
}

/// `fifo(operation: string, a?: string | number, b?, c?): [word, value]`
pub unsafe extern "C" fn operate(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe { call(env, info, |env, [operation, a, b, c]| run(env, operation, [a, b, c])) }
}

fn run(env: Env, operation: Value, [a, b, c]: [Value; 3]) -> Result<Value, Thrown> {
    let text = |value| env.with_bytes(value, |bytes| String::from_utf8_lossy(bytes).into_owned());
    let operation = text(operation)?;
    match operation.as_str() {
        "process_id" => answer(env, fifo::process_id(), |id| env.text(id.as_bytes())),
        "create" => answer(env, fifo::create(&text(a)?, env.count(b)?), |id| env.text(id.as_bytes())),
        "release" => answer(env, fifo::release(&text(a)?), |()| env.undefined()),
        "grant" => answer(env, fifo::grant(&text(a)?, &text(b)?, &text(c)?), |()| env.undefined()),
        "revoke" => answer(env, fifo::revoke(&text(a)?, &text(b)?, &text(c)?), |()| env.undefined()),
        "reader" => answer(env, fifo::reader(&text(a)?), |end| env.number(end as f64)),
        "writer" => answer(env, fifo::writer(&text(a)?), |end| env.number(end as f64)),
        "close" => {
            let end = env.count(a)?;
            forget(env, end)?;
            fifo::close(end);
            env.undefined()
        }
        "read" => answer(env, fifo::try_read(env.count(a)?), |heard| told(env, heard)),
        "write" => {
            let end = env.count(a)?;
            answer(env, env.with_bytes(b, |bytes| fifo::try_write(end, bytes))?, |written| env.truth(written))
        }
        other => Err(Thrown::Because(format!("there is no operation {other}"))),
    }
}

fn answer<T>(
    env: Env,
    outcome: Result<T, FifoError>,
    value: impl FnOnce(T) -> Result<Value, Thrown>,
) -> Result<Value, Thrown> {
    match outcome {
        Ok(done) => env.list([env.text(b"")?, value(done)?]),
        Err(error) => env.list([env.text(error.word().as_bytes())?, env.text(error.to_string().as_bytes())?]),
    }
}

/// `[sender, message, why]`: without a message there is a reason; `undefined` where there is neither.
fn told(env: Env, heard: Option<Heard>) -> Result<Value, Thrown> {
    match heard {
        Some(Heard::Message { from, bytes }) => {
            env.list([env.text(from.as_bytes())?, env.buffer(&bytes)?, env.text(b"")?])
        }
        Some(Heard::Ended { from, why }) => {
            env.list([env.text(from.as_bytes())?, env.undefined()?, env.text(why.as_bytes())?])
        }
        None => env.undefined(),
    }
}

/// `fifoWait(end: number, callback: () => void): [word, boolean]`: whether the end is waited for, to be tried again when
/// `callback` is called; otherwise it is to be tried again at once.
pub unsafe extern "C" fn wait(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe {
        call(env, info, |env, [end, callback]: [Value; 2]| {
            let end = env.count(end)?;
            match fifo::arm(end) {
                Ok((descriptor, true)) => {
                    forget(env, end)?;
                    watch(env, end, descriptor, callback)?;
                    answer(env, Ok(()), |()| env.truth(true))
                }
                Ok((_, false)) => answer(env, Ok(()), |()| env.truth(false)),
                Err(error) => answer(env, Err(error), |()| env.undefined()),
            }
        })
    }
}

/// `fifoForget(end: number)`: it is waited for no more.
pub unsafe extern "C" fn give_up(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe {
        call(env, info, |env, [end]: [Value; 1]| {
            forget(env, env.count(end)?)?;
            env.undefined()
        })
    }
}

fn watch(env: Env, end: u64, descriptor: RawFd, callback: Value) -> Result<(), Thrown> {
    let (mut event_loop, mut reference) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: libuv says how large a handle is; it is freed once libuv has closed it. This is the loop's thread.
    let failed = unsafe {
        env.check(abi::napi_get_uv_event_loop(env.raw(), &mut event_loop))?;
        env.check(abi::napi_create_reference(env.raw(), callback.raw(), 1, &mut reference))?;
        let handle: *mut c_void = Box::into_raw(vec![0u128; words()].into_boxed_slice()).cast();
        let failed = match abi::uv_poll_init(event_loop, handle, descriptor) {
            0 => abi::uv_poll_start(handle, abi::UV_READABLE, on_ready),
            failed => failed,
        };
        WATCHES.with_borrow_mut(|all| all.insert(end, Watch { env: env.raw(), handle, callback: reference }));
        failed
    };
    if failed == 0 { Ok(()) } else { Err(Thrown::Because(format!("the FIFO cannot be waited for ({failed})"))) }
}

fn words() -> usize {
    // SAFETY: a question without side effects.
    unsafe { abi::uv_handle_size(abi::UV_POLL as u32) }.div_ceil(size_of::<u128>())
}

fn forget(env: Env, end: u64) -> Result<(), Thrown> {
    let Some(watch) = WATCHES.with_borrow_mut(|all| all.remove(&end)) else { return Ok(()) };
    // SAFETY: the handle lives until it is closed, and this is its loop's thread; the reference is ours.
    unsafe {
        abi::uv_close(watch.handle, on_closed);
        env.check(abi::napi_delete_reference(env.raw(), watch.callback))
    }
}

/// Called by libuv.
unsafe extern "C" fn on_closed(handle: *mut c_void) {
    let slice = std::ptr::slice_from_raw_parts_mut(handle.cast::<u128>(), words());
    // SAFETY: made by `watch` as a box of just that length, and libuv is done with it.
    drop(unsafe { Box::from_raw(slice) });
}

/// Called by libuv.
unsafe extern "C" fn on_ready(handle: *mut c_void, _status: c_int, _events: c_int) {
    let found = WATCHES.with_borrow_mut(|all| {
        let end = all.iter().find(|(_, watch)| watch.handle == handle).map(|(end, _)| *end)?;
        all.remove(&end)
    });
    let Some(Watch { env, handle, callback }) = found else { return };
    let (mut scope, mut global, mut function, mut ignored) =
        (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the loop's thread is the environment's; the reference is ours, and used no more.
    unsafe {
        abi::uv_close(handle, on_closed);
        abi::napi_open_handle_scope(env, &mut scope);
        abi::napi_get_global(env, &mut global);
        abi::napi_get_reference_value(env, callback, &mut function);
        abi::napi_delete_reference(env, callback);
        let no_arguments = std::ptr::null();
        let context = crate::bell::context();
        if abi::napi_make_callback(env, context, global, function, 0, no_arguments, &mut ignored) != abi::OK {
            let mut error = std::ptr::null_mut();
            // What nobody has caught goes where uncaught errors go.
            abi::napi_get_and_clear_last_exception(env, &mut error);
            abi::napi_fatal_exception(env, error);
        }
        abi::napi_close_handle_scope(env, scope);
    }
}
