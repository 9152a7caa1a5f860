//! An engine process, confined: one thread hears the worker, the other one computes (`engine::serve`).

use super::message::{FromEngine, Missing, NotLoaded, Terms, ToEngine};
use super::package;
use crate::conversation::{MESSAGE_MAX, hear, say};
use engine::serve::{self, Attachment, Desk, Order, Serving, Told};
use engine::{Artefact, Engine, Kind, LoadError, Prepared, Wiping};
use interconnect::channel::Channel;
use os::process;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Of every process of this program; only engines switch it on, and so leave nothing of a run behind in what they freed.
#[global_allocator]
static MEMORY: Wiping = Wiping::new();

/// How long the engine looks for more before it sleeps. Whoever asks it is on its processor as a rule, and has to have that
/// to ask for more.
const SPIN: Duration = Duration::ZERO;
/// Bytes of stack of the thread that computes: guests have their own.
const STACK: usize = 8 << 20;

/// Is the engine: its exit status.
pub fn run(socket: OwnedFd, prepared: Prepared, for_long: bool) -> i32 {
    MEMORY.switch_on();
    let Ok(desk) = Desk::new() else { return 1 };
    let (desk, socket) = (Arc::new(desk), Arc::new(socket));
    let (its_desk, its_socket) = (desk.clone(), socket.clone());
    let compute = move || {
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compute(its_desk, &its_socket, prepared, for_long)
        }));
        // Whatever ends this thread ends the process: its runs are over, and the worker starts another.
        process::exit_now(if died.is_ok() { 0 } else { 101 })
    };
    if std::thread::Builder::new().name("compute".into()).stack_size(STACK).spawn(compute).is_err() {
        return 1;
    }
    let mut buffer = vec![0; MESSAGE_MAX];
    // A worker that is gone, or that cannot be understood, is none.
    while let Ok((order, descriptors)) = hear::<ToEngine>(&*socket, &mut buffer) {
        obey(&desk, &socket, order, descriptors);
    }
    0
}

fn tell(socket: &OwnedFd, told: &FromEngine) {
    // The other thread hears that the worker is gone.
    let _ = say(socket, told, &[]);
}

fn compute(desk: Arc<Desk>, socket: &Arc<OwnedFd>, mut prepared: Prepared, for_long: bool) {
    let Some((shelf, window)) = prepared.shelf.take() else { process::exit_now(1) };
    let (engines, missing) = engines(prepared);
    let kinds = engines.iter().map(|engine| engine.kind()).collect();
    let ready = FromEngine::Ready { kinds, missing };
    let window: Vec<_> = window.iter().flat_map(|window| [window.arena.as_fd(), window.board.as_fd()]).collect();
    // The other thread hears that the worker is gone.
    let _ = say(&**socket, &ready, &window);
    drop(window);
    os::resident::let_go();
    let its = socket.clone();
    let report = move |what: Told| tell(&its, &said(what));
    match Serving::new(engines, desk, shelf, SPIN, for_long, report) {
        Ok(serving) => serving.run(),
        Err(_) => process::exit_now(1),
    }
}

/// The engines that this machine can have, and why it has not the others.
fn engines(prepared: Prepared) -> (Vec<Box<dyn Engine>>, Missing) {
    let (mut engines, mut missing): (Vec<Box<dyn Engine>>, _) = (Vec::new(), Vec::new());
    for (kind, made) in prepared.engines() {
        match made.and_then(|mut engine| engine.self_test().map(|()| engine)) {
            Ok(engine) => engines.push(engine),
            Err(error) => missing.push((kind, error.to_string())),
        }
    }
    (engines, missing)
}

fn said(told: Told) -> FromEngine {
    match told {
        Told::Watches { number } => FromEngine::Watches { number },
        Told::Ended { instance, broken } => FromEngine::Ended { instance, broken },
        Told::Loaded { program, result } => {
            let failed = |error: LoadError| NotLoaded {
                stale: matches!(error, LoadError::Stale { .. } | LoadError::Damaged(_)),
                reason: error.to_string(),
            };
            FromEngine::Loaded { program, result: result.map_err(failed) }
        }
    }
}

fn obey(desk: &Desk, socket: &OwnedFd, order: ToEngine, descriptors: Vec<OwnedFd>) {
    let given = match order {
        ToEngine::Load { program, kind } => load(desk, program, kind, descriptors),
        ToEngine::Unload { program } => desk.give(Order::Unload { program }).is_ok(),
        ToEngine::Detach { instance } => desk.give(Order::Detach { instance }).is_ok(),
        ToEngine::BesideLong { there } => desk.give(Order::BesideLong { there }).is_ok(),
        ToEngine::Name { number, others } => desk.give(Order::Name { number, others }).is_ok(),
        ToEngine::Watch { number } => first(descriptors, |board| desk.give(Order::Watch { number, board })),
        ToEngine::Lend { number } => first(descriptors, |arena| desk.give(Order::Lend { number, arena })),
        ToEngine::Part { number } => desk.give(Order::Part { number }).is_ok(),
        ToEngine::Release { run, items: Some(items) } => desk.give(Order::Release { run, items }).is_ok(),
        ToEngine::Release { run, items: None } => desk.give(Order::Forget { run }).is_ok(),
        ToEngine::Leave => desk.give(Order::Leave).is_ok(),
        ToEngine::Attach { instance, program, terms } => {
            let attached = attach(desk, instance, program, terms, descriptors);
            if !attached {
                tell(socket, &FromEngine::Ended { instance, broken: true });
            }
            true
        }
    };
    if !given {
        // Its worker would wait for an answer.
        process::exit_now(1);
    }
}

fn first<E>(descriptors: Vec<OwnedFd>, give: impl FnOnce(OwnedFd) -> Result<(), E>) -> bool {
    descriptors.into_iter().next().is_some_and(|descriptor| give(descriptor).is_ok())
}

fn load(desk: &Desk, program: u64, kind: Kind, descriptors: Vec<OwnedFd>) -> bool {
    let Some(file) = descriptors.into_iter().next() else { return false };
    desk.give(Order::Load { program, artefact: Artefact { kind, file: File::from(file) } }).is_ok()
}

fn attach(desk: &Desk, instance: u64, program: u64, terms: Terms, descriptors: Vec<OwnedFd>) -> bool {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next();
    let (Some(region), Some(down), Some(up), Some(log)) = (next(), next(), next(), next()) else { return false };
    let Some(fixed) = next().map_or(Some(Vec::new()), package::fixed) else { return false };
    let Ok(channel) = Channel::attach(&region, down, up) else { return false };
    let terms = serve::Terms {
        name: terms.name,
        timeout: Duration::from_millis(terms.timeout_ms),
        limits: engine::Limits {
            memory: terms.memory,
            output_bytes: terms.output_bytes,
            text_bytes: terms.text_bytes as usize,
            ..engine::Limits::default()
        },
        arguments: terms.arguments,
        environment: terms.environment,
        outputs: terms.outputs,
        deterministic: terms.deterministic,
        inputs: sets::Limits::default(),
        fixed,
    };
    let attachment = Attachment { instance, program, channel, log, terms };
    desk.give(Order::Attach(Box::new(attachment))).is_ok()
}
