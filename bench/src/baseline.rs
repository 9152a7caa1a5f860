//! What Lichen is measured against, each as fast as it can be made: the same interpreter, packages and handler, started
//! for every request by `crun run` or as a plain process, behind the thinnest server possible; and the least that an HTTP
//! server does at all.

mod bundle;
mod hello;
mod interpreter;
mod oneshot;
mod wasmtime;

pub use bundle::Bundle;
pub use hello::Hello;
pub use interpreter::{Interpreter, Language};
pub use oneshot::{OneShot, Running, Start, has_crun, prepare_thread};
pub use wasmtime::WasmtimeServe;

#[cfg(test)]
mod tests;
