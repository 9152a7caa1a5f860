//! Functions of an instance whose answer comes in parts. Where the channel has no room, the event loop waits for the bell.

use crate::abi::{Info, RawEnv, RawValue};
use crate::bell;
use crate::value::{Thrown, because, call};
use crate::with_instance;
use cfork::Instance;
use interconnect::channel::SendError;
use std::os::fd::AsRawFd;

/// `open(contentType: string, chunk: Uint8Array): number`: begins the answer with as much of the chunk as a part holds; how
/// much that was, or -1 where there is no room yet.
pub unsafe extern "C" fn open(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe {
        call(env, info, |env, [content_type, chunk]| {
            let content_type = env.with_bytes(content_type, |text| String::from_utf8_lossy(text).into_owned())?;
            let taken = env.with_bytes(chunk, |chunk| {
                with_instance(|instance| when_there_is_room(instance, |instance| instance.open(&content_type, chunk)))
            })??;
            env.number(taken.map_or(-1.0, |taken| taken as f64))
        })
    }
}

/// `part(chunk: Uint8Array, from: number): number`: sends as much of the chunk from there on as there is room for; how much
/// that was. Where it was nothing, the bell rings when there is room.
pub unsafe extern "C" fn part(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe {
        call(env, info, |env, [chunk, from]| {
            let from = env.count(from)? as usize;
            let taken = env.with_bytes(chunk, |chunk| {
                let rest = chunk.get(from..).unwrap_or_default();
                with_instance(|instance| when_there_is_room(instance, |instance| instance.part(rest)))
            })??;
            env.number(taken.unwrap_or_default() as f64)
        })
    }
}

/// `idle(): boolean`: whether all parts have been taken, so that the answer can end. Where not, the bell rings.
pub unsafe extern "C" fn idle(env: RawEnv, info: Info) -> RawValue {
    // SAFETY: Node passes its own.
    unsafe {
        call(env, info, |env, []| {
            let look = |instance: &mut Instance| if instance.is_idle() { Ok(()) } else { Err(SendError::Busy) };
            let idle = with_instance(|instance| when_there_is_room(instance, look))?;
            env.truth(idle.is_some())
        })
    }
}

/// Does it now; or nothing, and the loop lives on until the bell rings.
fn when_there_is_room<T>(
    instance: &mut Instance,
    mut work: impl FnMut(&mut Instance) -> Result<T, SendError>,
) -> Result<Option<T>, Thrown> {
    let mut attempt = |instance: &mut Instance| match work(instance) {
        Ok(done) => Ok(Some(done)),
        Err(SendError::Busy) => Ok(None),
        Err(error) => Err(because("the channel")(&error)),
    };
    let mut done = attempt(instance)?;
    if done.is_none() {
        let descriptor = instance.room_bell().as_raw_fd();
        if !bell::hangs_on(descriptor) {
            bell::hang(descriptor, false)?;
            instance.wait_for_room_by_event();
        }
        instance.hear_of_room().map_err(|e| because("the channel")(&e))?;
        // What was made room for before this rings no more.
        done = attempt(instance)?;
    }
    bell::keeps_loop(done.is_none());
    Ok(done)
}
