//! M·Mᵀ of 64-bit integers, little-endian: the number of rows, then the rows. A component for `wasmtime serve` is made from this file,
//! too.

/// Rows that one is multiplied with at a time, as the guests' own source has it.
const AT_ONCE: usize = 4;

/// Nothing from what has another shape.
pub fn multiply(body: &[u8]) -> Vec<u8> {
    let mut numbers = body.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    let n = numbers.next().unwrap_or(0) as usize;
    let m: Vec<u64> = numbers.collect();
    if n.checked_mul(n) != Some(m.len()) {
        return Vec::new();
    }
    let mut product = Vec::with_capacity(8 + m.len() * 8);
    product.extend((n as u64).to_le_bytes());
    for row in m.chunks_exact(n.max(1)) {
        for others in m.chunks(AT_ONCE * n) {
            let sums = times(row, others);
            product.extend(sums[..others.len() / n].iter().flat_map(|sum| sum.to_le_bytes()));
        }
    }
    product
}

/// A row times each of some others, which lie one behind the other.
fn times(row: &[u64], others: &[u64]) -> [u64; AT_ONCE] {
    let mut sums = [0u64; AT_ONCE];
    let n = row.len();
    if others.len() == AT_ONCE * n {
        let each: [&[u64]; AT_ONCE] = std::array::from_fn(|at| &others[at * n..][..n]);
        for (k, factor) in row.iter().enumerate() {
            for (sum, other) in sums.iter_mut().zip(each) {
                *sum = sum.wrapping_add(factor.wrapping_mul(other[k]));
            }
        }
        return sums;
    }
    for (sum, other) in sums.iter_mut().zip(others.chunks_exact(n)) {
        *sum = row.iter().zip(other).fold(0, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_transpose() {
        let of = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(multiply(&of(&[2, 1, 2, 3, 4])), of(&[2, 5, 11, 11, 25]));
        assert_eq!(multiply(&of(&[1, 3])), of(&[1, 9]));
        let five: Vec<u64> = std::iter::once(5).chain(1..=25).collect();
        let product = multiply(&of(&five));
        let number = |i: usize, j: usize| {
            u64::from_le_bytes(product[8 + (i * 5 + j) * 8..][..8].try_into().expect("eight bytes"))
        };
        for (i, j) in (0..25).map(|at| (at / 5, at % 5)) {
            assert_eq!(number(i, j), (0..5).map(|k| five[1 + i * 5 + k] * five[1 + j * 5 + k]).sum::<u64>(), "{i} {j}");
        }
        assert_eq!(multiply(&of(&[2, 1])), Vec::<u8>::new());
        assert_eq!(multiply(&of(&[0])), of(&[0]));
    }
}
