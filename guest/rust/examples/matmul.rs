//! matmul: M times its own transpose. The item of `in` is 8 bytes, the number of rows n, and n × n numbers of 64 bits;
//! little-endian, row by row. The item of `out` has the same shape. Sums wrap around.
//!
//! The loops are in an order in which the inner one goes along rows: the compiler makes vectors of it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use lichen_guest::{Failure, Inputs, Outputs};

const NO_ITEM: Failure = Failure(1);
const NOT_SQUARE: Failure = Failure(2);

lichen_guest::function!(square);

fn square<'a>(inputs: &'a Inputs, outputs: &mut Outputs<'a>) -> Result<(), Failure> {
    let item = inputs.set("in")?.item(0).ok_or(NO_ITEM)??;
    let numbers: Vec<u64> = item.data.chunks_exact(8).map(number).collect();
    let (&rows, matrix) = numbers.split_first().ok_or(NOT_SQUARE)?;
    let n = usize::try_from(rows).map_err(|_| NOT_SQUARE)?;
    if n.checked_mul(n) != Some(matrix.len()) || item.data.len() % 8 != 0 {
        return Err(NOT_SQUARE);
    }
    let product = multiply(matrix, &transpose(matrix, n), n);
    let bytes: Vec<u8> = [rows].iter().chain(&product).flat_map(|number| number.to_le_bytes()).collect();
    outputs.put("out", "product", item.key, bytes)?;
    Ok(())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn transpose(from: &[u64], n: usize) -> Vec<u64> {
    (0..n * n).map(|at| from[at % n * n + at / n]).collect()
}

fn multiply(a: &[u64], b: &[u64], n: usize) -> Vec<u64> {
    let mut product = vec![0_u64; n * n];
    for (row, factors) in product.chunks_exact_mut(n.max(1)).zip(a.chunks_exact(n.max(1))) {
        for (&factor, along) in factors.iter().zip(b.chunks_exact(n)) {
            for (sum, &number) in row.iter_mut().zip(along) {
                *sum = sum.wrapping_add(factor.wrapping_mul(number));
            }
        }
    }
    product
}
