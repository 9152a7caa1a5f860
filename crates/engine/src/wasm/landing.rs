//! One instruction that traps, at an address that is known: where guests are sent that must end.
//!
//! It is the `unreachable` of a module of our own. Where exactly it lies is found by running into it once.

use super::watch::on_trap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmtime::unix::StoreExt;
use wasmtime::{Engine, Instance, Module, Store};

/// `(module (func (export "land") unreachable))`
const CODE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x08\x01\x04land\0\0\x0a\x05\x01\x03\0\0\x0b";

/// The module stays loaded as long as this is there, and so as long as any program.
#[derive(Clone)]
pub struct Landing {
    _module: Module,
    pub address: usize,
}

impl Landing {
    pub fn new(engine: &Engine) -> wasmtime::Result<Self> {
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        let module = Module::new(engine, CODE)?;
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[])?;
        let land = instance.get_typed_func::<(), ()>(&mut store, "land")?;
        // SAFETY: the handler reads the context that it is given, writes an atomic, and leaves the trap to the engine.
        unsafe {
            store.set_signal_handler(|_, _, context| {
                FOUND.store(super::watch::at(context), Ordering::SeqCst);
                false
            });
        }
        let trapped = land.call(&mut store, ()).is_err();
        let address = FOUND.load(Ordering::SeqCst);
        wasmtime::ensure!(trapped && address != 0, "the landing does not trap");
        Ok(Self { _module: module, address })
    }
}

/// Makes faults that are the watch's go its way, and leaves all others to the engine.
pub fn watch_faults<T>(store: &mut Store<T>) {
    // SAFETY: `on_trap` touches only atomics, and makes system calls.
    unsafe { store.set_signal_handler(|signal, _, context: *const c_void| on_trap(signal, context)) };
}
