//! How far the function's runtime is, in AWS's words, and what it may do next.
//!
//! ```text
//! Started ─┬─ next ──────────────────────────────► Ready ─► Running ─┬─ response ─► InvocationResponse ──────╮
//!          ├─ restore/next ► RestoreReady ► Restoring ─┬─ next ─► ▲  ╰─ error ────► InvocationErrorResponse ─┤
//!          │                 restore/error ◄───────────╯          ╰── next ◄── RuntimeResponseSentState ◄────╯
//!          ╰─ init/error ─► InitError
//! ```

/// A state of AWS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Started,
    InitError,
    RestoreReady,
    Restoring,
    RestoreError,
    Ready,
    Running,
    InvocationResponse,
    InvocationErrorResponse,
    ResponseSent,
}

impl Phase {
    /// As AWS's messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::RestoreReady => "RestoreReady",
            Self::Restoring => "Restoring",
            Self::RestoreError => "RuntimeRestoreErrorState",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InvocationResponse => "InvocationResponse",
            Self::InvocationErrorResponse => "InvocationErrorResponse",
            Self::ResponseSent => "RuntimeResponseSentState",
        }
    }

    /// Whether this one may follow when the runtime asks for it. One that runs may ask again for what it runs.
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::InitError | Self::RestoreReady => self == Self::Started,
            Self::RestoreError => self == Self::Restoring,
            Self::Ready => {
                matches!(self, Self::Started | Self::Restoring | Self::Ready | Self::Running | Self::ResponseSent)
            }
            Self::InvocationResponse | Self::InvocationErrorResponse => self == Self::Running,
            _ => false,
        }
    }
}
