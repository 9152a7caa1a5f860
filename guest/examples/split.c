/*
 * split: each item of `text` in pieces of about 64 KiB, which end between words, as items of `chunks`. The first of the
 * three functions that count the words of a text; their flow is examples/wordcount.
 */
#include "words.h"

enum { PIECE = 65536 };

int lichen_main(void) {
    size_t set = lichen_input("text");
    for (size_t i = 0; i < lichen_items(set); i++) {
        lichen_item item;
        if (lichen_get(set, i, &item))
            return 1;
        const char *text = item.data;
        for (size_t at = 0, end; at < item.len; at = end) {
            end = item.len - at > PIECE ? at + PIECE : item.len;
            while (end < item.len && in_word((unsigned char)text[end]))
                end++;
            lichen_item piece = {.data = text + at, .len = end - at};
            if (lichen_put("chunks", &piece))
                return 2;
        }
    }
    return 0;
}
