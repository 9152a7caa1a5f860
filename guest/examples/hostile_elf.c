/*
 * What a static program can try: every gate into the kernel, and descriptors of outputs that lie. Part of hostile.c.
 *
 *   syscall:N  x32:N  int80:N  sysenter:N     system call N, its arguments all 0
 *   vsyscall   jump-kernel                    a jump to where kernels keep code for programs; to where the kernel is
 *   write-code execute-data                   its own memory, against its permissions
 *   port       halt      rdtsc                instructions that are for kernels; one that need not be
 *   leave      leave:N                        ends by itself, code never set; by exit (60) with N
 *   NAME       one of `lies`: ends as if all were well, with descriptors that are not
 */
static int is(const lichen_item *mode, const char *name);

/* The number after `name` and a colon: `syscall:57`. */
static int is_numbered(const lichen_item *mode, const char *name, long *number) {
    const char *text = mode->data;
    size_t i = 0;
    while (i < mode->len && name[i] && text[i] == name[i])
        i++;
    if (name[i] || i == mode->len || text[i] != ':')
        return 0;
    *number = 0;
    while (++i < mode->len)
        *number = *number * 10 + (text[i] - '0');
    return 1;
}

struct lie_set {
    const char *name;
    size_t name_len, first;
};

struct lie_buf {
    const char *name;
    size_t name_len;
    const void *data;
    size_t len, key;
};

/* The same structure as in elf.c, for whoever lies in it. */
extern struct lie_data {
    int exit_code;
    size_t heap_begin, heap_end, input_sets_len;
    struct lie_set *input_sets;
    size_t output_sets_len;
    struct lie_set *output_sets;
    struct lie_buf *input_bufs, *output_bufs;
} lie __asm__("__dandelion_system_data");

static struct lie_buf told[4] = {{"one", 3, "1", 1, 0}, {"two", 3, "2", 1, 0}};

static void telling(size_t count) {
    lie.exit_code = 0;
    lie.output_bufs = told;
    lie.output_sets[0].first = 0;
    lie.output_sets[lie.output_sets_len].first = count;
}

static void call(long number) {
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(0L), "S"(0L), "d"(0L)
                     : "rcx", "r11", "memory");
}

static void leave_by(long call_number, long code) {
    __asm__ volatile("syscall" : : "a"(call_number), "D"(code) : "rcx", "r11", "memory");
}

/* One lie each: a name, and the number that goes where it says. */
enum where { DATA, LEN, NAME, NAME_LEN, BUFS, COUNT, FIRST, SETS, SETS_LEN, TEXT };

static const struct lies {
    const char *name;
    enum where where;
    size_t what;
} lies[] = {
    {"data-null", DATA, 0},
    {"data-kernel", DATA, 0xffffffff80000000},
    {"data-above", DATA, 0x7ffffffff000},
    {"data-noncanonical", DATA, 0x8000000000000000},
    {"len-huge", LEN, (size_t)1 << 42},
    {"len-wraps", LEN, (size_t)-1},
    {"len-signed", LEN, (size_t)1 << 63},
    {"name-null", NAME, 0},
    {"name-above", NAME, 0x7ffffffff000},
    {"name-huge", NAME_LEN, (size_t)1 << 42},
    {"name-wraps", NAME_LEN, (size_t)-1},
    {"name-long", NAME_LEN, 256},
    {"name-empty", NAME_LEN, 0},
    {"name-slash", TEXT, (size_t)"a/b"},
    {"name-dots", TEXT, (size_t)".."},
    {"name-nul", TEXT, (size_t)"a\0b"},
    {"name-binary", TEXT, (size_t)"\xff\xfe\x80"},
    {"bufs-null", BUFS, 0},
    {"bufs-odd", BUFS, 3},
    {"bufs-above", BUFS, 0x7ffffffff000},
    {"count-huge", COUNT, (size_t)1 << 42},
    {"count-wraps", COUNT, (size_t)-1},
    {"count-backwards", FIRST, 3},
    {"first-huge", FIRST, (size_t)1 << 60},
    {"sets-null", SETS, 0},
    {"sets-above", SETS, 0x7ffffffff000},
    {"sets-many", SETS_LEN, (size_t)1 << 40},
};

static void tell(enum where where, size_t what) {
    telling(2);
    if (where == DATA)
        told[0].data = (const void *)what;
    if (where == LEN)
        told[0].len = what;
    if (where == NAME || where == TEXT)
        told[0].name = (const char *)what;
    if (where == TEXT)
        told[0].name_len = 2 + (((const char *)what)[1] != '.');
    if (where == NAME_LEN)
        told[0].name_len = what;
    if (where == BUFS)
        lie.output_bufs = (void *)(what == 3 ? (size_t)told + 3 : what);
    if (where == COUNT)
        lie.output_sets[lie.output_sets_len].first = what;
    if (where == FIRST)
        lie.output_sets[0].first = what;
    if (where == SETS)
        lie.output_sets = (void *)what;
    if (where == SETS_LEN)
        lie.output_sets_len = what;
    leave_by(231, 0);
}

/* The same 64 MB, given a thousand times: outputs may be larger than all memory. */
static void overlap(void) {
    enum { TIMES = 1000 };
    struct lie_buf *bufs = lichen_alloc(TIMES * sizeof(*bufs));
    size_t size = (size_t)1 << 26;
    char *data;
    while (!(data = lichen_alloc(size)))
        size /= 2;
    for (int i = 0; i < TIMES; i++)
        bufs[i] = (struct lie_buf){"again", 5, data, size, 0};
    telling(TIMES);
    lie.output_bufs = bufs;
    leave_by(231, 0);
}

static void through_gates(const lichen_item *mode) {
    long n;
    if (is_numbered(mode, "syscall", &n))
        call(n);
    if (is_numbered(mode, "x32", &n))
        call(n | 0x40000000);
    if (is_numbered(mode, "int80", &n))
        __asm__ volatile("int $0x80" : "+a"(n) : "b"(0L), "c"(0L), "d"(0L) : "memory");
    if (is_numbered(mode, "sysenter", &n))
        __asm__ volatile("sysenter" : "+a"(n) : "b"(0L) : "rcx", "rdx", "memory");
    if (is(mode, "vsyscall"))
        ((long (*)(long *))0xffffffffff600000)(&n);
    if (is(mode, "jump-kernel"))
        ((void (*)(void))0xffffffff81000000)();
    if (is_numbered(mode, "leave", &n))
        leave_by(60, n);
    if (is(mode, "leave"))
        leave_by(231, 0);
}

static void against_permissions(const lichen_item *mode) {
    volatile unsigned char *data = lichen_alloc(64);
    unsigned low, high;
    if (is(mode, "write-code"))
        *(volatile unsigned char *)&lichen_main = 0xc3;
    data[0] = 0xc3;
    if (is(mode, "execute-data"))
        ((void (*)(void))data)();
    if (is(mode, "port"))
        __asm__ volatile("outb %%al, $0x80" : : "a"(0));
    if (is(mode, "halt"))
        __asm__ volatile("hlt");
    if (is(mode, "rdtsc"))
        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
}

static int of_this_kind(const lichen_item *mode) {
    through_gates(mode);
    against_permissions(mode);
    if (is(mode, "overlap"))
        overlap();
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        if (is(mode, lies[i].name))
            tell(lies[i].where, lies[i].what);
    if (is(mode, "rdtsc") || is(mode, "vsyscall"))
        return 0;
    return UNKNOWN;
}
