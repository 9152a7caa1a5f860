/*
 * The whole library as one source, for whichever target it is compiled for:
 *
 *   x86-64, no C library                       elf.c   and heap.c
 *   --target=wasm32 -nostdlib, no C library    wasi.c  and heap.c
 *   --target=wasm32-wasi, with wasi-libc       wasi.c  and malloc
 */
#include "lichen.h"

#if defined(__wasi__)
#include <stdlib.h>
#include <string.h>
#elif defined(__wasm__) || defined(__x86_64__)
#define LICHEN_ALONE 1
#else
#error "lichen.c is for wasm32 (clang --target=wasm32-wasi, or wasm32 -nostdlib) and for x86-64 (-nostdlib)"
#endif

#include "names.c"

#ifdef LICHEN_ALONE
#include "heap.c"
#else
void *lichen_alloc(size_t size) { return malloc(size); }
void lichen_free(void *memory) { free(memory); }
#endif

#ifdef __wasm__
#include "wasi.c"
#else
#include "elf.c"
#endif
