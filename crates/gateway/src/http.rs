//! HTTP as all faces of the gateway use it: connections, bodies, paths, and who may call.

pub mod amz_json;
pub mod answer;
pub mod body;
pub mod form;
pub mod guard;
pub mod json;
pub mod loops;
pub mod path;
pub mod request_id;
pub mod serve;
pub mod tick;

pub use answer::{Body, Response};
pub use body::BodyError;
