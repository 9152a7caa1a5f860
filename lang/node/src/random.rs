//! What makes siblings differ: the numbers that they draw, and their own.
//!
//! OpenSSL is not touched: it seeds itself again where its process id has changed, which a child's always has
//! (`cfork::forkpoint`).

use crate::abi::{Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, call};

/// `differ(into: Uint8Array): number`: fills up to 256 bytes from the kernel's generator, and tells the process id.
pub unsafe extern "C" fn differ(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [into]: [Value; 1]| {
        env.fill(into, draw)??;
        env.number(std::process::id().into())
    };
    // SAFETY: Node passes its own.
    unsafe { call(env, info, body) }
}

fn draw(into: &mut [u8]) -> Result<(), Thrown> {
    // SAFETY: the kernel writes as many bytes as there are. Up to 256 come whole.
    let drawn = unsafe { libc::getrandom(into.as_mut_ptr().cast(), into.len(), 0) };
    if drawn == into.len() as isize {
        Ok(())
    } else {
        Err(Thrown::Because("the kernel gives no random numbers".into()))
    }
}
