//! The wasm engine, with programs as text, and with C programs where there is a compiler for them.

mod components;
mod hostile;
mod programs;
mod secret;
mod suite;
mod support;
mod wasi;
