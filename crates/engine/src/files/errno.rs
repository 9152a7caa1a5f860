//! Why a call on files is refused, in WASI's numbers.

use crate::RunError;

/// WASI preview 1's `errno`, as far as there is cause for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Errno {
    Access = 2,
    BadDescriptor = 8,
    Exists = 20,
    Fault = 21,
    TooBig = 22,
    IllegalBytes = 25,
    Interrupted = 27,
    Invalid = 28,
    Io = 29,
    IsFolder = 31,
    Loop = 32,
    TooManyOpen = 33,
    NameTooLong = 37,
    NoEntry = 44,
    NoSpace = 51,
    NoSystemCall = 52,
    NotFolder = 54,
    NotEmpty = 55,
    NotSocket = 57,
    NotSupported = 58,
    Overflow = 61,
    NotPermitted = 63,
    ReadOnly = 69,
    NotSeekable = 70,
    NotCapable = 76,
}

/// What a call can come to other than a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is told, and goes on.
    Errno(Errno),
    /// The run ends: a limit is reached.
    Over(RunError),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

pub type Answer<T> = Result<T, Refusal>;
