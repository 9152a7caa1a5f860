//! What makes siblings draw different numbers.
//!
//! OpenSSL tells forks by process ids, and siblings in pid namespaces of their own have the same.

use crate::abi::{Info, RawEnv, RawValue};
use crate::value::{Env, Thrown, Value, call};
use std::ffi::{c_double, c_int, c_void};

type RandAdd = unsafe extern "C" fn(bytes: *const c_void, len: c_int, entropy: c_double);

/// `seed(into: Uint8Array)`: seeds OpenSSL's generator, and fills the array from the kernel's.
pub unsafe extern "C" fn seed(env: RawEnv, info: Info) -> RawValue {
    let body = |env: Env, [into]: [Value; 1]| {
        let mut bytes = [0; 64];
        draw(&mut bytes)?;
        stir(&bytes)?;
        env.fill(into, draw)??;
        env.undefined()
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

fn stir(bytes: &[u8]) -> Result<(), Thrown> {
    // SAFETY: a terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"RAND_add".as_ptr()) };
    if found.is_null() {
        return Err(Thrown::Because("this Node.js does not show its OpenSSL: its children would share keys".into()));
    }
    // SAFETY: OpenSSL has declared RAND_add so since ever; it reads the bytes.
    unsafe {
        let add: RandAdd = std::mem::transmute::<*mut c_void, RandAdd>(found);
        add(bytes.as_ptr().cast(), bytes.len() as c_int, bytes.len() as c_double);
    }
    Ok(())
}
