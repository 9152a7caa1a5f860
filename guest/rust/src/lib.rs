//! Pure functions for Lichen in Rust: input sets in, output sets out, no input or output beside them.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! use lichen_guest::{Failure, Inputs, Outputs};
//!
//! lichen_guest::function!(echo);
//!
//! fn echo<'a>(inputs: &'a Inputs, outputs: &mut Outputs<'a>) -> Result<(), Failure> {
//!     for item in inputs.set("in")?.items() {
//!         let item = item?;
//!         outputs.put("out", item.name, item.key, item.data)?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! One source is good for `wasm32-wasip1` (where `std` may be used too) and for a static program of x86-64
//! (`x86_64-unknown-linux-gnu` without a C library, where there is `core` and `alloc`). The README has the command lines.
//!
//! | module | for |
//! |---|---|
//! | `elf`, with `heap` and `memory` | static programs: Dandelion's interface |
//! | `wasi` | WebAssembly: folders and files |
//! | `name` | names of items and their keys |
//!
//! Deliberately without traits to implement and without a builder: a function is a function.
#![no_std]

extern crate alloc;
#[cfg(any(target_os = "wasi", test))]
extern crate std;

mod name;

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(test)))]
mod heap;
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(test)))]
mod memory;
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(test)))]
#[path = "elf.rs"]
mod platform;

#[cfg(target_os = "wasi")]
#[path = "wasi.rs"]
mod platform;

#[cfg(not(test))]
pub use platform::{Inputs, Outputs, Set, start};

/// One item of an input set. Its bytes stay where they are until the function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    pub name: &'a str,
    /// What flows group items by; 0 unless somebody said otherwise.
    pub key: u64,
    pub data: &'a [u8],
}

/// Why something could not be had, or be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no such set: output sets are those that the function was deployed with.
    NoSet,
    /// A name is 1 to 255 bytes, without `/` and NUL, and neither `.` nor `..`.
    Name,
    /// The platform refused: a limit is reached.
    Refused,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoSet => "there is no set of that name",
            Self::Name => "an item's name is 1 to 255 bytes, without '/' and NUL, and neither '.' nor '..'",
            Self::Refused => "the platform refused to read or write an item: a limit is reached",
        })
    }
}

impl core::error::Error for Error {}

/// The function failed, with this exit code; 0 counts as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure(pub u8);

/// Exit codes from 120 on, so that they are not taken for the function's own.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(match error {
            Error::NoSet => 120,
            Error::Name => 121,
            Error::Refused => 122,
        })
    }
}

/// The exit code for what a function has returned.
#[doc(hidden)]
pub fn code(result: Result<(), Failure>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(Failure(code)) => i32::from(code.max(1)),
    }
}

/// Says which function is the program: `fn(&'a Inputs, &mut Outputs<'a>) -> Result<(), Failure>`.
#[cfg(target_os = "wasi")]
#[macro_export]
macro_rules! function {
    ($run:path) => {
        /// What the C library's start code calls.
        #[unsafe(no_mangle)]
        extern "C" fn __main_void() -> i32 {
            $crate::start(|inputs, outputs| $run(inputs, outputs))
        }
    };
}

/// Says which function is the program: `fn(&'a Inputs, &mut Outputs<'a>) -> Result<(), Failure>`.
#[cfg(not(target_os = "wasi"))]
#[macro_export]
macro_rules! function {
    ($run:path) => {
        /// What the library's start code calls, once there is a stack.
        #[unsafe(no_mangle)]
        extern "C" fn lichen_main() -> i32 {
            $crate::start(|inputs, outputs| $run(inputs, outputs))
        }
    };
}
