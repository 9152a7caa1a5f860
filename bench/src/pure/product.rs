//! M·Mᵀ of 64-bit integers, little-endian: the number of rows, then the rows. A component for `wasmtime serve` is made from this file,
//! too.

/// Nothing from what has another shape.
pub fn multiply(body: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_transpose() {
        let of = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(multiply(&of(&[2, 1, 2, 3, 4])), of(&[2, 5, 11, 11, 25]));
        assert_eq!(multiply(&of(&[1, 3])), of(&[1, 9]));
        assert_eq!(multiply(&of(&[2, 1])), Vec::<u8>::new());
        assert_eq!(multiply(&of(&[0])), of(&[0]));
    }
}
