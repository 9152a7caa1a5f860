/*
 * matmul: M times its own transpose. The item of `in` is 8 bytes, the number of rows n, and n × n numbers of 64 bits;
 * little-endian, row by row. The item of `out` has the same shape. Sums wrap around.
 *
 * The loops are in an order in which the inner one goes along rows: compilers make vectors of it.
 */
#include "lichen.h"

static void transpose(const int64_t *from, int64_t *to, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            to[k * n + i] = from[i * n + k];
}

static void multiply(const int64_t *a, const int64_t *b, uint64_t *restrict c, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t *restrict row = c + i * n;
        for (size_t j = 0; j < n; j++)
            row[j] = 0;
        for (size_t k = 0; k < n; k++) {
            uint64_t factor = (uint64_t)a[i * n + k];
            for (size_t j = 0; j < n; j++)
                row[j] += factor * (uint64_t)b[k * n + j];
        }
    }
}

/* Exit codes: 1 no item, 2 not of that shape, 3 no memory. */
int lichen_main(void) {
    lichen_item item;
    if (lichen_get(lichen_input("in"), 0, &item))
        return 1;
    const int64_t *numbers = item.data;
    if (item.len < 8 || (uintptr_t)numbers % 8 || numbers[0] < 0 || numbers[0] > 1 << 14)
        return 2;
    size_t n = (size_t)numbers[0];
    if (item.len != 8 + n * n * 8)
        return 2;
    int64_t *transposed = lichen_alloc(n * n * 8);
    uint64_t *product = lichen_alloc(8 + n * n * 8);
    if (!transposed || !product)
        return 3;
    transpose(numbers + 1, transposed, n);
    product[0] = n;
    multiply(numbers + 1, transposed, product + 1, n);
    lichen_item out = {"product", 7, item.key, product, item.len};
    return lichen_put("out", &out) ? 3 : 0;
}
