//! M·Mᵀ of 64-bit integers as a component of `wasi:http/proxy`: request body in, response body out. The same computation as
//! `../examples/matmul.c`.

#[path = "../../../bench/src/pure/product.rs"]
mod product;

use product::multiply;
use wasi::exports::http::incoming_handler::Guest;
use wasi::http::types::{ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::StreamError;

/// What the stream of a response takes at once.
const PIECE: usize = 4096;
const READ: u64 = 1 << 20;

struct Matmul;

wasi::http::proxy::export!(Matmul);

impl Guest for Matmul {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match read(&request).map(|body| multiply(&body)) {
            Ok(product) => answer(out, &product),
            Err(error) => ResponseOutparam::set(out, Err(error)),
        }
    }
}

fn read(request: &IncomingRequest) -> Result<Vec<u8>, ErrorCode> {
    let broken = |_| ErrorCode::InternalError(None);
    let body = request.consume().map_err(broken)?;
    let stream = body.stream().map_err(broken)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ) {
            Ok(some) => bytes.extend(some),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(ErrorCode::InternalError(None)),
        }
    }
}

fn answer(out: ResponseOutparam, bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a response has one body, and this is it");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a body has one stream, and this is it");
    // A client that has gone wants no more of it.
    let _ = bytes.chunks(PIECE).try_for_each(|piece| stream.blocking_write_and_flush(piece));
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
