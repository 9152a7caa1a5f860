/*
 * hostile: everything that a function must not be able to do to its platform. For tests of the engines; never deploy it.
 *
 * The text of the first item of `in` says what is tried:
 *
 *   loop            computes for ever                        loop-memory     the same, with loads and stores
 *   trap            an illegal instruction (unreachable)     divide          divides by zero
 *   null            writes to address 0                      wild            writes far above its memory
 *   stack           recurses for ever                        memory          takes and touches all memory that there is
 *   exit7           fails with code 7                        panic           fails with code 101
 *   bomb            one output as large as it gets           many            a million empty outputs
 *   fine            nothing wrong: one item, `fine`
 *
 * What only one kind of program can try, and what ends with code 64 in the other: hostile_elf.c (system calls, forged
 * descriptors) and hostile_wasi.c (calls of WASI with wrong arguments).
 */
#include "lichen.h"

enum { UNKNOWN = 64 };

#ifdef __wasm__
#include "hostile_wasi.c"
#else
#include "hostile_elf.c"
#endif

static int is(const lichen_item *mode, const char *name) {
    size_t i = 0;
    while (i < mode->len && name[i] && ((const char *)mode->data)[i] == name[i])
        i++;
    return i == mode->len && !name[i];
}

static int recurse(volatile char *above) {
    volatile char here[512];
    here[0] = 1;
    return above[0] ? recurse(here) + here[0] : 0;
}

static int take_all_memory(void) {
    for (size_t size = 1 << 26; size >= 4096;) {
        volatile char *got = lichen_alloc(size);
        if (!got)
            size /= 2;
        else
            for (size_t at = 0; at < size; at += 4096)
                got[at] = 1;
    }
    return 0;
}

static int bomb(void) {
    size_t size = SIZE_MAX / 2 + 1;
    char *data = NULL;
    while (size > 4096 && !(data = lichen_alloc(size)))
        size /= 2;
    for (size_t at = 0; at < size; at++)
        data[at] = 'x';
    for (;;) {
        lichen_item item = {.data = data, .len = size};
        int error = lichen_put("out", &item);
        if (error)
            return error == LICHEN_ENOMEM ? 0 : -error;
    }
}

static int many(void) {
    for (int i = 0; i < 1000000; i++) {
        lichen_item item = {.data = "", .len = 0};
        int error = lichen_put("out", &item);
        if (error)
            return -error;
    }
    return 0;
}

static int fine(void) {
    lichen_item item = {"fine", 4, 0, "fine", 4};
    return lichen_put("out", &item) ? 1 : 0;
}

static void compute(const lichen_item *mode) {
    volatile long *memory = lichen_alloc(4096);
    if (is(mode, "loop"))
        for (;;)
            __asm__ volatile("");
    if (is(mode, "loop-memory"))
        for (long i = 0;; i++)
            memory[i & 511] += i;
    if (is(mode, "trap"))
        __builtin_trap();
    memory[0] = 0;
    memory[1] = 7;
    if (is(mode, "divide"))
        memory[1] /= memory[0];
    if (is(mode, "null"))
        *(volatile char *)memory[0] = 1;
    if (is(mode, "wild"))
        *(volatile char *)(memory[0] + (long)0xfffff000) = 1;
}

int lichen_main(void) {
    lichen_item mode;
    if (lichen_get(lichen_input("in"), 0, &mode))
        return 1;
    compute(&mode);
    if (is(&mode, "stack"))
        return recurse((volatile char *)"1");
    if (is(&mode, "memory"))
        return take_all_memory();
    if (is(&mode, "exit7"))
        return 7;
    if (is(&mode, "panic"))
        return 101;
    if (is(&mode, "bomb"))
        return bomb();
    if (is(&mode, "many"))
        return many();
    if (is(&mode, "fine"))
        return fine();
    return of_this_kind(&mode);
}
