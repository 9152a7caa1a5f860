/*
 * A native function that does what the first byte of its first item says, good or bad. By itself: no SDK, no C library.
 * What follows the first byte is its argument.
 */
typedef unsigned long u64;

struct set { const char *name; u64 name_len, first; };
struct item { const char *name; u64 name_len; void *data; u64 len, key; };
struct system_data {
    int exit_code;
    u64 heap_begin, heap_end, input_sets_len;
    struct set *input_sets;
    u64 output_sets_len;
    struct set *output_sets;
    struct item *input_items, *output_items;
};
struct system_data __dandelion_system_data = {.exit_code = 256};
#define S __dandelion_system_data

static volatile u64 sink;
static const char constant[] = "constant";

static u64 call(u64 number, u64 a, u64 b, u64 c) {
    u64 answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return answer;
}

__attribute__((noreturn)) static void leave(int code) {
    S.exit_code = code;
    call(231, code, 0, 0);
    __builtin_unreachable();
}

/* One item in the first set. */
static struct item *one(void *data, u64 len) {
    static struct item item;
    item = (struct item){"out", 3, data, len, 5};
    S.output_items = &item;
    S.output_sets[0].first = 0;
    for (u64 i = 1; i <= S.output_sets_len; i++)
        S.output_sets[i].first = 1;
    return &item;
}

__attribute__((noinline)) static u64 recurse(u64 depth) {
    volatile char frame[512];
    frame[depth & 511] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static u64 number(const char *text, u64 len) {
    u64 value = 0;
    for (u64 i = 0; i < len; i++)
        value = value * 10 + (u64)(text[i] - '0');
    return value;
}

/* All input items, as they are, in the first output set. */
static void echo(void) {
    S.output_items = S.input_items;
    S.output_sets[0].first = 0;
    for (u64 i = 1; i <= S.output_sets_len; i++)
        S.output_sets[i].first = S.input_sets[S.input_sets_len].first;
}

static void good(char what, char *heap, u64 argument) {
    struct item *item;
    switch (what) {
    case 'e': echo(); leave(0);
    case 'i': echo(); S.exit_code = 0; __asm__ volatile("int $0x20"); break;
    case 'c': one((void *)constant, 8); leave(0);
    case 'k': /* as many bytes as are asked for */
        for (u64 i = 0; i < argument; i++)
            heap[i] = (char)(i % 251);
        one(heap, argument);
        leave(0);
    case 'm': /* the whole heap, to its last byte */
        for (u64 i = 0; i < S.heap_end - S.heap_begin; i += 4096)
            heap[i] = 1;
        heap[S.heap_end - S.heap_begin - 1] = 1;
        one(heap, 1);
        leave(0);
    case 'f': /* thread-local storage */
        call(158, 0x1002, (u64)heap, 0);
        *(u64 *)heap = 77;
        u64 seen;
        __asm__ volatile("mov %%fs:0, %0" : "=r"(seen));
        one(heap, seen == 77);
        leave(0);
    case 't': /* text */
        item = (struct item *)heap;
        item[0] = (struct item){"out", 3, (void *)constant, 8, 0};
        item[1] = (struct item){"stdout", 6, "hello\n", 6, 0};
        S.output_items = item;
        S.output_sets[0].first = 0;
        S.output_sets[1].first = 1;
        S.output_sets[2].first = 2;
        leave(0);
    case 'z': /* what a new process sees: all of its memory that it has not written itself, and its registers */
        item = one(heap, 0);
        for (u64 *at = (u64 *)heap; at < (u64 *)S.heap_end; at += 64)
            item->len += *at != 0;
        leave(0);
    }
}

static void bad(char what, char *heap, u64 argument) {
    u64 gate;
    struct item *item;
    switch (what) {
    case 'l': for (;;) sink++;
    case 'u': __asm__ volatile("ud2"); break;
    case 'n': *(volatile int *)0 = 1; break;
    case 'd': sink = argument / (sink * 0); break;
    case 'b': __asm__ volatile("int3"); break;
    case 'h': __asm__ volatile("hlt"); break;
    case 'x': leave((int)argument);
    case 'X': call(60, argument, 0, 0); break;
    case 'r': recurse(0); break;
    case '4': /* 4 GB of memory */
        for (u64 i = 0; i < 4ul << 30; i += 4096)
            heap[i] = 1;
        leave(0);
    case 's': call(argument, 0, 0, 0); leave(0);
    case 'S': /* by the gate of 32-bit programs */
        __asm__ volatile("int $0x80" : "=a"(gate) : "a"(20ul) : "memory");
        leave(0);
    case 'y': __asm__ volatile("sysenter"); leave(0);
    case 'v': /* by the page that old programs call */
        ((long (*)(void *))0xffffffffff600400ul)(0);
        leave(0);
    case 'Y': call(0x40000000ul | 39, 0, 0, 0); leave(0);
    case 'p': /* from where the platform's own calls came */
        ((void (*)(void))0x4800020ffeul)();
        leave(0);
    case 'P': /* what is left of the platform's code must be of no use */
        __asm__ volatile("mov $9, %%eax; mov %0, %%r13; mov %1, %%r12; jmp *%2" ::"r"(heap + 4096), "r"((u64)&bad),
                         "r"(0x4800021000ul) : "rax", "r12", "r13");
        break;
    case 'w': ((volatile char *)S.input_items[1].data)[0] = 1; leave(0);
    case 'W': *(volatile char *)(u64)&bad = 1; leave(0);
    case 'j': ((void (*)(void))heap)(); leave(0);
    /* what is left at the end */
    case 'A': item = one(heap, argument); item->name_len = argument; leave(0);
    case 'B': one(heap, argument); leave(0);
    case 'C': one((void *)argument, 8); leave(0);
    case 'D': one((void *)-8ul, 16); leave(0);
    case 'E': item = one(heap, 8); item->name = (char *)1; leave(0);
    case 'F': one(heap, 8); S.output_items = (struct item *)argument; leave(0);
    case 'G': one(heap, 8); S.output_sets = (struct set *)(S.heap_end - 8); leave(0);
    case 'H': one(heap, 8); S.output_sets[S.output_sets_len].first = argument; leave(0);
    case 'I': one(heap, 8); S.output_sets[0].first = 7; leave(0);
    case 'J': one(heap, 8); S.output_sets_len = argument; leave(0);
    case 'K': item = one(heap, 8); item->name = "\xff\xfe\xfd"; leave(0);
    case 'L': item = one(heap, 8); item->name = ".."; item->name_len = 2; leave(0);
    case 'M': /* many items, all of them the same megabyte */
        item = (struct item *)(heap + (1 << 20));
        for (u64 i = 0; i < argument; i++)
            item[i] = (struct item){"out", 3, heap, 1 << 20, i};
        S.output_items = item;
        S.output_sets[0].first = 0;
        for (u64 i = 1; i <= S.output_sets_len; i++)
            S.output_sets[i].first = argument;
        leave(0);
    case 'N': one(heap, 8); call(231, 0, 0, 0); break;
    case 'O': one(heap, 8)->data = (void *)(S.heap_end - 4); leave(0);
    case 'R': /* a report of its own making */
        *(int *)0x4820040000ul = 31;
        *(int *)(0x4820040000ul + 16) = 999999;
        call(231, 255, 0, 0);
        break;
    }
}

__attribute__((noreturn, used)) static void entry(void) {
    char *order = S.input_items[0].data;
    u64 argument = number(order + 1, S.input_items[0].len - 1);
    good(order[0], (char *)S.heap_begin, argument);
    bad(order[0], (char *)S.heap_begin, argument);
    leave(99);
}

__asm__(".globl _start\n_start:\n\tcall entry\n\tud2\n");
