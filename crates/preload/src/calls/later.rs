//! Reading and writing by libc's threads, for a program that does other things meanwhile (POSIX's `aio`): they call the kernel past this
//! library, so what they are asked about goes back to TCP.

use crate::{real, settle};
use libc::{aiocb, c_int, sigevent};

/// # Safety
/// It is the program's, if there is one.
unsafe fn settled(control: *const aiocb) {
    // SAFETY: the caller's.
    if let Some(control) = unsafe { control.as_ref() } {
        settle::descriptor(control.aio_fildes);
    }
}

macro_rules! one {
    ($($name:ident $real:ident)*) => {$(
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(control: *mut aiocb) -> c_int {
            // SAFETY: the program's.
            unsafe { settled(control) };
            // SAFETY: the argument as it came. Offsets have 64 bits in both.
            unsafe { real::$real(control) }
        }
    )*};
}

one! { aio_read aio_read aio_read64 aio_read aio_write aio_write aio_write64 aio_write }

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lio_listio(
    mode: c_int,
    controls: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    if !controls.is_null() {
        for at in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the program's, of that length.
            unsafe { settled(*controls.add(at)) };
        }
    }
    // SAFETY: the arguments as they came.
    unsafe { real::lio_listio(mode, controls, count, event) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lio_listio64(
    mode: c_int,
    controls: *const *mut aiocb,
    count: c_int,
    event: *mut sigevent,
) -> c_int {
    // SAFETY: the caller's. Offsets have 64 bits in both.
    unsafe { lio_listio(mode, controls, count, event) }
}
