/*
 * Pure functions for Lichen in C: input sets in, output sets out, no input or output beside them.
 *
 * One source is good for WebAssembly and for static x86-64 programs: compile it together with lichen.c (README.md has
 * the command lines). A function defines lichen_main and calls what is declared here. It is started anew for each
 * request, with fresh memory: nothing has to be given back.
 *
 * This is no C library. A program built for wasm32-wasi has wasi-libc beside it; the two others have what is below, and
 * memcpy, memmove, memset and memcmp.
 */
#ifndef LICHEN_H
#define LICHEN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* no such set or item: a number that none has */
#define LICHEN_NONE ((size_t)-1)

/* done */
#define LICHEN_OK 0

/* the memory of this run is used up */
#define LICHEN_ENOMEM (-1)

/* no set of that name or number: output sets are those that the function was deployed with */
#define LICHEN_ENOSET (-2)

/* no item of that number */
#define LICHEN_ENOITEM (-3)

/* a name of an item is 1 to 255 bytes, without '/' and NUL, and neither "." nor ".." */
#define LICHEN_ENAME (-4)

/* the platform refused to read or to write: a limit of outputs is reached */
#define LICHEN_EIO (-5)

/* One item of a set. Names and data are not terminated by a NUL. */
typedef struct lichen_item {
    const char *name;
    size_t name_len;
    /* what flows group items by; 0 unless somebody said otherwise */
    uint64_t key;
    const void *data;
    size_t len;
} lichen_item;

/* Yours. 0: done, the outputs are those that were put. Anything else up to 255: the request fails, and says the number. */
int lichen_main(void);

/* The number of input sets. They are numbered from 0. */
size_t lichen_inputs(void);

/* The name of an input set, or NULL; its length goes to *len. It is terminated by no NUL. */
const char *lichen_input_name(size_t set, size_t *len);

/* The number of the input set of this name, or LICHEN_NONE. */
size_t lichen_input(const char *name);

/* The number of items in an input set; 0 for a set that is not there. */
size_t lichen_items(size_t set);

/* An item of an input set. Its bytes stay where they are until the function returns. */
int lichen_get(size_t set, size_t index, lichen_item *item);

/*
 * Adds an item to the output set of this name. The item's name is copied; its data is not, and must stay as it is until
 * lichen_main returns. An item without a name (name_len 0) is named by its number in the set.
 */
int lichen_put(const char *set, const lichen_item *item);

/* Memory, aligned to 16 bytes, or NULL. What is given back can be had again. */
void *lichen_alloc(size_t size);
void lichen_free(void *memory);

#ifdef __cplusplus
}
#endif

#endif
