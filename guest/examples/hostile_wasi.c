/*
 * What a WebAssembly program can try: calls of WASI whose arguments lie. Part of hostile.c.
 *
 *   vectors        a list of 2^28 pieces to write             pointers      pieces that lie beyond all memory
 *   grow           memory, until there is no more             text          writes to standard output for ever
 *   files          files, until there are no more             deep          folders in folders, until there are no more
 *   climb          a file above the root                      names         a file whose name is as long as it gets
 *   exit-huge      an exit code of 2^31                       sparse        one byte, at the end of a file of 2^62
 *   sleep          waits an hour
 *
 * Those that are refused end with code 0: refusing them is right.
 */
static int is(const lichen_item *mode, const char *name);

#define FROM_WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

struct piece {
    const void *at;
    size_t len;
};

FROM_WASI(fd_write) uint32_t write_pieces(uint32_t fd, const struct piece *pieces, size_t count, size_t *done);
FROM_WASI(fd_seek) uint32_t seek(uint32_t fd, int64_t offset, uint32_t whence, uint64_t *at);
FROM_WASI(path_open)
uint32_t open_path(uint32_t fd, uint32_t follow, const char *path, size_t len, uint32_t create, uint64_t rights,
                   uint64_t inherited, uint32_t flags, uint32_t *opened);
FROM_WASI(path_create_directory) uint32_t make_folder(uint32_t fd, const char *path, size_t len);
FROM_WASI(poll_oneoff) uint32_t poll(const void *in, void *out, size_t count, size_t *events);
FROM_WASI(proc_exit) __attribute__((noreturn)) void leave_with(uint32_t code);

enum { ROOT = 3, CREATE = 1, ALL_RIGHTS = 0x1fffffff };

static uint32_t create(const char *path, size_t len, uint32_t *fd) {
    return open_path(ROOT, 0, path, len, CREATE, ALL_RIGHTS, ALL_RIGHTS, 0, fd);
}

static void write_lies(const lichen_item *mode) {
    size_t done;
    struct piece beyond = {(const void *)0xfffffff0, 0xfffffff0};
    if (is(mode, "vectors"))
        write_pieces(1, &beyond, 1u << 28, &done);
    if (is(mode, "pointers"))
        write_pieces(1, &beyond, 1, (size_t *)0xfffffffe);
}

static int write_text(void) {
    static char line[65536];
    struct piece piece = {line, sizeof(line)};
    size_t done;
    while (!write_pieces(1, &piece, 1, &done) && done)
        ;
    return 0;
}

static int make_files(void) {
    char name[16] = "out/f0000000";
    uint32_t fd;
    for (uint32_t i = 0; i < 10000000; i++) {
        for (uint32_t at = 0, rest = i; at < 7; at++, rest /= 10)
            name[11 - at] = (char)('0' + rest % 10);
        if (create(name, 12, &fd))
            return 0;
    }
    return 0;
}

static int make_deep(void) {
    static char path[1 << 20] = "out";
    size_t len = 3;
    while (len < sizeof(path) - 2) {
        path[len++] = '/';
        path[len++] = 'd';
        if (make_folder(ROOT, path, len))
            return 0;
    }
    return 0;
}

static int one_file(const lichen_item *mode) {
    static char long_name[70000];
    uint32_t fd;
    uint64_t at;
    size_t done;
    struct piece piece = {"x", 1};
    if (is(mode, "climb"))
        return create("out/../../../etc/passwd", 23, &fd) ? 0 : 1;
    for (size_t i = 0; i < sizeof(long_name); i++)
        long_name[i] = 'n';
    if (is(mode, "names"))
        return create(long_name, sizeof(long_name), &fd) ? 0 : 1;
    if (create("out/sparse", 10, &fd) || seek(fd, (int64_t)1 << 62, 0, &at))
        return 0;
    return write_pieces(fd, &piece, 1, &done) ? 0 : 1;
}

static int wait_an_hour(void) {
    static struct {
        uint64_t user;
        uint8_t tag, pad[7];
        uint32_t clock, pad_too;
        uint64_t timeout, precision;
        uint16_t flags;
    } clock = {.clock = 1, .timeout = 3600000000000};
    static char events[32];
    size_t count;
    return poll(&clock, events, 1, &count) ? 1 : 0;
}

static int of_this_kind(const lichen_item *mode) {
    write_lies(mode);
    if (is(mode, "vectors") || is(mode, "pointers"))
        return 0;
    if (is(mode, "grow"))
        while (__builtin_wasm_memory_grow(0, 16) != (size_t)-1)
            ;
    if (is(mode, "text"))
        return write_text();
    if (is(mode, "files"))
        return make_files();
    if (is(mode, "deep"))
        return make_deep();
    if (is(mode, "climb") || is(mode, "names") || is(mode, "sparse"))
        return one_file(mode);
    if (is(mode, "sleep"))
        return wait_an_hour();
    if (is(mode, "exit-huge"))
        leave_with(0x80000000);
    return is(mode, "grow") ? 0 : UNKNOWN;
}
