//! The role `lichen worker`: from an empty process to a serving one.

use crate::{Server, TalkError, serve};
use sandbox::config::EnginesConfig;
use sandbox::container::{Containers, Ground, OpenError, Settings};
use sandbox::{Backends, pure};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::unix::AsyncFd;

/// How long calls to the shim may take that are under way when the worker ends.
const LAST_CALLS: Duration = Duration::from_millis(100);

/// After this a worker has started, and has made the first templates.
const START: Duration = Duration::from_secs(2);
/// How often it lets go of what it has used since: much of that is needed once, for a template or an engine.
const AGAIN: Duration = Duration::from_secs(120);

/// Why a worker could not start, or had to stop.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Ground(#[from] OpenError),
    #[error(transparent)]
    Engines(#[from] pure::NurseryError),
    #[error("no event loop")]
    Loop(#[source] io::Error),
    #[error("the process that makes sandboxes has ended unasked")]
    NurseryLost,
    #[error("the conversation with the control plane broke")]
    Talk(#[source] TalkError),
}

/// Runs the worker until its control plane or its supervisor is gone. Must be called before the process has a second
/// thread. `shim` is where its PU's shim listens; `socket` leads to the control plane; `lifeline` becomes readable, or ends,
/// when the supervisor is gone.
pub fn run(
    settings: &Settings,
    engines: EnginesConfig,
    shim: PathBuf,
    socket: OwnedFd,
    lifeline: OwnedFd,
) -> Result<(), RunError> {
    let single_user = !rustix::process::geteuid().is_root();
    let ground = Ground::prepare(settings)?;
    let ground_of_engines = pure::Ground::prepare(settings.stage.clone(), settings.unit.number, single_user, engines)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Loop)?;
    let result = runtime.block_on(async {
        let containers = Containers::open(ground).map_err(RunError::Loop)?;
        let server = Server::new(socket).map_err(RunError::Loop)?;
        let lifeline = AsyncFd::new(lifeline).map_err(RunError::Loop)?;
        let engines = pure::Pure::open(ground_of_engines, containers.tree()).map_err(RunError::Loop)?;
        let backend = Backends::new(vec![containers.clone(), engines.clone()]);
        let serving = tokio::spawn(serve(Arc::new(backend), server, Some(shim)));
        let stop = serving.abort_handle();
        tokio::spawn(async {
            tokio::time::sleep(START).await;
            loop {
                os::resident::let_go();
                tokio::time::sleep(AGAIN).await;
            }
        });
        let result = tokio::select! {
            result = serving => result.unwrap_or(Ok(())).map_err(RunError::Talk),
            _ = lifeline.readable() => Ok(()),
            () = containers.lost() => Err(RunError::NurseryLost),
            () = engines.lost() => Err(RunError::NurseryLost),
        };
        stop.abort();
        engines.end_all();
        containers.end_all();
        Arc::clone(&containers).close().await;
        result
    });
    // A thread may wait for a shim that does not answer.
    runtime.shutdown_timeout(LAST_CALLS);
    result
}
