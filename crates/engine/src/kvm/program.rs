//! The engine, and its programs' runs.

use super::kick::Kick;
use super::tables::{CALLS, Frame, PAGE_FAULT, SYSTEM_CALL};
use super::verdict::{self, Asked, Verdict};
use super::vm::{Exit, Machine};
use crate::native::context::View;
use crate::native::contexts::Contexts;
use crate::native::image::{Image, Region, Rights};
use crate::native::layout::PAGE;
use crate::native::loaded::Loaded;
use crate::native::{inputs, outputs};
use crate::{Arena, Artefact, Engine, Finished, Kind, Limits, LoadError, Program, Run, RunError, SelfTestError, Stop};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs of the self-test.
const TESTS: usize = 32;

/// Runs native functions in a virtual machine: one after the other, on the thread that has made it.
#[derive(Debug)]
pub struct Kvm {
    arena: Arena,
    machine: Arc<Mutex<Shell>>,
    /// The longest that an empty run may take in the self-test.
    limit_us: u64,
}

#[derive(Debug)]
struct Shell {
    machine: Machine,
    kick: Kick,
}

#[derive(Debug)]
struct Native {
    loaded: Loaded,
    arena: Arena,
    shell: Arc<Mutex<Shell>>,
    contexts: Contexts,
}

impl Kvm {
    /// An engine whose guests' memory is in `arena`, with the machine that [`device`](crate::device) makes. Its self-test refuses
    /// a machine on which an empty run takes longer than `limit_us` microseconds.
    pub fn new(arena: Arena, device: OwnedFd, limit_us: u64) -> io::Result<Self> {
        let shell = Shell { machine: Machine::new(device)?, kick: Kick::new()? };
        Ok(Self { arena, machine: Arc::new(Mutex::new(shell)), limit_us })
    }

    fn program(&self, loaded: Loaded) -> Native {
        let contexts = Contexts::new(&self.arena);
        Native { loaded, arena: self.arena.clone(), shell: self.machine.clone(), contexts }
    }
}

impl Engine for Kvm {
    fn kind(&self) -> Kind {
        Kind::Kvm
    }

    fn self_test(&mut self) -> Result<(), SelfTestError> {
        let (image, pages) = test_program();
        let wrong = |error: &dyn std::fmt::Display| SelfTestError::Wrong(error.to_string());
        let loaded = Loaded::of(&self.arena, &image.encode(&pages)).map_err(|error| wrong(&error))?;
        let mut program = self.program(loaded);
        let stop = Stop::new().map_err(|error| wrong(&error))?;
        let mut times = Vec::with_capacity(TESTS);
        for _ in 0..TESTS {
            stop.begin();
            let begin = Instant::now();
            let limits = Limits { memory: 1 << 20, ..Limits::default() };
            let (deadline, stop) = (begin + Duration::from_secs(2), &stop);
            let (inputs, outputs, folders, arguments, environment) = (&[], &[], &[], &[], &[]);
            let run = Run {
                inputs,
                outputs,
                folders,
                arguments,
                environment,
                stdin: None,
                streams: None,
                limits,
                deadline,
                stop,
                deterministic: true,
            };
            program.run(&run).outcome.map_err(|error| wrong(&error))?;
            times.push(begin.elapsed().as_micros() as u64);
        }
        times.sort_unstable();
        let (took_us, limit_us) = (times[TESTS / 2], self.limit_us);
        if took_us > limit_us { Err(SelfTestError::Slow { took_us, limit_us }) } else { Ok(()) }
    }

    fn load(&mut self, code: &Artefact) -> Result<Box<dyn Program>, LoadError> {
        Ok(Box::new(self.program(Loaded::new(&self.arena, code, Kind::Kvm)?)))
    }
}

/// Adds the numbers from 1000 to 1, takes 500500 away, and ends with what is left as its exit code.
fn test_program() -> (Image, Vec<u8>) {
    const CODE: [u8; 33] = [
        0xb9, 0xe8, 0x03, 0, 0, // mov ecx, 1000
        0x31, 0xff, // xor edi, edi
        0x01, 0xcf, // add edi, ecx
        0xff, 0xc9, // dec ecx
        0x75, 0xfa, // jnz to the addition
        0x81, 0xef, 0x14, 0xa3, 0x07, 0, // sub edi, 500500
        0x89, 0x3c, 0x25, 0, 0x10, 0x01, 0, // mov [0x11000], edi
        0xb8, 0xe7, 0, 0, 0, // mov eax, exit_group
        0x0f, 0x05, // syscall
    ];
    let mut pages = vec![0; 2 * PAGE as usize];
    pages[..CODE.len()].copy_from_slice(&CODE);
    let region = |address, offset, rights| Region { address, memory: PAGE, stored: PAGE, offset, rights };
    let regions = vec![region(0x1_0000, 0, Rights::Execute), region(0x1_1000, PAGE, Rights::Write)];
    (Image { entry: 0x1_0000, system_data: 0x1_1000, regions }, pages)
}

impl Program for Native {
    fn run(&mut self, run: &Run<'_>) -> Finished {
        let mut context = match self.contexts.take(run.limits.memory) {
            Ok(context) => context,
            Err(error) => return Finished::failed(error),
        };
        let shell = self.shell.clone();
        let mut shell = shell.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = inputs::write(&mut context, &self.loaded, run, self.arena.file()).and_then(|view| {
            let ended = self.execute(&mut shell, &view, run);
            // Whatever came of it, the guest has no memory from here on.
            shell.machine.hide().map_err(platform)?;
            ended.map(|()| view)
        });
        let peak = context.weigh();
        let mut finished = match ended {
            Ok(view) => outputs::take(context, &view, &self.loaded, run, &mut self.contexts),
            Err(error) => {
                self.contexts.give(context);
                Finished::failed(error)
            }
        };
        finished.memory_peak = peak;
        finished
    }

    fn clear(&mut self) {
        self.contexts.clear();
    }
}

fn platform(error: io::Error) -> RunError {
    RunError::Engine(error.to_string())
}

impl Native {
    fn execute(&self, shell: &mut Shell, view: &View, run: &Run<'_>) -> Result<(), RunError> {
        let Shell { machine, kick } = shell;
        machine.show(&view.mappings, self.arena.file()).map_err(platform)?;
        machine.reset(self.loaded.image.entry, view.stack.end).map_err(platform)?;
        let _watched = kick.watch(run.deadline, run.stop);
        loop {
            if run.stop.is_cancelled() {
                return Err(RunError::Cancelled);
            }
            let mut vector = match machine.enter().map_err(platform)? {
                Exit::Exception(vector) => vector,
                Exit::Interrupted if Instant::now() >= run.deadline => return Err(RunError::Timeout),
                Exit::Interrupted => continue,
            };
            let mut frame = machine.frame();
            // Where ring 0 is emulated, a system call stays in ring 3, and meets a page there that it may not touch.
            if vector == SYSTEM_CALL || (vector == PAGE_FAULT && frame.pointer == CALLS) {
                let stack = if vector == SYSTEM_CALL { None } else { Some(frame.stack) };
                frame = machine.call_frame(stack).map_err(platform)?;
                vector = SYSTEM_CALL;
            }
            let asked = self.asked(machine, &frame).map_err(platform)?;
            match verdict::of(vector, &frame, &asked, view, run.limits.memory) {
                Verdict::Done => return Ok(()),
                Verdict::ThreadPointer(pointer) => machine.go_on(&frame, pointer).map_err(platform)?,
                Verdict::Error(error) => return Err(error),
            }
        }
    }

    fn asked(&self, machine: &Machine, frame: &Frame) -> io::Result<Asked> {
        let registers = machine.registers()?;
        let code = self.loaded.bytes(frame.pointer, 2).and_then(|bytes| bytes.try_into().ok());
        let [number, first, second] = [registers.rax, registers.rdi, registers.rsi];
        Ok(Asked { number, first, second, address: machine.fault_address()?, code })
    }
}
