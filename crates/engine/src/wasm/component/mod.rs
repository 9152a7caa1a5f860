//! Components: programs that export `wasi:cli/run`, over the same files as preview 1.
//!
//! | module | what it is |
//! |---|---|
//! | [`streams`] | `wasi:io`: streams, and waiting |
//! | [`filesystem`] | `wasi:filesystem` |
//! | [`surroundings`] | `wasi:cli`, `wasi:clocks`, `wasi:random` |
//!
//! Sockets may be imported, as standard libraries do without being asked; calling them ends the run.

pub mod filesystem;
pub mod streams;
pub mod surroundings;

use super::context::Context;
use crate::files::Refusal;
use crate::{CompileError, RunError};
use wasmtime::component::types::{ComponentExtern, ComponentItem};
use wasmtime::component::{Component, HasSelf, Linker, LinkerInstance, ResourceTable, ResourceType};
use wasmtime::{Engine, Trap};

/// Resources of one run at the same time.
const MOST_RESOURCES: usize = 1 << 16;
/// Imports that may stay without an answer.
const UNANSWERED: &str = "wasi:sockets/";

wasmtime::component::bindgen!({
    path: "wit/host.wit",
    world: "program",
    imports: { default: trappable },
    require_store_data_send: false,
    trappable_error_type: {
        "wasi:filesystem/types@0.2.0.error-code" => Refusal,
        "wasi:io/streams@0.2.0.stream-error" => streams::StreamEnd,
    },
    with: {
        "wasi:io/error@0.2.0.error": streams::IoError,
        "wasi:io/poll@0.2.0.pollable": streams::Pollable,
        "wasi:io/streams@0.2.0.input-stream": streams::InputStream,
        "wasi:io/streams@0.2.0.output-stream": streams::OutputStream,
        "wasi:cli/terminal-input@0.2.0.terminal-input": surroundings::Terminal,
        "wasi:cli/terminal-output@0.2.0.terminal-output": surroundings::Terminal,
        "wasi:filesystem/types@0.2.0.descriptor": filesystem::Descriptor,
        "wasi:filesystem/types@0.2.0.directory-entry-stream": filesystem::Listing,
    },
});

pub fn resources() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MOST_RESOURCES);
    table
}

/// Makes all that there is known to `linker`.
pub fn link(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    Program::add_to_linker::<_, HasSelf<Context>>(linker, |context| context)
}

/// The component, ready to be made; a copy of the linker answers what nobody should call.
pub fn prepare(linker: &Linker<Context>, component: &Component) -> wasmtime::Result<ProgramPre<Context>> {
    let mut linker = linker.clone();
    let engine = component.engine();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        if name.starts_with(UNANSWERED) {
            refuse(&mut linker.instance(name)?, instance.exports(engine))?;
        }
    }
    ProgramPre::new(linker.instantiate_pre(component)?)
}

/// Functions that trap, and resources of which there are none but those of `wasi:io`, which sockets are said to share.
fn refuse<'a>(
    linker: &mut LinkerInstance<'_, Context>,
    items: impl Iterator<Item = (&'a str, ComponentExtern<'a>)>,
) -> wasmtime::Result<()> {
    for (name, item) in items {
        match item.ty {
            ComponentItem::ComponentFunc(_) => linker.func_new(name, |mut store, _, _, _| {
                let what = "the network (wasi:sockets)".to_owned();
                Err(over(store.data_mut(), RunError::Forbidden(what)))
            })?,
            ComponentItem::Resource(_) => {
                let kind = match name {
                    "pollable" => ResourceType::host::<streams::Pollable>(),
                    "input-stream" => ResourceType::host::<streams::InputStream>(),
                    "output-stream" => ResourceType::host::<streams::OutputStream>(),
                    _ => ResourceType::host::<()>(),
                };
                linker.resource(name, kind, |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a component is one that can be run here.
pub fn check(engine: &Engine, artefact: &[u8]) -> Result<(), CompileError> {
    use super::compile::{broken, invalid};
    // SAFETY: made by this engine just now.
    let component = unsafe { Component::deserialize(engine, artefact) }.map_err(invalid)?;
    let mut linker = Linker::new(engine);
    link(&mut linker).map_err(broken)?;
    let kind = component.component_type();
    for (name, _) in kind.imports(engine) {
        let known = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/", UNANSWERED];
        if !known.iter().any(|known| name.starts_with(known)) {
            let hint = "Build it as a command: for wasm32-wasip2, with a `main`";
            return Err(CompileError::Unavailable { what: format!("`{name}`"), hint });
        }
    }
    if !kind.exports(engine).any(|(name, _)| name.starts_with("wasi:cli/run@0.2.")) {
        let why = "it exports no `wasi:cli/run`: build it as a program with a `main`, not as a library";
        return Err(CompileError::Invalid(why.into()));
    }
    prepare(&linker, &component).map(drop).map_err(invalid)
}

/// Ends the run: a limit is reached.
fn over(context: &mut Context, end: RunError) -> wasmtime::Error {
    context.end = Some(end);
    Trap::Interrupt.into()
}
