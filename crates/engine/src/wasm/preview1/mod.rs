//! WASI preview 1: all of its calls, over the run's files.
//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | the guest's memory, as calls name it |
//! | [`descriptors`] | what is open, with its rights |
//! | [`fd`] | calls on descriptors |
//! | [`listing`] | folders listed, and what is known of nodes |
//! | [`path`] | calls on paths |
//! | [`process`] | arguments, clocks, randomness, waiting, the end |
//!
//! Calls never block but to wait for a clock. Sockets are refused: there is no network.

pub mod descriptors;
pub mod fd;
#[cfg(test)]
mod fuzz;
pub mod listing;
pub mod memory;
pub mod path;
pub mod process;

use super::context::Context;
use super::watch;
use crate::files::{Answer, Errno, Refusal};
pub use descriptors::Descriptors;
use memory::Memory;
use wasmtime::{Caller, Extern, Linker, Trap};

pub const MODULE: &str = "wasi_snapshot_preview1";

/// Makes one call: finds the guest's memory, and turns what came of it into what the guest or the engine sees.
fn enter(
    mut caller: Caller<'_, Context>,
    call: impl FnOnce(&mut Context, &mut Memory<'_>) -> Answer<()>,
) -> wasmtime::Result<u32> {
    let linear = match caller.data().linear {
        Some(linear) => linear,
        // A start function calls before the engine has looked.
        None => match caller.get_export("memory") {
            Some(Extern::Memory(linear)) => linear,
            _ => return Ok(Errno::Fault as u32),
        },
    };
    let (bytes, context) = linear.data_and_store_mut(&mut caller);
    let answer = call(context, &mut Memory(bytes));
    if watch::told().is_some() {
        return Err(Trap::Interrupt.into());
    }
    match answer {
        Ok(()) => Ok(0),
        Err(Refusal::Errno(errno)) => Ok(errno as u32),
        Err(Refusal::Over(end)) => {
            context.end = Some(end);
            Err(Trap::Interrupt.into())
        }
    }
}

macro_rules! calls {
    ($linker:ident: $($module:ident { $($name:ident($($argument:ident: $type:ty),*);)* })*) => {
        $($($linker.func_wrap(MODULE, stringify!($name), |caller: Caller<'_, Context>, $($argument: $type),*| {
            enter(caller, |context, memory| $module::$name(context, memory, $($argument),*))
        })?;)*)*
    };
}

/// Makes all calls known to `linker`.
pub fn link(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    calls! { linker:
        process {
            args_get(argv: u32, bytes: u32);
            args_sizes_get(count: u32, bytes: u32);
            environ_get(environ: u32, bytes: u32);
            environ_sizes_get(count: u32, bytes: u32);
            clock_res_get(clock: u32, result: u32);
            clock_time_get(clock: u32, precision: u64, result: u32);
            poll_oneoff(subscriptions: u32, events: u32, count: u32, result: u32);
            random_get(buffer: u32, len: u32);
            proc_raise(signal: u32);
            sched_yield();
            sock_accept(fd: u32, flags: u32, result: u32);
            sock_recv(fd: u32, buffers: u32, count: u32, flags: u32, len: u32, flags_out: u32);
            sock_send(fd: u32, buffers: u32, count: u32, flags: u32, len: u32);
            sock_shutdown(fd: u32, how: u32);
        }
        fd {
            fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
            fd_allocate(fd: u32, offset: u64, len: u64);
            fd_close(fd: u32);
            fd_datasync(fd: u32);
            fd_fdstat_get(fd: u32, result: u32);
            fd_fdstat_set_flags(fd: u32, flags: u32);
            fd_fdstat_set_rights(fd: u32, rights: u64, inheriting: u64);
            fd_filestat_set_size(fd: u32, size: u64);
            fd_pread(fd: u32, buffers: u32, count: u32, offset: u64, result: u32);
            fd_prestat_get(fd: u32, result: u32);
            fd_prestat_dir_name(fd: u32, buffer: u32, len: u32);
            fd_pwrite(fd: u32, buffers: u32, count: u32, offset: u64, result: u32);
            fd_read(fd: u32, buffers: u32, count: u32, result: u32);
            fd_renumber(from: u32, to: u32);
            fd_seek(fd: u32, offset: i64, whence: u32, result: u32);
            fd_sync(fd: u32);
            fd_tell(fd: u32, result: u32);
            fd_write(fd: u32, buffers: u32, count: u32, result: u32);
        }
        listing {
            fd_filestat_get(fd: u32, result: u32);
            fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, which: u32);
            fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, result: u32);
            path_filestat_get(fd: u32, flags: u32, path: u32, len: u32, result: u32);
            path_filestat_set_times(
                fd: u32, flags: u32, path: u32, len: u32, accessed: u64, modified: u64, which: u32
            );
        }
        path {
            path_create_directory(fd: u32, path: u32, len: u32);
            path_link(from: u32, flags: u32, old: u32, old_len: u32, to: u32, new: u32, new_len: u32);
            path_open(
                fd: u32, look: u32, path: u32, len: u32, how: u32, rights: u64, inheriting: u64, flags: u32, result: u32
            );
            path_readlink(fd: u32, path: u32, len: u32, buffer: u32, buffer_len: u32, result: u32);
            path_remove_directory(fd: u32, path: u32, len: u32);
            path_rename(from: u32, old: u32, old_len: u32, to: u32, new: u32, new_len: u32);
            path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
            path_unlink_file(fd: u32, path: u32, len: u32);
        }
    }
    linker.func_wrap(MODULE, "proc_exit", |mut caller: Caller<'_, Context>, code: i32| -> wasmtime::Result<()> {
        caller.data_mut().end = Some(crate::RunError::Exit(code));
        Err(Trap::Interrupt.into())
    })?;
    Ok(())
}
