//! `wasmtime serve`: a component of `wasi:http` in an instance of its own for each request.

use crate::error::{BenchError, io};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "wasmtime";
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// It, serving one component. It ends when dropped.
pub struct WasmtimeServe {
    pub address: SocketAddr,
    child: Child,
}

impl WasmtimeServe {
    /// What it calls itself, where it is installed.
    pub fn version() -> Option<String> {
        let said = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        said.starts_with(PROGRAM).then_some(said)
    }

    /// With its pool of instances, which is the fastest that it can be told to be.
    pub fn start(component: &Path) -> Result<Self, BenchError> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.map_err(io("there is no free port"))?;
        let mut serve = Command::new(PROGRAM);
        serve.args(["serve", "-S", "cli", "-O", "pooling-allocator", "--addr", &address.to_string()]).arg(component);
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        os::child::end_with_parent(&mut serve);
        let child = serve.spawn().map_err(|source| BenchError::Program { program: PROGRAM.into(), source })?;
        let serving = Self { address, child };
        let until = Instant::now() + PATIENCE;
        while let Err(source) = TcpStream::connect(address) {
            if Instant::now() > until {
                return Err(BenchError::Silent { who: "wasmtime serve".into(), source });
            }
            crate::pause(LOOK_AGAIN);
        }
        Ok(serving)
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        // One that has ended by itself is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
