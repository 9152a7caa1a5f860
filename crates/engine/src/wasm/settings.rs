//! How code is compiled and run: the same for who compiles and who runs, or an artefact would not fit.

use super::label::{Fit, VERSION};
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel, PoolingAllocationConfig,
};

/// Native stack of a guest. A thread that runs guests needs this and half a megabyte more.
pub const STACK: usize = 1 << 20;
/// Of a linear memory, kept in memory from one run to the next, after its bytes are reset.
const KEPT_BYTES: usize = 2 << 20;
/// Linear memories that are set up and wait for their program's next run.
pub const SLOTS: u32 = 64;
/// A component may be made of several modules.
const INSTANCES: u32 = 1024;
/// Elements of a table.
const TABLE: usize = 1 << 17;

/// What the compiler is called in artefacts: they are made again when it changes, be it by a single fix.
const COMPILER: &str = "wasmtime 48.0.8";

fn common() -> Config {
    let mut config = Config::new();
    let version = ModuleVersionStrategy::Custom(COMPILER.into());
    config.module_version(version).expect("a short name");
    config
        .wasm_memory64(false)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false)
        .max_wasm_stack(STACK)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed);
    config
}

/// For a process that compiles.
pub fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&common())
}

/// For a process that runs: memories lie ready in a pool.
pub fn runner() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(SLOTS)
        .total_tables(SLOTS)
        .total_core_instances(INSTANCES)
        .total_component_instances(SLOTS)
        .max_memories_per_module(4)
        .max_tables_per_module(4)
        .table_elements(TABLE)
        .max_memory_size(4 << 30)
        .max_unused_warm_slots(SLOTS / 2)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// What artefacts must have been made by and for. The code store keeps them under this.
pub fn fit(engine: &Engine) -> Fit {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.update(VERSION.to_le_bytes());
    hasher.0.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_called_by_its_version() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"wasmtime\"\n")).unwrap();
        let version = COMPILER.strip_prefix("wasmtime ").unwrap();
        assert!(
            entry.contains(&format!("version = \"{version}\"")),
            "name the version of Cargo.lock in COMPILER: {entry}"
        );
    }

    #[test]
    fn who_compiles_and_who_runs_fit_together() {
        assert_eq!(fit(&compiler().unwrap()), fit(&runner().unwrap()));
    }
}
