/*
 * Sets of a static x86-64 program: Dandelion's interface, which Lichen speaks too. Part of lichen.c.
 *
 *   the platform loads the program, fills in __dandelion_system_data, and jumps to _start with a stack
 *   input_sets    names, and where in input_bufs the items of each begin; one more set at the end closes the last one
 *   output_sets   names; the function says where in output_bufs the items of each begin, in the same way
 *   the end       the exit code in the structure, then exit_group; where there is no kernel, interrupt 0x20
 *
 * Layouts are fixed: programs and platforms are compiled apart.
 */
struct system_set {
    const char *name;
    size_t name_len;
    size_t first;
};

struct system_buf {
    const char *name;
    size_t name_len;
    const void *data;
    size_t len;
    size_t key;
};

struct system_data {
    int exit_code;
    size_t heap_begin, heap_end;
    size_t input_sets_len;
    struct system_set *input_sets;
    size_t output_sets_len;
    struct system_set *output_sets;
    struct system_buf *input_bufs, *output_bufs;
};
_Static_assert(sizeof(struct system_data) == 72, "what the platform writes");
_Static_assert(sizeof(struct system_set) == 24 && sizeof(struct system_buf) == 40, "what the platform writes");

/* Exit codes beyond those of functions: never reached its end; no memory for the outputs. */
enum { NEVER_ENDED = 256, NO_MEMORY = 259 };

struct system_data __dandelion_system_data = {.exit_code = NEVER_ENDED, .heap_begin = (size_t)-1};
#define SYSTEM __dandelion_system_data

/* Outputs in the order in which they were put; sorted by set at the end. */
static struct {
    struct output {
        size_t set, number;
        struct system_buf buf;
    } *all;
    size_t len, room;
} outputs;

static int heap_more(size_t size) {
    if (heap.end)
        return 0;
    heap.next = (SYSTEM.heap_begin + 15) & ~(uintptr_t)15;
    heap.end = SYSTEM.heap_end;
    return heap.next < heap.end && heap.end - heap.next >= size;
}

size_t lichen_inputs(void) { return SYSTEM.input_sets_len; }

const char *lichen_input_name(size_t set, size_t *len) {
    if (set >= SYSTEM.input_sets_len)
        return NULL;
    *len = SYSTEM.input_sets[set].name_len;
    return SYSTEM.input_sets[set].name;
}

static size_t find(const struct system_set *sets, size_t count, const char *name) {
    size_t len = text_len(name);
    for (size_t i = 0; i < count; i++)
        if (same(sets[i].name, sets[i].name_len, name, len))
            return i;
    return LICHEN_NONE;
}

size_t lichen_input(const char *name) { return find(SYSTEM.input_sets, SYSTEM.input_sets_len, name); }

size_t lichen_items(size_t set) {
    if (set >= SYSTEM.input_sets_len)
        return 0;
    return SYSTEM.input_sets[set + 1].first - SYSTEM.input_sets[set].first;
}

int lichen_get(size_t set, size_t index, lichen_item *item) {
    if (set >= SYSTEM.input_sets_len)
        return LICHEN_ENOSET;
    if (index >= lichen_items(set))
        return LICHEN_ENOITEM;
    const struct system_buf *buf = &SYSTEM.input_bufs[SYSTEM.input_sets[set].first + index];
    *item = (lichen_item){buf->name, buf->name_len, buf->key, buf->data, buf->len};
    return LICHEN_OK;
}

static int more_outputs(void) {
    size_t room = outputs.room ? outputs.room * 2 : 16;
    struct output *more = lichen_alloc(room * sizeof(*more));
    if (!more)
        return 0;
    if (outputs.len)
        memcpy(more, outputs.all, outputs.len * sizeof(*more));
    lichen_free(outputs.all);
    outputs.all = more;
    outputs.room = room;
    return 1;
}

/* How many items a set has: its last one knows, which is not far as a rule. */
static size_t items_put(size_t set) {
    for (size_t i = outputs.len; i > 0; i--)
        if (outputs.all[i - 1].set == set)
            return outputs.all[i - 1].number + 1;
    return 0;
}

int lichen_put(const char *set_name, const lichen_item *item) {
    size_t set = find(SYSTEM.output_sets, SYSTEM.output_sets_len, set_name);
    if (set == LICHEN_NONE)
        return LICHEN_ENOSET;
    if (item->name_len && !good_name(item->name, item->name_len))
        return LICHEN_ENAME;
    if (outputs.len == outputs.room && !more_outputs())
        return LICHEN_ENOMEM;
    char *name = lichen_alloc(item->name_len ? item->name_len : DIGITS_MAX);
    if (!name)
        return LICHEN_ENOMEM;
    size_t name_len = item->name_len, number = items_put(set);
    if (name_len)
        memcpy(name, item->name, name_len);
    else
        name_len = decimal(number, name);
    outputs.all[outputs.len++] =
        (struct output){set, number, {name, name_len, item->data, item->len, (size_t)item->key}};
    return LICHEN_OK;
}

/* Hands the outputs over: those of a set side by side. Two passes over all of them, however many sets there are. */
static int hand_over(void) {
    size_t sets = SYSTEM.output_sets_len;
    if (!outputs.len) {
        for (size_t set = 0; set <= sets && SYSTEM.output_sets; set++)
            SYSTEM.output_sets[set].first = 0;
        return 1;
    }
    struct system_buf *bufs = lichen_alloc(outputs.len * sizeof(*bufs));
    size_t *next = lichen_alloc((sets + 1) * sizeof(*next));
    if (!bufs || !next)
        return 0;
    memset(next, 0, (sets + 1) * sizeof(*next));
    for (size_t i = 0; i < outputs.len; i++)
        next[outputs.all[i].set + 1]++;
    for (size_t set = 0; set < sets; set++)
        next[set + 1] += next[set];
    for (size_t set = 0; set <= sets; set++)
        SYSTEM.output_sets[set].first = next[set];
    for (size_t i = 0; i < outputs.len; i++)
        bufs[next[outputs.all[i].set]++] = outputs.all[i].buf;
    SYSTEM.output_bufs = bufs;
    return 1;
}

__attribute__((noreturn)) static void leave(int code) {
    __asm__ volatile("syscall\n\t"
                     "int $0x20\n\t"
                     "ud2"
                     :
                     : "a"(231L), "D"((long)code)
                     : "rcx", "r11", "memory");
    __builtin_unreachable();
}

__attribute__((noreturn, used)) static void lichen_entry(void) {
    int code = lichen_main();
    if (code == 0 && !hand_over())
        code = NO_MEMORY;
    SYSTEM.exit_code = code;
    leave(code);
}

/* The platform gives a stack; that it is aligned, nobody promises. */
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n\t"
        "xorl %ebp, %ebp\n\t"
        "andq $-16, %rsp\n\t"
        "call lichen_entry\n\t"
        "ud2\n"
        ".size _start, . - _start\n");
