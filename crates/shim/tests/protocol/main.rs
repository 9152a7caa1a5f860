//! The protocol between shims, piece by piece: what no world of the simulation says so plainly.

mod bed;
mod fold;
mod hostile;
mod races;
#[path = "../simulation/random.rs"]
mod random;
