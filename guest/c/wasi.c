/*
 * Sets of a WebAssembly program: folders and files of WASI preview 1. Part of lichen.c.
 *
 *   /in/SET/ITEM, /in/SET/ITEM@KEY      what there is to read
 *   /out/SET/ITEM, /out/SET/ITEM@KEY    what the function leaves
 *
 * A folder below a set's is %2F in an item's name, and % is %25 where it would be read as one of these.
 *
 * It calls WASI itself, with or without a C library beside it. Folders are read once; an item's bytes when it is asked
 * for. What the platform has opened beforehand may be "/", or "/in" and "/out".
 */
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef struct iovec_wasi {
    const void *at;
    size_t len;
} iovec_wasi;

typedef struct prestat_wasi {
    uint32_t tag;
    uint32_t name_len;
} prestat_wasi;

/* Of what preview 1 tells of a file, the size alone is of interest here. */
typedef struct stat_wasi {
    uint64_t device, inode, type, links, size, accessed, modified, changed;
} stat_wasi;

/* Before each name in what fd_readdir writes. */
typedef struct entry_wasi {
    uint64_t next, inode;
    uint32_t name_len;
    uint32_t type;
} entry_wasi;

WASI(fd_prestat_get) uint32_t wasi_prestat(uint32_t fd, prestat_wasi *prestat);
WASI(fd_prestat_dir_name) uint32_t wasi_prestat_name(uint32_t fd, char *name, size_t len);
WASI(path_open)
uint32_t wasi_open(uint32_t fd, uint32_t follow, const char *path, size_t len, uint32_t create, uint64_t rights,
                   uint64_t inherited, uint32_t flags, uint32_t *opened);
WASI(path_create_directory) uint32_t wasi_mkdir(uint32_t fd, const char *path, size_t len);
WASI(fd_readdir) uint32_t wasi_readdir(uint32_t fd, void *out, size_t len, uint64_t cookie, size_t *used);
WASI(fd_filestat_get) uint32_t wasi_stat(uint32_t fd, stat_wasi *stat);
WASI(fd_read) uint32_t wasi_read(uint32_t fd, const iovec_wasi *parts, size_t count, size_t *done);
WASI(fd_write) uint32_t wasi_write(uint32_t fd, const iovec_wasi *parts, size_t count, size_t *done);
WASI(fd_close) uint32_t wasi_close(uint32_t fd);
WASI(proc_exit) __attribute__((noreturn)) void wasi_exit(uint32_t code);

enum {
    RIGHT_READ = 1 << 1,
    RIGHT_WRITE = 1 << 6,
    RIGHT_READDIR = 1 << 14,
    RIGHT_STAT = 1 << 21,
    OPEN_CREATE = 1,
    OPEN_DIRECTORY = 2,
    OPEN_TRUNCATE = 8,
    ERROR_NO_ENTRY = 44,
    TYPE_DIRECTORY = 3,
    FIRST_PREOPEN = 3,
    FILE_NAME_MAX = NAME_MAX_BYTES + 1 + DIGITS_MAX,
    PATH_ROOM = 16 + 2 * (FILE_NAME_MAX + 1),
};

/* Paths below a folder. */
struct names {
    struct name {
        char *text;
        size_t len;
        int folder;
    } *all;
    size_t len;
};

static struct {
    int read;
    struct names names;
    struct names *items;
} inputs;

/* How many items each output set has been given, for those without a name. */
static struct counter {
    struct counter *next;
    size_t len, count;
    char name[];
} *counters;

/* A place below what the platform has opened: `fd` and what is left of the path. */
struct place {
    uint32_t fd;
    char path[PATH_ROOM];
    size_t len;
};

enum which { IN, OUT };

static void append(struct place *place, const char *text, size_t len) {
    memcpy(place->path + place->len, text, len);
    place->len += len;
}

/* The folders /in and /out: opened themselves, or below the root, which is looked for once. */
static struct root {
    const char *path;
    size_t len;
    uint32_t fd;
    enum { NOWHERE, BELOW, ITSELF } found;
} roots[] = {{"/in", 3, 0, NOWHERE}, {"/out", 4, 0, NOWHERE}};

static void look_for_roots(void) {
    prestat_wasi prestat;
    char name[8];
    for (uint32_t fd = FIRST_PREOPEN; wasi_prestat(fd, &prestat) == 0; fd++) {
        if (prestat.name_len > sizeof(name) || wasi_prestat_name(fd, name, prestat.name_len))
            continue;
        int below = same(name, prestat.name_len, "/", 1);
        for (struct root *root = roots; root <= roots + OUT; root++) {
            int itself = same(name, prestat.name_len, root->path, root->len);
            if (root->found == ITSELF || !(itself || below))
                continue;
            root->fd = fd;
            root->found = itself ? ITSELF : BELOW;
        }
    }
}

/* 0: there is no such folder. */
static int locate(enum which which, struct place *place) {
    static int looked;
    if (!looked)
        look_for_roots();
    looked = 1;
    const struct root *root = &roots[which];
    place->fd = root->fd;
    place->len = 0;
    if (root->found == ITSELF)
        append(place, ".", 1);
    else
        append(place, root->path + 1, root->len - 1);
    return root->found != NOWHERE;
}

static void enter(struct place *place, const char *name, size_t len) {
    append(place, "/", 1);
    append(place, name, len);
}

static uint32_t open_at(const struct place *place, uint32_t how, uint64_t rights, uint32_t *fd) {
    return wasi_open(place->fd, 0, place->path, place->len, how, rights, rights, 0, fd);
}

/* `folder` is where the entry lies, below the folder that all names are below. */
static int add_name(struct names *names, struct name folder, const char *text, size_t len, int is_folder) {
    size_t count = names->len;
    if ((count & (count - 1)) == 0) {
        struct name *more = lichen_alloc((count ? count * 2 : 1) * sizeof(*more));
        if (!more)
            return 0;
        if (count)
            memcpy(more, names->all, count * sizeof(*more));
        lichen_free(names->all);
        names->all = more;
    }
    size_t before = folder.len ? folder.len + 1 : 0;
    char *copy = lichen_alloc(before + len);
    if (!copy)
        return 0;
    if (before) {
        memcpy(copy, folder.text, folder.len);
        copy[folder.len] = '/';
    }
    memcpy(copy + before, text, len);
    names->all[names->len++] = (struct name){copy, before + len, is_folder};
    return 1;
}

/* Takes the entries out of what fd_readdir has written; the last one may be cut off. 0: nothing more can come. */
static int take_entries(struct names *names, struct name folder, const char *text, size_t len, uint64_t *cookie) {
    int taken = 0;
    while (len >= sizeof(entry_wasi)) {
        entry_wasi entry;
        memcpy(&entry, text, sizeof(entry));
        if (len - sizeof(entry) < entry.name_len)
            break;
        const char *name = text + sizeof(entry);
        int itself = same(name, entry.name_len, ".", 1) || same(name, entry.name_len, "..", 2);
        int is_folder = (entry.type & 0xff) == TYPE_DIRECTORY;
        if (!itself && folder.len + 1 + entry.name_len <= FILE_NAME_MAX &&
            !add_name(names, folder, name, entry.name_len, is_folder))
            return 0;
        *cookie = entry.next;
        text = name + entry.name_len;
        len -= sizeof(entry) + entry.name_len;
        taken = 1;
    }
    return taken;
}

/* Adds what lies in a folder, or in one within it. */
static void list(const struct place *place, struct name folder, struct names *names) {
    struct place at = *place;
    uint32_t fd;
    if (folder.len)
        enter(&at, folder.text, folder.len);
    if (open_at(&at, OPEN_DIRECTORY, RIGHT_READDIR, &fd))
        return;
    char text[4096];
    uint64_t cookie = 0;
    size_t used = sizeof(text);
    while (used == sizeof(text))
        if (wasi_readdir(fd, text, sizeof(text), cookie, &used) || !take_entries(names, folder, text, used, &cookie))
            break;
    wasi_close(fd);
}

/* The files below a folder, however deep they lie. Folders that were found are looked into in turn: no recursion. */
static void list_files(const struct place *place, struct names *names) {
    size_t kept = 0;
    list(place, (struct name){0}, names);
    for (size_t i = 0; i < names->len; i++)
        if (names->all[i].folder)
            list(place, names->all[i], names);
        else
            names->all[kept++] = names->all[i];
    names->len = kept;
}

static void read_inputs(void) {
    struct place in;
    if (inputs.read)
        return;
    inputs.read = 1;
    if (!locate(IN, &in))
        return;
    list(&in, (struct name){0}, &inputs.names);
    inputs.items = lichen_alloc(inputs.names.len * sizeof(*inputs.items));
    if (!inputs.items)
        inputs.names.len = 0;
    for (size_t i = 0; i < inputs.names.len; i++) {
        struct place set = in;
        inputs.items[i] = (struct names){0};
        enter(&set, inputs.names.all[i].text, inputs.names.all[i].len);
        list_files(&set, &inputs.items[i]);
    }
}

size_t lichen_inputs(void) {
    read_inputs();
    return inputs.names.len;
}

const char *lichen_input_name(size_t set, size_t *len) {
    if (set >= lichen_inputs())
        return NULL;
    *len = inputs.names.all[set].len;
    return inputs.names.all[set].text;
}

size_t lichen_input(const char *name) {
    size_t len = text_len(name);
    for (size_t i = 0; i < lichen_inputs(); i++)
        if (same(inputs.names.all[i].text, inputs.names.all[i].len, name, len))
            return i;
    return LICHEN_NONE;
}

size_t lichen_items(size_t set) { return set < lichen_inputs() ? inputs.items[set].len : 0; }

/* NAME@KEY: cuts the key off, where the name ends in one. */
static uint64_t cut_key(const char *name, size_t *len) {
    size_t at = *len;
    while (at > 0 && name[at - 1] >= '0' && name[at - 1] <= '9')
        at--;
    if (at < 2 || at == *len || *len - at > DIGITS_MAX || name[at - 1] != '@' || name[at - 2] == '/')
        return 0;
    uint64_t key = 0;
    for (size_t i = at; i < *len; i++)
        key = key * 10 + (uint64_t)(name[i] - '0');
    *len = at - 1;
    return key;
}

static int read_whole(uint32_t fd, lichen_item *item) {
    stat_wasi stat;
    if (wasi_stat(fd, &stat))
        return LICHEN_EIO;
    if (stat.size > SIZE_MAX)
        return LICHEN_ENOMEM;
    char *data = lichen_alloc(stat.size ? (size_t)stat.size : 1);
    if (!data)
        return LICHEN_ENOMEM;
    item->data = data;
    item->len = 0;
    while (item->len < stat.size) {
        iovec_wasi rest = {data + item->len, (size_t)stat.size - item->len};
        size_t done = 0;
        if (wasi_read(fd, &rest, 1, &done))
            return LICHEN_EIO;
        if (!done)
            break;
        item->len += done;
    }
    return LICHEN_OK;
}

/* Whether "%25" or "%2F" is here, and so what it stands for. 0: neither. */
static char escaped(const char *at, size_t len) {
    if (len < 3 || at[0] != '%' || at[1] != '2')
        return 0;
    return at[2] == '5' ? '%' : at[2] == 'F' ? '/' : 0;
}

/* The name of the item whose file has this path; the path itself where that is the same. NULL: no memory. */
static const char *name_of(const char *path, size_t *len) {
    size_t longer = 0;
    for (size_t i = 0; i < *len; i++)
        longer += path[i] == '/' || escaped(path + i, *len - i) ? 2 : 0;
    if (!longer)
        return path;
    char *name = lichen_alloc(*len + longer), *end = name;
    if (!name)
        return NULL;
    for (size_t i = 0; i < *len; i++) {
        int is_folder = path[i] == '/';
        if (is_folder || escaped(path + i, *len - i)) {
            memcpy(end, is_folder ? "%2F" : "%25", 3);
            end += 3;
        } else {
            *end++ = path[i];
        }
    }
    *len += longer;
    return name;
}

int lichen_get(size_t set, size_t index, lichen_item *item) {
    if (set >= lichen_inputs())
        return LICHEN_ENOSET;
    if (index >= inputs.items[set].len)
        return LICHEN_ENOITEM;
    struct name *file = &inputs.items[set].all[index];
    struct place place;
    uint32_t fd;
    if (!locate(IN, &place))
        return LICHEN_EIO;
    size_t len = file->len;
    uint64_t key = cut_key(file->text, &len);
    const char *name = name_of(file->text, &len);
    if (!name)
        return LICHEN_ENOMEM;
    *item = (lichen_item){name, len, key, NULL, 0};
    enter(&place, inputs.names.all[set].text, inputs.names.all[set].len);
    enter(&place, file->text, file->len);
    if (open_at(&place, 0, RIGHT_READ | RIGHT_STAT, &fd))
        return LICHEN_EIO;
    int result = read_whole(fd, item);
    wasi_close(fd);
    return result;
}

static struct counter *counter(const char *set, size_t len) {
    for (struct counter *at = counters; at; at = at->next)
        if (same(at->name, at->len, set, len))
            return at;
    struct counter *made = lichen_alloc(sizeof(*made) + len);
    if (!made)
        return NULL;
    made->next = counters;
    made->len = len;
    made->count = 0;
    memcpy(made->name, set, len);
    return counters = made;
}

static int write_whole(uint32_t fd, const lichen_item *item) {
    for (size_t at = 0; at < item->len;) {
        iovec_wasi rest = {(const char *)item->data + at, item->len - at};
        size_t done = 0;
        if (wasi_write(fd, &rest, 1, &done) || !done)
            return LICHEN_EIO;
        at += done;
    }
    return LICHEN_OK;
}

/* A name as a path, to the end of the place. 0: parts of it are no names of files. */
static int enter_path(struct place *place, const char *name, size_t len) {
    append(place, "/", 1);
    size_t part = place->len;
    for (size_t i = 0; i < len; i++) {
        char meant = escaped(name + i, len - i);
        if (meant == '/') {
            if (!good_name(place->path + part, place->len - part))
                return 0;
            part = place->len + 1;
        }
        append(place, meant ? &meant : &name[i], 1);
        i += meant ? 2 : 0;
    }
    return good_name(place->path + part, place->len - part);
}

/* The file's path: the item's name, or its number; a key that is not 0, and one that a reader would see in the name. */
static int enter_item(struct place *place, const lichen_item *item, size_t number) {
    char digits[DIGITS_MAX];
    size_t seen = item->name_len;
    if (!item->name_len)
        enter(place, digits, decimal(number, digits));
    else if (!enter_path(place, item->name, item->name_len))
        return 0;
    cut_key(item->name, &seen);
    if (item->key || seen != item->name_len) {
        append(place, "@", 1);
        append(place, digits, decimal(item->key, digits));
    }
    return 1;
}

/* Makes the folders that a file lies in, from the set's on. */
static void make_folders(const struct place *file, size_t from) {
    for (size_t i = from; i < file->len; i++)
        if (file->path[i] == '/')
            wasi_mkdir(file->fd, file->path, i);
}

int lichen_put(const char *set, const lichen_item *item) {
    struct place place;
    uint32_t fd;
    size_t len = text_len(set);
    if (!good_name(set, len))
        return LICHEN_ENOSET;
    if (item->name_len && !good_name(item->name, item->name_len))
        return LICHEN_ENAME;
    struct counter *items = counter(set, len);
    if (!items)
        return LICHEN_ENOMEM;
    if (!locate(OUT, &place))
        return LICHEN_EIO;
    size_t out = place.len + 1;
    enter(&place, set, len);
    if (!enter_item(&place, item, items->count))
        return LICHEN_ENAME;
    uint32_t error = open_at(&place, OPEN_CREATE | OPEN_TRUNCATE, RIGHT_WRITE, &fd);
    if (error == ERROR_NO_ENTRY) {
        make_folders(&place, out);
        error = open_at(&place, OPEN_CREATE | OPEN_TRUNCATE, RIGHT_WRITE, &fd);
    }
    if (error)
        return LICHEN_EIO;
    items->count++;
    int result = write_whole(fd, item);
    wasi_close(fd);
    return result;
}

#ifdef LICHEN_ALONE
extern char __heap_base;

static int heap_more(size_t size) {
    if (!heap.end) {
        heap.next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
        heap.end = (uintptr_t)__builtin_wasm_memory_size(0) * HEAP_ROUND;
    }
    if (heap.end - heap.next >= size)
        return 1;
    size_t pages = (size - (heap.end - heap.next) + HEAP_ROUND - 1) / HEAP_ROUND;
    if (pages > (SIZE_MAX - heap.end) / HEAP_ROUND || __builtin_wasm_memory_grow(0, pages) == (size_t)-1)
        return 0;
    heap.end += pages * HEAP_ROUND;
    return 1;
}

__attribute__((export_name("_start"))) void _start(void) {
    int code = lichen_main();
    if (code)
        wasi_exit((uint32_t)code);
}
#else
int main(void) { return lichen_main(); }
#endif
