/*
 * dandelion: a function for Dandelion, written against its interface and none of our headers: what its SDK would make.
 * It puts the first item of the first input set into the first output set, as `copy`, with the item's key.
 *
 * END says how it ends: 1, by interrupt 0x20 (Dandelion's KVM engine); 0, by exit_group with code 0 whatever the exit
 * code in the structure (its process engine), after it has set the thread pointer by arch_prctl, as that engine's does.
 */
#include <stddef.h>

struct set {
    const char *ident;
    size_t ident_len;
    size_t offset;
};

struct buffer {
    const char *ident;
    size_t ident_len;
    void *data;
    size_t data_len;
    size_t key;
};

struct {
    int exit_code;
    size_t heap_begin, heap_end;
    size_t input_sets_len;
    struct set *input_sets;
    size_t output_sets_len;
    struct set *output_sets;
    struct buffer *input_bufs;
    struct buffer *output_bufs;
} __dandelion_system_data = {.exit_code = 256, .heap_begin = -1, .input_sets_len = -1, .output_sets_len = -1};

static char thread_area[256];

static void set_thread_pointer(void) {
#if END
    __asm__ volatile("wrfsbase %0" : : "r"(thread_area) : "memory");
#else
    long call = 158;
    __asm__ volatile("syscall" : "+a"(call) : "D"(0x1002L), "S"(thread_area) : "rcx", "r11", "memory");
#endif
}

static void leave(void) {
#if END
    __asm__ volatile("int $32");
#else
    __asm__ volatile("syscall" : : "a"(231L), "D"(0L) : "rcx", "r11", "memory");
#endif
    __builtin_unreachable();
}

static int copy(void) {
    if (__dandelion_system_data.input_sets_len == 0 || __dandelion_system_data.output_sets_len == 0)
        return 2;
    struct buffer *in = &__dandelion_system_data.input_bufs[__dandelion_system_data.input_sets[0].offset];
    size_t heap = (__dandelion_system_data.heap_begin + 63) & ~(size_t)63;
    struct buffer *out = (struct buffer *)heap;
    char *data = (char *)(heap + sizeof(*out));
    if ((size_t)data + in->data_len > __dandelion_system_data.heap_end)
        return 259;
    for (size_t i = 0; i < in->data_len; i++)
        data[i] = ((char *)in->data)[i];
    *out = (struct buffer){"copy", 4, data, in->data_len, in->key};
    __dandelion_system_data.output_bufs = out;
    __dandelion_system_data.output_sets[0].offset = 0;
    for (size_t i = 1; i <= __dandelion_system_data.output_sets_len; i++)
        __dandelion_system_data.output_sets[i].offset = 1;
    return 0;
}

__attribute__((used)) static void entry(void) {
    set_thread_pointer();
    __dandelion_system_data.exit_code = copy();
    leave();
}

__attribute__((naked)) void _start(void) { __asm__("call entry\n"); }
