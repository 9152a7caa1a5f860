//! The daemon, as processes meet it: what it promises, what it withstands, what it outlives.

mod bed;
mod calls;
mod evented;
mod hostile;
mod many;
mod processes;
mod relay;
