//! A whole gateway on a socket of its own, spoken to over HTTP. No worker: what needs instances is tested end to end.

mod functions;
mod http;
mod own;
mod place;
