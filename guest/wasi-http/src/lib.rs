//! M·Mᵀ of 64-bit integers as a component of `wasi:http/proxy`: request body in, response body out. The same computation as
//! `../examples/matmul.c`.

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

fn multiply(body: &[u8]) -> Vec<u8> {
    let mut numbers = body.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    let n = numbers.next().unwrap_or(0) as usize;
    let m: Vec<u64> = numbers.collect();
    if n.checked_mul(n) != Some(m.len()) {
        return Vec::new();
    }
    let transposed: Vec<u64> = (0..n * n).map(|at| m[at % n * n + at / n]).collect();
    let mut product = vec![0u64; n * n];
    for (row, to) in m.chunks_exact(n.max(1)).zip(product.chunks_exact_mut(n.max(1))) {
        for (factor, column) in row.iter().zip(transposed.chunks_exact(n)) {
            to.iter_mut().zip(column).for_each(|(sum, number)| *sum = sum.wrapping_add(factor.wrapping_mul(*number)));
        }
    }
    std::iter::once(n as u64).chain(product).flat_map(u64::to_le_bytes).collect()
}
