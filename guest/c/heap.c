/*
 * A heap for programs without a C library, and the four functions that compilers call on their own. Part of lichen.c.
 *
 * A run is short and its memory is its own, so this is simple: blocks up to 1 MiB are powers of two with a list of free
 * ones for each, larger ones are in one list, first fit. What was never used lies above `heap.next` and is taken from
 * there. Memory is never given back to the platform before the run ends.
 *
 * Where the heap is, heap_more says: the platform's word (elf.c) or growing memory (wasi.c).
 */
enum { HEAP_HEAD = 16, HEAP_SMALLEST = 5, HEAP_LARGEST = 20, HEAP_ROUND = 65536 };

/* Before each block. `size` is that of head and block together. */
struct block {
    size_t size;
    struct block *next;
};
_Static_assert(sizeof(struct block) <= HEAP_HEAD, "blocks are aligned to 16 bytes");

static struct {
    uintptr_t next, end;
    struct block *free[HEAP_LARGEST + 1];
    struct block *large;
} heap;

/* Makes [heap.next, heap.end) at least `size` bytes long; 0 where that cannot be. */
static int heap_more(size_t size);

/* The number of the list for blocks of this size, HEAP_LARGEST + 1 for large ones; rounds the size up. */
static unsigned heap_class(size_t *size) {
    for (unsigned class = HEAP_SMALLEST; class <= HEAP_LARGEST; class++)
        if (*size <= (size_t)1 << class) {
            *size = (size_t)1 << class;
            return class;
        }
    *size = (*size + HEAP_ROUND - 1) & ~(size_t)(HEAP_ROUND - 1);
    return HEAP_LARGEST + 1;
}

static struct block *heap_again(unsigned class, size_t size) {
    struct block **at = class > HEAP_LARGEST ? &heap.large : &heap.free[class];
    while (*at && (*at)->size < size)
        at = &(*at)->next;
    struct block *found = *at;
    if (found)
        *at = found->next;
    return found;
}

void *lichen_alloc(size_t size) {
    if (size > SIZE_MAX - HEAP_HEAD - HEAP_ROUND)
        return NULL;
    size += HEAP_HEAD;
    unsigned class = heap_class(&size);
    struct block *block = heap_again(class, size);
    if (!block) {
        if (heap.end - heap.next < size && !heap_more(size))
            return NULL;
        block = (struct block *)heap.next;
        heap.next += size;
        block->size = size;
    }
    return (char *)block + HEAP_HEAD;
}

void lichen_free(void *memory) {
    if (!memory)
        return;
    struct block *block = (struct block *)((char *)memory - HEAP_HEAD);
    size_t size = block->size;
    unsigned class = heap_class(&size);
    struct block **list = class > HEAP_LARGEST ? &heap.large : &heap.free[class];
    block->next = *list;
    *list = block;
}

#ifdef __x86_64__
void *memcpy(void *to, const void *from, size_t len) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t len) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(byte) : "memory");
    return start;
}
#else
#ifndef __wasm_bulk_memory__
#error "compile with -mbulk-memory: without it, memcpy would be made of itself"
#endif
void *memcpy(void *to, const void *from, size_t len) { return __builtin_memcpy(to, from, len); }
void *memset(void *to, int byte, size_t len) { return __builtin_memset(to, byte, len); }
#endif

void *memmove(void *to, const void *from, size_t len) {
    if ((uintptr_t)to - (uintptr_t)from >= len)
        return memcpy(to, from, len);
    char *out = to;
    const char *in = from;
    /* The asm keeps compilers from making this loop the call that it is in. */
    while (len--) {
        out[len] = in[len];
        __asm__ volatile("" : : : "memory");
    }
    return to;
}

int memcmp(const void *one, const void *other, size_t len) {
    const unsigned char *a = one, *b = other;
    for (size_t i = 0; i < len; i++)
        if (a[i] != b[i])
            return a[i] - b[i];
    return 0;
}
