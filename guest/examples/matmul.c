/*
 * matmul: M times its own transpose. The item of `in` is 8 bytes, the number of rows n, and n × n numbers of 64 bits;
 * little-endian, row by row. The item of `out` has the same shape. Sums wrap around.
 *
 * Each number of the product is that of two rows. Four at a time share what is read of one of them, and their sums stay in registers.
 */
#include "lichen.h"

enum { AT_ONCE = 4 };

/* WebAssembly's vectors have two numbers of 64 bits, and no processor multiplies those as quickly as one after the other. */
#ifdef __wasm__
#define SCALAR _Pragma("clang loop vectorize(disable)")
#define EXPORTED __attribute__((export_name("multiply")))
void multiply(const uint64_t *, uint64_t *, size_t);
#else
#define SCALAR
#define EXPORTED static
#endif

/* `one` times each of the `count` rows from `others` on. */
static inline void times(const uint64_t *one, const uint64_t *others, uint64_t *to, size_t n, size_t count) {
    uint64_t sums[AT_ONCE] = {0};
    SCALAR
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < count; j++)
            sums[j] += one[k] * others[j * n + k];
    for (size_t j = 0; j < count; j++)
        to[j] = sums[j];
}

/* Exported, so that it can be measured alone. */
EXPORTED void multiply(const uint64_t *m, uint64_t *restrict product, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        for (; j + AT_ONCE <= n; j += AT_ONCE)
            times(m + i * n, m + j * n, product + i * n + j, n, AT_ONCE);
        if (j < n)
            times(m + i * n, m + j * n, product + i * n + j, n, n - j);
    }
}

/* Exit codes: 1 no item, 2 not of that shape, 3 no memory. */
int lichen_main(void) {
    lichen_item item;
    if (lichen_get(lichen_input("in"), 0, &item))
        return 1;
    const uint64_t *numbers = item.data;
    if (item.len < 8 || (uintptr_t)numbers % 8 || numbers[0] > 1 << 14)
        return 2;
    size_t n = (size_t)numbers[0];
    if (item.len != 8 + n * n * 8)
        return 2;
    uint64_t *product = lichen_alloc(8 + n * n * 8);
    if (!product)
        return 3;
    product[0] = n;
    multiply(numbers + 1, product + 1, n);
    lichen_item out = {"product", 7, item.key, product, item.len};
    return lichen_put("out", &out) ? 3 : 0;
}
