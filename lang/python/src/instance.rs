//! Functions of an instance: take an invocation, answer it.

use crate::abi::PyObject;
use crate::object::{Borrowed, Object, Raised, answer, because, handle_signals, without_lock};
use crate::{Role, role, wrong_role};
use cfork::{Instance, Request};
use interconnect::channel::SendError;
use std::ffi::CString;
use std::time::Duration;

/// `environment(list[bytes])`: each `NAME=VALUE`.
pub unsafe extern "C" fn environment(_module: *mut PyObject, list: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    answer(unsafe { Borrowed::new(list) }.and_then(|list| {
        // SAFETY: an instance that replaces its environment has one thread, which holds the interpreter's lock.
        unsafe { libc::clearenv() };
        for variable in list.items()? {
            let text = variable.contents()?;
            let Some(at) = text.iter().position(|&byte| byte == b'=') else { continue };
            if let (Ok(name), Ok(value)) = (CString::new(&text[..at]), CString::new(&text[at + 1..])) {
                // SAFETY: as above; the C library copies both.
                unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) };
            }
        }
        Ok(Object::none())
    }))
}

fn with_instance<T>(work: impl FnOnce(&mut Instance) -> Result<T, Raised>) -> Result<T, Raised> {
    match &mut *role()? {
        Role::Instance(instance) => work(instance),
        _ => Err(wrong_role()),
    }
}

/// `ready()`
pub unsafe extern "C" fn ready(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let told = |instance: &mut Instance| instance.ready().map_err(|e| because("the channel")(&e));
    answer(with_instance(told).map(|()| Object::none()))
}

/// `init_failed(error)`
pub unsafe extern "C" fn init_failed(_module: *mut PyObject, error: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    answer(unsafe { send(error, Instance::init_failed) })
}

/// `begin()`
pub unsafe extern "C" fn begin(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let noted = |instance: &mut Instance| {
        instance.begin();
        Ok(Object::none())
    };
    answer(with_instance(noted))
}

/// `reply(answer) -> int | None`
pub unsafe extern "C" fn reply(_module: *mut PyObject, body: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    answer(unsafe { send(body, Instance::reply) })
}

/// `fail(error) -> int | None`
pub unsafe extern "C" fn fail(_module: *mut PyObject, error: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    answer(unsafe { send(error, Instance::fail) })
}

/// # Safety
/// As [`Borrowed::new`].
unsafe fn send(
    body: *mut PyObject,
    how: impl FnOnce(&mut Instance, &[u8]) -> Result<(), SendError>,
) -> Result<Object, Raised> {
    // SAFETY: by the contract.
    let body = unsafe { Borrowed::new(body) }?.contents()?;
    with_instance(|instance| match how(instance, body) {
        Ok(()) => Ok(Object::none()),
        Err(SendError::TooLong { limit, .. }) => Object::number(limit as u64),
        Err(error) => Err(because("the channel")(&error)),
    })
}

/// `take(spin_ns) -> (event, deadline, request id, arn, trace id, client context, identity, tenant)`
pub unsafe extern "C" fn take(_module: *mut PyObject, spin: *mut PyObject) -> *mut PyObject {
    // SAFETY: the caller keeps its argument alive.
    let spin = unsafe { Borrowed::new(spin) }.and_then(Borrowed::number);
    answer(spin.and_then(|spin| {
        let spin = Duration::from_nanos(u64::try_from(spin).unwrap_or(0));
        with_instance(|instance| {
            loop {
                if let Some(request) = instance.poll().map_err(|e| because("the channel")(&e))? {
                    let invocation = unpack(&request);
                    return invocation;
                }
                without_lock(|| instance.wait(spin));
                handle_signals()?;
            }
        })
    }))
}

fn unpack(request: &Request<'_>) -> Result<Object, Raised> {
    let head = request.invocation().ok_or_else(|| Raised::Because("the gateway sent a malformed head".into()))?;
    let mut event = vec![0; request.event_len()];
    request.copy_event(&mut event);
    Object::tuple([
        Object::text(&event),
        Object::number(head.deadline_unix_ms),
        Object::text(head.request_id.as_bytes()),
        Object::text(head.function_arn.as_bytes()),
        Object::text(head.trace_id.as_bytes()),
        Object::text(head.client_context.as_bytes()),
        Object::text(head.cognito_identity.as_bytes()),
        Object::text(head.tenant_id.as_bytes()),
    ])
}
