//! `wasi:cli`, `wasi:clocks` and `wasi:random`: what a program finds around it.

use super::Context;
use super::streams::{InputStream, OutputStream, Pollable};
use super::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr, terminal_stdin,
    terminal_stdout,
};
use super::wasi::clocks::{monotonic_clock, wall_clock};
use super::wasi::random::{insecure, insecure_seed, random};
use crate::RunError;
use crate::files::Refusal;
use crate::wasm::console::Stream;
use wasmtime::component::Resource;
use wasmtime::{Result, Trap};

/// Random bytes of one call, at most.
const MOST: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

impl environment::Host for Context {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        let split = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Ok(self.environment.texts().map(split).collect())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        Ok(self.arguments.texts().collect())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(Some("/".into()))
    }
}

impl exit::Host for Context {
    fn exit(&mut self, status: std::result::Result<(), ()>) -> Result<()> {
        self.end = Some(RunError::Exit(i32::from(status.is_err())));
        Err(Trap::Interrupt.into())
    }
}

impl stdin::Host for Context {
    fn get_stdin(&mut self) -> Result<Resource<InputStream>> {
        Ok(self.resources.push(InputStream::Stdin)?)
    }
}

impl stdout::Host for Context {
    fn get_stdout(&mut self) -> Result<Resource<OutputStream>> {
        Ok(self.resources.push(OutputStream::Stdout)?)
    }
}

impl stderr::Host for Context {
    fn get_stderr(&mut self) -> Result<Resource<OutputStream>> {
        Ok(self.resources.push(OutputStream::Stderr)?)
    }
}

/// That a stream is one; there is nothing that could be done with it.
pub struct Terminal;

impl Context {
    fn terminal(&mut self, stream: Stream) -> Result<Option<Resource<Terminal>>> {
        let is_one = self.console.as_ref().is_some_and(|console| console.is_terminal(stream));
        Ok(is_one.then(|| self.resources.push(Terminal)).transpose()?)
    }
}

impl terminal_input::Host for Context {}

impl terminal_input::HostTerminalInput for Context {
    fn drop(&mut self, terminal: Resource<Terminal>) -> Result<()> {
        self.resources.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::Host for Context {}

impl terminal_output::HostTerminalOutput for Context {
    fn drop(&mut self, terminal: Resource<Terminal>) -> Result<()> {
        self.resources.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for Context {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.terminal(Stream::Input)
    }
}

impl terminal_stdout::Host for Context {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.terminal(Stream::Output)
    }
}

impl terminal_stderr::Host for Context {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.terminal(Stream::Errors)
    }
}

impl monotonic_clock::Host for Context {
    fn now(&mut self) -> Result<u64> {
        Ok(self.monotonic_clock())
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(Context::resolution())
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<Pollable>> {
        Ok(self.resources.push(Pollable::At(when))?)
    }

    fn subscribe_duration(&mut self, when: u64) -> Result<Resource<Pollable>> {
        let when = self.monotonic_clock().saturating_add(when);
        Ok(self.resources.push(Pollable::At(when))?)
    }
}

/// Nanoseconds since 1970, in WASI's form.
pub fn datetime(time: u64) -> wall_clock::Datetime {
    wall_clock::Datetime { seconds: time / SECOND, nanoseconds: (time % SECOND) as u32 }
}

impl wall_clock::Host for Context {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(self.wall_clock()))
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(Context::resolution()))
    }
}

impl Context {
    fn random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        wasmtime::ensure!(len <= MOST, "{len} random bytes at once");
        let mut bytes = vec![0; len as usize];
        match self.random(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(Refusal::Over(end)) => Err(super::over(self, end)),
            Err(Refusal::Errno(errno)) => Err(wasmtime::format_err!("no randomness: {errno:?}")),
        }
    }

    fn random_number(&mut self) -> Result<u64> {
        let bytes = self.random_bytes(8)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl random::Host for Context {
    fn get_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        self.random_number()
    }
}

impl insecure::Host for Context {
    fn get_insecure_random_bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        self.random_number()
    }
}

impl insecure_seed::Host for Context {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random_number()?, self.random_number()?))
    }
}
