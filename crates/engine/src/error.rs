//! What can go wrong, in words that a person can act on.
//!
//! Each [`RunError`] has a [`RunError::code`]: the `errorType` that clients see is `Pure.` and the code.

use std::io;

/// Why code was refused at deploy.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("this is not {expected}: its first bytes are {found}")]
    NotThis { expected: &'static str, found: String },
    #[error("the code is not valid: {0}")]
    Invalid(String),
    #[error("the code asks for {what}, which pure functions do not have. {hint}")]
    Unavailable { what: String, hint: &'static str },
    #[error("the code has {bytes} bytes; at most {limit} are taken")]
    TooLarge { bytes: u64, limit: u64 },
}

/// Why an engine did not take an artefact in.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("this is not an artefact of Lichen's, or it is damaged: {0}. Deploy the function again")]
    Damaged(&'static str),
    #[error("the artefact is for {found} and this engine is {here}. Compile the code again")]
    Stale { found: String, here: String },
    #[error("the artefact is of kind {found}; this engine runs {here}")]
    Kind { found: crate::Kind, here: crate::Kind },
    #[error("the code cannot be loaded: {0}")]
    Refused(String),
    #[error("the artefact cannot be read")]
    Read(#[from] io::Error),
}

/// Why an engine is not used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    #[error("this machine lacks {0}")]
    Lacks(String),
    #[error("the self-test gave a wrong answer: {0}")]
    Wrong(String),
    #[error("the self-test took {took_us} µs for what should take at most {limit_us} µs")]
    Slow { took_us: u64, limit_us: u64 },
}

/// Why a run has no outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("the function ended with exit code {0}")]
    Exit(i32),
    #[error("{0}")]
    Trap(TrapKind),
    #[error("the function was ended by signal {signal} ({name})")]
    Signal { signal: i32, name: &'static str },
    #[error("the function asked for {0}, which pure functions may not do: they have no system calls")]
    Forbidden(String),
    #[error("the function was not done at its deadline. Give it more time, or less to do")]
    Timeout,
    #[error("nobody waits for the answer any more: the run was cancelled")]
    Cancelled,
    #[error("the function needs more than its {limit} bytes of memory. Deploy it with more")]
    OutOfMemory { limit: u64 },
    #[error("the function's stack is full: it calls itself too deeply, or has too much on its stack")]
    StackOverflow,
    #[error("the function's outputs have more than {limit} bytes")]
    OutputTooLarge { limit: u64 },
    #[error("the function's outputs have more than {limit} items")]
    TooManyItems { limit: usize },
    #[error("the function's outputs cannot be taken: {0}")]
    BadOutput(String),
    #[error("the function's inputs cannot be given to it: {0}")]
    BadInput(String),
    /// With the places of all such items among the inputs.
    #[error("the item {name} was left with an engine that has it no more")]
    Gone { name: String, lost: Vec<usize> },
    #[error("the code cannot be started: {0}")]
    Start(String),
    #[error("the engine has no room left for what the function makes: {0} bytes are held. Try again")]
    Busy(u64),
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// What a program did that it cannot go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrapKind {
    #[error("the function touched memory that it does not have")]
    Memory,
    #[error("the function came to code that it says is never reached (often: a panic or an abort)")]
    Unreachable,
    #[error("the function divided by zero")]
    DivideByZero,
    #[error("a number did not fit: integer overflow, or a conversion of a float that has no such integer")]
    Arithmetic,
    #[error("the function called through a pointer that is no function of that type")]
    IndirectCall,
    #[error("the function used a table beyond its end")]
    Table,
    #[error("the function ran an illegal instruction")]
    IllegalInstruction,
    #[error("the function did something that it cannot go on from")]
    Other,
}

impl RunError {
    /// The error's name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exit(_) => "Exit",
            Self::Trap(_) => "Trap",
            Self::Signal { .. } => "Signal",
            Self::Forbidden(_) => "Forbidden",
            Self::Timeout => "Timeout",
            Self::Cancelled => "Cancelled",
            Self::OutOfMemory { .. } => "OutOfMemory",
            Self::StackOverflow => "StackOverflow",
            Self::OutputTooLarge { .. } => "OutputTooLarge",
            Self::TooManyItems { .. } => "TooManyItems",
            Self::BadOutput(_) => "BadOutput",
            Self::BadInput(_) => "BadInput",
            Self::Gone { .. } => "Gone",
            Self::Start(_) => "Start",
            Self::Busy(_) => "Busy",
            Self::Engine(_) => "Engine",
        }
    }

    /// Whether the platform is to blame, and not the function or what it was given.
    pub fn is_platforms(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Engine(_) | Self::Gone { .. })
    }
}
