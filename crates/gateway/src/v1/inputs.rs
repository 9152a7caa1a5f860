//! What a body is to functions and flows that work on sets.
//!
//! | body | sets |
//! |---|---|
//! | `multipart/form-data` | each part an item: its name is the set, its file name the item, its header `Item-Key` the key |
//! | JSON that begins with `{"sets":` | these |
//! | anything else | one item, `body`, of the first input set |
//!
//! Items of a form are parts of the body: it lies in memory once. A body without form stays in the pieces in which it came.

use crate::gateway::Gateway;
use crate::http::answer::header;
use crate::http::body::Gathered;
use crate::http::form;
use crate::lambda::Fault;
use crate::route::Exchange;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use sets::multipart::{self, KEY_HEADER};
use sets::{Item, Limits, Set, Sets};

/// The item that a body is which is no sets.
const BODY: &str = "body";
/// A body, and the message to its instance.
const COPIES: usize = 2;
/// Bytes of a body that is read where others do not wait for it.
const LONG: usize = 1 << 20;

/// Inputs as they came.
pub enum Inputs {
    Sets(Sets<Bytes>),
    /// No sets: what it is to be, the function says. In pieces.
    Body(Gathered),
}

/// Reads a request's body, of up to `limit` bytes.
pub async fn read(exchange: &mut Exchange, limit: usize) -> Result<Inputs, Fault> {
    let content_type = header(&exchange.head.headers, CONTENT_TYPE).unwrap_or_default();
    let boundary = form::boundary(content_type).map_err(|error| Fault::invalid_content(error.to_string()))?;
    let body = match exchange.body.take() {
        Some(body) => exchange.gateway.bodies.gather(body, limit, COPIES).await?,
        None => Gathered::default(),
    };
    // Sets are JSON that begins with `{"sets":`.
    if boundary.is_none() && body.first() != Some(b'{') {
        return Ok(Inputs::Body(body));
    }
    let body = body.whole();
    let limits = Limits { bytes: limit as u64, ..Limits::default() };
    if body.len() < LONG {
        return understood(body, boundary, limits);
    }
    exchange.gateway.blocking(move |_: &Gateway| understood(body, boundary, limits)).await?
}

fn understood(body: Bytes, boundary: Option<String>, limits: Limits) -> Result<Inputs, Fault> {
    match boundary {
        Some(boundary) => of_form(&body, &boundary, limits).map(Inputs::Sets),
        None if sets::json::is_sets(&body) => {
            let decoded = sets::json::decode(&body, limits);
            decoded.map(Inputs::Sets).map_err(|error| Fault::invalid_content(error.to_string()))
        }
        None => Ok(Inputs::Body(body.into())),
    }
}

fn of_form(body: &Bytes, boundary: &str, limits: Limits) -> Result<Sets<Bytes>, Fault> {
    let refused = |error: &dyn std::error::Error| Fault::invalid_content(error.to_string());
    let mut sets = Sets::new();
    for part in form::parts(body, boundary, KEY_HEADER, limits.items).map_err(|error| refused(&error))? {
        let item =
            multipart::Part { name: &part.name, file_name: part.file_name.as_deref(), key: part.extra.as_deref() };
        multipart::place(&mut sets, item, part.data).map_err(|error| refused(&error))?;
        if sets.len() > limits.sets {
            return Err(Fault::invalid_content(format!("The form has items of more than {} sets.", limits.sets)));
        }
    }
    Ok(sets)
}

impl Inputs {
    /// For what takes its first set by this name, if it takes any.
    pub fn into_sets(self, first: Option<&str>) -> Sets<Bytes> {
        match self {
            Self::Sets(sets) => sets,
            Self::Body(body) => {
                first.map(|name| Set::new(name, vec![Item::new(BODY, 0, body.whole())])).into_iter().collect()
            }
        }
    }

    /// For functions that take events.
    pub fn into_event(self) -> Bytes {
        match self {
            Self::Sets(sets) => sets::json::encode(&sets).into(),
            Self::Body(body) => body.whole(),
        }
    }
}
