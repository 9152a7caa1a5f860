//! An artefact loaded, and run: each time in an instance of its own, which is reset and gone once the answer is given: nobody waits
//! for that, and nothing comes in between.

use super::component::{self, ProgramPre};
use super::context::Context;
use super::label::{Form, Label, short};
use super::landing::{Landing, watch_faults};
use super::renew::{Made, Renewing, State};
use super::watch::{Text, Watched, has_signalled, told};
use super::{Wasm, label};
use crate::files::layout;
use crate::{Arena, Finished, LoadError, Program, Run, RunError, TrapKind, Why, wipe};
use std::fs::File;
use std::mem;
use std::os::unix::fs::FileExt;
use std::time::Instant;
use wasmtime::component::Component;
use wasmtime::{InstancePre, Module, ModuleExport, Store, Trap};

/// A program, in the form in which it came.
enum Guest {
    Module(Entrance),
    Component(ProgramPre<Context>),
}

/// A module, linked, and where its instances are entered.
struct Entrance {
    start: InstancePre<Context>,
    entry: ModuleExport,
    memory: Option<ModuleExport>,
    renewable: bool,
}

impl Entrance {
    fn new(wasm: &Wasm, module: &Module, renewable: bool) -> Result<Self, LoadError> {
        let start = wasm.linker.instantiate_pre(module).map_err(refused)?;
        let missing = || LoadError::Refused("it exports no `_start`".into());
        let entry = module.get_export_index("_start").ok_or_else(missing)?;
        Ok(Self { start, entry, memory: module.get_export_index("memory"), renewable })
    }

    fn make(&self, store: &mut Store<Context>) -> wasmtime::Result<Made> {
        let instance = self.start.instantiate(&mut *store)?;
        let bytes = store.data().memory.peak();
        let linear = self.memory.and_then(|memory| instance.get_module_export(&mut *store, &memory));
        let entry = instance.get_module_export(&mut *store, &self.entry).and_then(|entry| entry.into_func());
        let entry = entry.ok_or_else(|| wasmtime::format_err!("`_start` is not a function"))?.typed(&*store)?;
        let state = self.renewable.then(|| State::of(self.start.module(), &instance, store)).flatten();
        Ok(Made::new(entry, linear.and_then(|linear| linear.into_memory()), bytes, state))
    }
}

pub struct Loaded {
    engine: wasmtime::Engine,
    guest: Guest,
    /// Boxed: the signal handler knows where it is.
    text: Box<Text>,
    landing: Landing,
    arena: Arena,
    /// Where instances are made as new.
    pub(super) renewing: Option<Renewing>,
    /// What the last run has left, and its instance if that has ended well.
    left: Option<(Store<Context>, Option<Made>)>,
}

fn refused(error: wasmtime::Error) -> LoadError {
    LoadError::Refused(format!("{error:#}"))
}

impl Loaded {
    pub fn new(wasm: &Wasm, file: &File) -> Result<Self, LoadError> {
        let label = Label::decode(file.metadata()?.len(), |at, into| file.read_exact_at(into, at))?;
        if label.fit != wasm.fit {
            let said = |fit: &label::Fit| format!("compiler and processor {}", short(fit));
            return Err(LoadError::Stale { found: said(&label.fit), here: said(&wasm.fit) });
        }
        let (guest, text) = match label.form {
            form @ (Form::Module | Form::Renewable) => Self::module(wasm, file, form == Form::Renewable)?,
            Form::Component => Self::component(wasm, file, label.object)?,
        };
        let text = Box::new(Text { base: text.0, len: text.1, safe: label.safe });
        let (engine, landing, arena) = (wasm.engine.clone(), wasm.landing.clone(), wasm.arena.clone());
        let renewing = wasm.renewal.as_ref().filter(|_| label.form == Form::Renewable).cloned().map(Renewing::new);
        Ok(Self { engine, guest, text, landing, arena, renewing, left: None })
    }

    fn module(wasm: &Wasm, file: &File, renewable: bool) -> Result<(Guest, (usize, usize)), LoadError> {
        // SAFETY: the label says that our compiler made it for this engine; what it made is believed as far as this
        // process's own confinement goes. The store never changes what it holds.
        let module = unsafe { Module::deserialize_open_file(&wasm.engine, file.try_clone()?) }.map_err(refused)?;
        let text = (module.text().as_ptr() as usize, module.text().len());
        Ok((Guest::Module(Entrance::new(wasm, &module, renewable)?), text))
    }

    fn component(wasm: &Wasm, file: &File, len: u64) -> Result<(Guest, (usize, usize)), LoadError> {
        let mut object = vec![0; len as usize];
        file.read_exact_at(&mut object, 0)?;
        // SAFETY: as in `module`. There is no way to map an open file as a component: it is copied.
        let component = unsafe { Component::deserialize(&wasm.engine, object) }.map_err(refused)?;
        let text = (component.text().as_ptr() as usize, component.text().len());
        Ok((Guest::Component(component::prepare(&wasm.components, &component).map_err(refused)?), text))
    }

    /// Where a run of this context can happen: the instance that waits, if it may have that, or none yet.
    fn place_for(&mut self, mut context: Context) -> (Store<Context>, Option<Made>) {
        if let Some((mut store, made)) = self.renewing.as_mut().and_then(Renewing::take)
            && context.memory.begin_with(made.bytes)
        {
            *store.data_mut() = context;
            return (store, Some(made));
        }
        (new_store(&self.engine, context), None)
    }

    /// Runs the guest, in the instance that was made, or in one that is made now. It is there after it if it ended well.
    fn call(&self, store: &mut Store<Context>, made: &mut Option<Made>) -> wasmtime::Result<()> {
        match &self.guest {
            Guest::Module(entrance) => {
                let instance = made.take().map_or_else(|| entrance.make(store), Ok)?;
                store.data_mut().linear = instance.linear;
                instance.entry.call(store, ())?;
                *made = Some(instance);
                Ok(())
            }
            Guest::Component(program) => {
                let program = program.instantiate(&mut *store)?;
                if program.wasi_cli_run().call_run(&mut *store)?.is_err() {
                    store.data_mut().end = Some(RunError::Exit(1));
                    return Err(Trap::Interrupt.into());
                }
                Ok(())
            }
        }
    }

    fn run_within(&self, run: &Run<'_>, store: &mut Store<Context>, made: &mut Option<Made>) -> Result<(), RunError> {
        let left = run.deadline.saturating_duration_since(Instant::now()).as_nanos();
        let deadline = os::monotonic_ns().saturating_add(u64::try_from(left).unwrap_or(u64::MAX));
        let watched = Watched::begin(run.stop, deadline, &self.text, self.landing.address)
            .map_err(|error| RunError::Engine(format!("deadlines cannot be kept: {error}")))?;
        let called = self.call(store, made);
        let why = told();
        drop(watched);
        let Err(error) = called else { return Ok(()) };
        match (why, store.data_mut().end.take()) {
            (_, Some(RunError::Exit(0))) => Ok(()),
            (_, Some(RunError::Exit(_))) if store.data().memory.refused => Err(out_of_memory(store.data())),
            (_, Some(end)) => Err(end),
            (Some(Why::Cancelled), None) => Err(RunError::Cancelled),
            (Some(Why::Deadline), None) => Err(RunError::Timeout),
            (None, None) => Err(explain(&error, store.data())),
        }
    }
}

fn new_store(engine: &wasmtime::Engine, context: Context) -> Store<Context> {
    let mut store = Store::new(engine, context);
    store.limiter(|context| &mut context.memory);
    watch_faults(&mut store);
    store
}

impl Program for Loaded {
    fn run(&mut self, run: &Run<'_>) -> Finished {
        self.clear();
        let context = match Context::new(run, &self.arena) {
            Ok(context) => context,
            Err(error) => return Finished::failed(error),
        };
        let (mut store, mut made) = self.place_for(context);
        let done = self.run_within(run, &mut store, &mut made);
        let context = store.data_mut();
        let outcome = done.and_then(|()| layout::collect(&mut context.files, run, &mut context.stdout));
        let limit = run.limits.text_bytes;
        let [stdout, stderr] = [&mut context.stdout, &mut context.stderr].map(|text| mem::take(text).into_text(limit));
        let memory_peak = context.memory.peak();
        self.left = Some((store, made));
        Finished { outcome, stdout, stderr, memory_peak }
    }

    fn clear(&mut self) {
        if let Some((store, made)) = self.left.take() {
            match (made, &self.guest, &mut self.renewing) {
                (Some(made), Guest::Module(entrance), Some(renewing)) => {
                    let another = || {
                        let mut store = new_store(&self.engine, Context::nobodys(&self.arena));
                        let made = entrance.make(&mut store).ok()?;
                        Some((store, made))
                    };
                    renewing.keep((store, made), &self.arena, another);
                }
                _ => drop(store),
            }
            wipe::registers();
            wipe::stack();
            if has_signalled() {
                wipe::signal_stack();
            }
        }
    }
}

fn out_of_memory(context: &Context) -> RunError {
    RunError::OutOfMemory { limit: context.memory.limit() }
}

/// What the engine says of a run that ended by itself, and not well.
fn explain(error: &wasmtime::Error, context: &Context) -> RunError {
    let Some(trap) = error.downcast_ref::<Trap>() else {
        return match context.memory.refused {
            true => out_of_memory(context),
            false => RunError::Start(format!("{error:#}")),
        };
    };
    if context.memory.refused && *trap != Trap::StackOverflow {
        return out_of_memory(context);
    }
    RunError::Trap(match trap {
        Trap::StackOverflow => return RunError::StackOverflow,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => TrapKind::Memory,
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::IntegerDivisionByZero => TrapKind::DivideByZero,
        Trap::IntegerOverflow | Trap::BadConversionToInteger => TrapKind::Arithmetic,
        Trap::IndirectCallToNull | Trap::BadSignature => TrapKind::IndirectCall,
        Trap::TableOutOfBounds => TrapKind::Table,
        _ => TrapKind::Other,
    })
}
