/*
 * The native floor of `lichen bench pure`: a pure function's own source in a loop, in one process, with nothing around it.
 *
 *   loop N SECONDS      prints how many runs there were, and the nanoseconds of each
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "matmul.c"

#define SAMPLES_MAX 2000000

static lichen_item input;
static _Alignas(64) char memory[1 << 20];
static size_t used;
static volatile int64_t sink;

size_t lichen_input(const char *name) {
    return name ? 0 : LICHEN_NONE;
}

int lichen_get(size_t set, size_t index, lichen_item *item) {
    *item = input;
    return (int)(set + index);
}

void *lichen_alloc(size_t size) {
    void *at = memory + used;
    used += (size + 63) / 64 * 64;
    return used <= sizeof memory ? at : NULL;
}

int lichen_put(const char *set, const lichen_item *item) {
    sink = ((const int64_t *)item->data)[1] + (set != NULL);
    return 0;
}

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(int argc, char **argv) {
    size_t n = argc > 1 ? (size_t)atoi(argv[1]) : 1;
    long long end = now() + (argc > 2 ? atoi(argv[2]) : 1) * 1000000000LL;
    int64_t *numbers = aligned_alloc(64, (8 + n * n * 8 + 63) / 64 * 64);
    long long *taken = malloc(SAMPLES_MAX * sizeof *taken);
    if (!numbers || !taken)
        return 1;
    numbers[0] = (int64_t)n;
    for (size_t i = 0; i < n * n; i++)
        numbers[1 + i] = (int64_t)(i * 2654435761u % 1000);
    input = (lichen_item){"body", 4, 0, numbers, 8 + n * n * 8};
    size_t runs = 0;
    for (long long at = now(), next; at < end; at = next) {
        used = 0;
        if (lichen_main())
            return 2;
        next = now();
        if (runs < SAMPLES_MAX)
            taken[runs] = next - at;
        runs++;
    }
    printf("%zu\n", runs);
    for (size_t i = 0; i < runs && i < SAMPLES_MAX; i += 1 + runs / 10000)
        printf("%lld\n", taken[i]);
    return 0;
}
