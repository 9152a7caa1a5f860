//! From WebAssembly to an artefact. In a process of its own: compilers are large, and the code is a stranger's.

use super::label::{Form, Label};
use super::{expose, preview1, settings};
use crate::CompileError;
use object::{Object, ObjectSection, ObjectSymbol};
use wasmtime::{Engine, ExternType, Linker, Module, UnknownImportError};

/// Code that is taken, at most.
pub const LARGEST: u64 = 256 << 20;
const MAGIC: &[u8] = b"\0asm";

/// What artefacts that are made here fit: who compares it with the one under which an artefact was stored knows whether
/// to compile again.
pub fn fit() -> Result<super::label::Fit, CompileError> {
    Ok(settings::fit(&settings::compiler().map_err(broken)?))
}

/// Whether these are a module's or a component's bytes, as far as the first ones tell.
pub fn is_wasm(code: &[u8]) -> bool {
    code.starts_with(MAGIC)
}

/// Compiles a module or component, after checking that it is one that can be run here.
pub fn compile(code: &[u8]) -> Result<Vec<u8>, CompileError> {
    if !is_wasm(code) {
        let found = String::from_utf8_lossy(&code[..code.len().min(8)]).escape_debug().to_string();
        return Err(CompileError::NotThis { expected: "WebAssembly (a .wasm file)", found });
    }
    if code.len() as u64 > LARGEST {
        return Err(CompileError::TooLarge { bytes: code.len() as u64, limit: LARGEST });
    }
    let engine = settings::compiler().map_err(broken)?;
    let component = code.get(4..8) == Some(&[0x0d, 0, 1, 0]);
    let exposed = if component { None } else { expose::expose(code) };
    let (form, made) = match &exposed {
        Some(code) => (Form::Renewable, engine.precompile_module(code)),
        None if component => (Form::Component, engine.precompile_component(code)),
        None => (Form::Module, engine.precompile_module(code)),
    };
    let mut artefact = made.map_err(invalid)?;
    match form {
        Form::Component => super::component::check(&engine, &artefact)?,
        Form::Module | Form::Renewable => check_module(&engine, &artefact)?,
    }
    let safe =
        safe_ranges(&artefact).ok_or_else(|| CompileError::Invalid("the compiler's output is not an ELF".into()))?;
    let label = Label { form, object: artefact.len() as u64, fit: settings::fit(&engine), safe };
    artefact.extend_from_slice(&label.encode());
    Ok(artefact)
}

/// Our own compiler cannot be had.
pub fn broken(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(format!("the compiler cannot be set up: {error:#}"))
}

pub fn invalid(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(format!("{error:#}"))
}

fn check_module(engine: &Engine, artefact: &[u8]) -> Result<(), CompileError> {
    // SAFETY: made by this engine just now.
    let module = unsafe { Module::deserialize(engine, artefact) }.map_err(invalid)?;
    let mut linker = Linker::new(engine);
    preview1::link(&mut linker).map_err(broken)?;
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() == 0 && start.results().len() == 0 => {}
        Some(_) => return Err(CompileError::Invalid("its `_start` is not a function without parameters".into())),
        None => {
            let why = "it exports no `_start`: build it as a program with a `main`, not as a library";
            return Err(CompileError::Invalid(why.into()));
        }
    }
    linker.instantiate_pre(&module).map(drop).map_err(|error| match error.downcast_ref::<UnknownImportError>() {
        Some(unknown) => {
            let what = format!("`{}.{}`", unknown.module(), unknown.name());
            let hint = "Build it for wasm32-wasip1 (WASI preview 1), without JavaScript, threads or sockets";
            CompileError::Unavailable { what, hint }
        }
        None => invalid(error),
    })
}

/// Whether a symbol is a guest's function, within which it may be stopped: not so the ways in, and those to the host. Only
/// the beginning of a symbol is the compiler's; what comes after the function's number is the guest's.
fn is_safe(name: &str) -> bool {
    let module = name.strip_prefix("wasm[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    module.is_some_and(|rest| rest.starts_with("]::function["))
}

fn safe_ranges(artefact: &[u8]) -> Option<Box<[(u32, u32)]>> {
    let object = object::File::parse(artefact).ok()?;
    let text = object.section_by_name(".text")?;
    let mut ranges: Vec<(u32, u32)> = object
        .symbols()
        .filter(|symbol| symbol.section_index() == Some(text.index()) && symbol.name().is_ok_and(is_safe))
        .map(|symbol| (symbol.address() as u32, (symbol.address() + symbol.size()) as u32))
        .filter(|(start, end)| start < end)
        .collect();
    ranges.sort_unstable();
    // Neighbours, and the padding between them, are one.
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start < last.1 + 16 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    Some(merged.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_names_do_not_move_it_out_of_reach() {
        for safe in ["wasm[0]::function[1]", "wasm[12]::function[3]::x]::array_to_wasm_trampoline[1]"] {
            assert!(is_safe(safe), "{safe}");
        }
        for way_in in
            ["wasm[0]::array_to_wasm_trampoline[1]", "component-trampolines[1]-array-call-x", "module_start[0]"]
        {
            assert!(!is_safe(way_in), "{way_in}");
        }
    }
}
