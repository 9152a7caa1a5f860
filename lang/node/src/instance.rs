//! Functions of an instance: take an invocation, answer it.

use crate::abi::{Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, because, call};
use crate::with_instance;
use crate::{bell, trace};
use cfork::invocation::Invocation;
use cfork::{Instance, Request};
use interconnect::channel::SendError;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// `environment(variables: string[])`: each `NAME=VALUE`.
pub unsafe extern "C" fn environment(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [variables]: [Value; 1]| {
        let variables = env.texts(variables)?;
        // SAFETY: an instance that replaces its environment has one thread.
        unsafe { libc::clearenv() };
        for text in variables {
            let Some(at) = text.iter().position(|&byte| byte == b'=') else { continue };
            if let (Ok(name), Ok(value)) = (CString::new(&text[..at]), CString::new(&text[at + 1..])) {
                // SAFETY: as above; the C library copies both.
                unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
            }
        }
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `print(descriptor: number, text: string | Uint8Array)`: all of it is written when this returns.
pub unsafe extern "C" fn print(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [descriptor, text]: [Value; 2]| {
        let descriptor = env.count(descriptor)? as RawFd;
        env.with_bytes(text, |bytes| write(descriptor, bytes))?;
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// Writes all, or as much as there is somebody to read it.
fn write(descriptor: RawFd, mut bytes: &[u8]) {
    // SAFETY: whether the number is open the kernel says; a function that has put something else there gets its output.
    let target = unsafe { BorrowedFd::borrow_raw(descriptor.max(0)) };
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut ready = [rustix::event::PollFd::new(&target, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut ready, None);
            }
            Err(_) => return,
        }
    }
}

/// `ready()`
pub unsafe extern "C" fn ready(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        with_instance(|instance| instance.ready().map_err(|e| because("the channel")(&e)))?;
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `init_failed(error: string)`
pub unsafe extern "C" fn init_failed(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe { call(env, info, |env, [error]| send(env, error, Instance::init_failed)) }
}

/// `begin()`
pub unsafe extern "C" fn begin(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        with_instance(|instance| {
            instance.begin();
            Ok(())
        })?;
        env.undefined()
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

/// `reply(answer: string | Uint8Array): number | undefined`
pub unsafe extern "C" fn reply(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe { call(env, info, |env, [answer]| send(env, answer, Instance::reply)) }
}

/// `fail(error: string): number | undefined`
pub unsafe extern "C" fn fail(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe { call(env, info, |env, [error]| send(env, error, Instance::fail)) }
}

/// Sends a text: nothing, or the limit where it is too long.
fn send(env: Env, body: Value, how: impl Fn(&mut Instance, &[u8]) -> Result<(), SendError>) -> Result<Value, Thrown> {
    let patiently = |instance: &mut Instance, body: &[u8]| loop {
        match how(instance, body) {
            // Where a function ends in the middle of an answer in parts: else its end waits for room before it comes here.
            Err(SendError::Busy) => instance.wait_for_room(None).map_err(|e| because("the channel")(&e))?,
            sent => return Ok(sent),
        }
    };
    match env.with_bytes(body, |body| with_instance(|instance| patiently(instance, body)))?? {
        Ok(()) => {
            bell::keeps_loop(true);
            env.undefined()
        }
        Err(SendError::TooLong { limit, .. }) => env.number(limit as f64),
        Err(error) => Err(because("the channel")(&error)),
    }
}

/// `take(): undefined | [event, deadline, request id, arn, client context, identity, tenant]`: the trace id is in the environment.
pub unsafe extern "C" fn take(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, []: [Value; 0]| {
        with_instance(|instance| {
            let mut asked = None;
            loop {
                if let Some(request) = instance.poll().map_err(|e| because("the channel")(&e))? {
                    bell::keeps_loop(false);
                    let head = request.invocation();
                    let head = head.ok_or_else(|| Thrown::Because("the gateway sent a malformed head".into()))?;
                    trace::tell(head.trace_id);
                    return unpack(env, &head, &request);
                }
                let descriptor = instance.bell().as_raw_fd();
                let hangs = bell::hangs_on(descriptor);
                if asked == Some(descriptor) || (hangs && !instance.rings_once()) {
                    return env.undefined();
                }
                if !hangs {
                    // Not before the first invocation was served, which has come along with the start of most.
                    bell::hang(descriptor, instance.rings_once())?;
                }
                let rests = instance.sleep_by_event();
                if rests && instance.rings_once() {
                    return env.undefined();
                }
                asked = (!instance.rings_once()).then_some(descriptor);
            }
        })
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

fn unpack(env: Env, head: &Invocation<'_>, request: &Request<'_>) -> Result<Value, Thrown> {
    let mut event = vec![0; request.event_len()];
    request.copy_event(&mut event);
    env.list([
        env.text(&event)?,
        env.number(head.deadline_unix_ms as f64)?,
        env.text(head.request_id.as_bytes())?,
        env.text(head.function_arn.as_bytes())?,
        env.text(head.client_context.as_bytes())?,
        env.text(head.cognito_identity.as_bytes())?,
        env.text(head.tenant_id.as_bytes())?,
    ])
}
