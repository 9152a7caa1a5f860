//! Who runs functions, as pollers see it.

use bytes::Bytes;
use std::pin::Pin;

/// What came of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invoked {
    /// The function answered, with an error object where it `failed`.
    Answered { body: Bytes, failed: bool, version: String },
    /// There was no room for it, or the platform could not do it at this moment: nothing is known to have run.
    Later { reason: String },
    /// It can never be done.
    Impossible { reason: String },
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken(pub String);

pub type Promise<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who runs functions, and takes messages for destinations.
pub trait Invoker: Send + Sync + 'static {
    /// Runs the function that this ARN means.
    fn invoke(&self, function: &str, request_id: String, event: Bytes) -> Promise<Invoked>;
    /// Takes a message for a destination: once this has come back well, it will arrive there.
    fn tell(&self, destination: &str, message: Bytes) -> Promise<Result<(), NotTaken>>;
    /// ARN of the role that a function has: what it would read its stream as.
    fn role(&self, function: &str) -> String;
    /// The longest event that a function takes, in bytes.
    fn event_max(&self) -> usize;
}
