//! New code of pure functions, looked at before it is anybody's: a program that is none is refused with the reason.

use super::fault::Fault;
use crate::gateway::Gateway;
use runtime::registry::{Content, FunctionId};

/// Refuses what a worker says to be no program of its kind. Where no worker is there to ask, it comes out at the first use.
/// Blocks for as long as compiling takes; within a tokio runtime.
pub fn check(gateway: &Gateway, id: &FunctionId, content: &Content) -> Result<(), Fault> {
    let function = gateway.registry.preview(id, content)?;
    if !function.kind.is_pure() {
        return Ok(());
    }
    let refusal = tokio::runtime::Handle::current().block_on(gateway.dispatcher.refusal(&function));
    match refusal {
        None => Ok(()),
        Some(reason) => Err(Fault::invalid_parameter(format!("{} cannot run: {reason}", function.handler))),
    }
}
