//! What calls return: 0 or more if they did what they were asked, else one of these, with the errors of the Rust API that
//! they stand for.

use std::ffi::{CStr, c_char, c_int};
use xpucall::error::{
    AttachError, Broken, CheckError, ConnectError, CreateError, End, GrantError, ReadError, ReleaseError, RevokeError,
    SpawnError, WriteError,
};

/// Names, values and texts, from which the header is made.
macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        $(#[doc = $text] pub const $name: c_int = $value;)*

        fn text(code: c_int) -> &'static CStr {
            match code {
                $($value => const { terminated(concat!($text, "\0")) },)*
                _ => c"no status of an XPUcall",
            }
        }
    };
}

const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a text has one null, at its end"),
    }
}

codes! {
    XPU_OK = 0, "done";
    XPU_EINVAL = -1, "an argument is null, not UTF-8, or out of range";
    XPU_EINTERNAL = -2, "a bug in this library: the call may have done anything but break memory";
    XPU_ESYSTEM = -3, "a system call failed: errno says why";
    XPU_ENOSHIM = -4, "no shim listens there, or it is gone: is lichen serve running?";
    XPU_EPROTO = -5, "the shim speaks another version, or has answered with something that is no answer";
    XPU_EFORKED = -6, "this process was forked from the one that attached: attach it by itself";
    XPU_EFENCED = -7, "this PU was cut off from the others: attach again when it has joined them";
    XPU_EDETACHED = -8, "the shim has ended this attachment: it did not keep to the protocol, or sat in a write";
    XPU_EPERM = -9, "this process may not do that: it lacks the capability, or its class may not at all";
    XPU_ENOFIFO = -10, "there is no such FIFO";
    XPU_ENOPROCESS = -11, "there is no such process";
    XPU_ENOPU = -12, "there is no such PU";
    XPU_EEXIST = -13, "a FIFO of that id exists already, somewhere among the PUs";
    XPU_ELIMITS = -14, "messages of that length, or a ring of that size, are not to be had";
    XPU_EQUOTA = -15, "this process has as much as it may";
    XPU_EBUSY = -16, "the FIFO has a reader already";
    XPU_ENOPATH = -17, "the two PUs share no memory, and no link carries this FIFO";
    XPU_EAGAIN = -18, "there is nothing to read, or no room to write, now";
    XPU_ETIMEDOUT = -19, "there was nothing to read, or no room to write, in time";
    XPU_ETOOLONG = -20, "the message is longer than the FIFO carries, or than the buffer";
    XPU_ECLOSED = -21, "the other end, or the FIFO, was closed";
    XPU_EDIED = -22, "the process at the other end has ended";
    XPU_ELOST = -23, "the other end's PU is gone or cut off";
    XPU_EREVOKED = -24, "the right to it was revoked";
    XPU_EBROKEN = -25, "the other end has written what no lane carries";
    XPU_EWRITER = -26, "no message, but the end of a writer: see struct xfifo_message";
    XPU_ENOTSTARTED = -27, "the program could not be started: errno says why";
}

/// The text of a status, in English, for as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn xpu_strerror(code: c_int) -> *const c_char {
    text(code).as_ptr()
}

fn system(error: Option<i32>) -> c_int {
    set_errno(error);
    XPU_ESYSTEM
}

fn set_errno(error: Option<i32>) {
    // SAFETY: the C library's own, of this thread.
    unsafe { *libc::__errno_location() = error.unwrap_or(libc::EIO) };
}

/// The status that an error of the Rust API is.
pub(crate) trait Status {
    fn status(self) -> c_int;
}

impl Status for Broken {
    fn status(self) -> c_int {
        match self {
            Self::Forked => XPU_EFORKED,
            Self::ShimGone => XPU_ENOSHIM,
            Self::Fenced => XPU_EFENCED,
            Self::Stuck | Self::Misbehaved => XPU_EDETACHED,
            Self::Foreign => XPU_EPROTO,
        }
    }
}

impl Status for End {
    fn status(self) -> c_int {
        match self {
            Self::Closed => XPU_ECLOSED,
            Self::Died => XPU_EDIED,
            Self::Lost => XPU_ELOST,
            Self::Revoked => XPU_EREVOKED,
            Self::Broken => XPU_EBROKEN,
        }
    }
}

impl Status for AttachError {
    fn status(self) -> c_int {
        match self {
            Self::NoShim { .. } | Self::NotInherited(_) => XPU_ENOSHIM,
            Self::Quota(_) => XPU_EQUOTA,
            Self::NotPermitted => XPU_EPERM,
            Self::Fenced => XPU_EFENCED,
            Self::Foreign => XPU_EPROTO,
            Self::Connection(error) | Self::Memory(error) => system(error.raw_os_error()),
        }
    }
}

impl Status for CheckError {
    fn status(self) -> c_int {
        match self {
            Self::NotPermitted => XPU_EPERM,
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for CreateError {
    fn status(self) -> c_int {
        match self {
            Self::Exists => XPU_EEXIST,
            Self::Limits => XPU_ELIMITS,
            Self::Quota(_) => XPU_EQUOTA,
            Self::Resources(error) => system(error.raw_os_error()),
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for GrantError {
    fn status(self) -> c_int {
        match self {
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::NoSuchProcess => XPU_ENOPROCESS,
            Self::NotPermitted => XPU_EPERM,
            Self::Quota(_) => XPU_EQUOTA,
            Self::Resources(error) => system(error.raw_os_error()),
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for RevokeError {
    fn status(self) -> c_int {
        match self {
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::NoSuchProcess => XPU_ENOPROCESS,
            Self::NotPermitted => XPU_EPERM,
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for ReleaseError {
    fn status(self) -> c_int {
        match self {
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::NotPermitted => XPU_EPERM,
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for ConnectError {
    fn status(self) -> c_int {
        match self {
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::NotPermitted => XPU_EPERM,
            Self::Busy => XPU_EBUSY,
            Self::Lost => XPU_ELOST,
            Self::NoPath => XPU_ENOPATH,
            Self::Quota(_) => XPU_EQUOTA,
            Self::Resources(error) | Self::Own(error) => system(error.raw_os_error()),
            Self::Lane(_) => XPU_EPROTO,
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for SpawnError {
    fn status(self) -> c_int {
        match self {
            Self::NoSuchPu(_) => XPU_ENOPU,
            Self::NotPermitted => XPU_EPERM,
            Self::NoSuchFifo => XPU_ENOFIFO,
            Self::TooLong => XPU_ETOOLONG,
            Self::NotStarted(error) => {
                set_errno(error.raw_os_error());
                XPU_ENOTSTARTED
            }
            Self::Quota(_) => XPU_EQUOTA,
            Self::Resources(error) => system(error.raw_os_error()),
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for WriteError {
    fn status(self) -> c_int {
        match self {
            Self::Full => XPU_EAGAIN,
            Self::TimedOut => XPU_ETIMEDOUT,
            Self::TooLong { .. } => XPU_ETOOLONG,
            Self::Ended(end) => end.status(),
            Self::Broken(broken) => broken.status(),
        }
    }
}

impl Status for ReadError {
    fn status(self) -> c_int {
        match self {
            Self::TimedOut => XPU_ETIMEDOUT,
            Self::NoDescriptor(error) => system(Some(error)),
            Self::Ended(end) => end.status(),
            Self::Broken(broken) => broken.status(),
        }
    }
}
