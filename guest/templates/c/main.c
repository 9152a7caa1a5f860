/*
 * A pure function: every item of the set `in`, in capital letters, under its own name and key in the set `out`.
 */
#include "lichen/lichen.h"

static char capital(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }

int lichen_main(void) {
    size_t set = lichen_input("in");
    for (size_t i = 0; i < lichen_items(set); i++) {
        lichen_item item;
        if (lichen_get(set, i, &item))
            return 1;
        const char *text = item.data;
        char *loud = lichen_alloc(item.len);
        if (!loud)
            return 2;
        for (size_t at = 0; at < item.len; at++)
            loud[at] = capital(text[at]);
        item.data = loud;
        if (lichen_put("out", &item))
            return 3;
    }
    return 0;
}
