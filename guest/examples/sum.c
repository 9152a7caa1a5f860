/*
 * sum: the lines `WORD NUMBER` of all items of `pairs`, with the numbers of each word added up, as one item of `totals`.
 */
#include "words.h"

/* Adds one line, and answers where the next begins. */
static size_t add_line(struct words *words, const char *text, size_t at, size_t len) {
    size_t start = at;
    uint64_t number = 0;
    while (at < len && text[at] != ' ' && text[at] != '\n')
        at++;
    size_t word = at - start;
    while (at < len && text[at] != '\n') {
        if (text[at] >= '0' && text[at] <= '9')
            number = number * 10 + (uint64_t)(text[at] - '0');
        at++;
    }
    if (word && !add(words, text + start, word, number))
        return LICHEN_NONE;
    return at + 1;
}

int lichen_main(void) {
    struct words words = {0};
    lichen_item item = {.key = 0};
    size_t set = lichen_input("pairs");
    size_t size = 1;
    for (size_t i = 0; i < lichen_items(set); i++) {
        if (lichen_get(set, i, &item))
            return 1;
        size += item.len + 22;
        for (size_t at = 0; at < item.len;)
            if ((at = add_line(&words, item.data, at, item.len)) == LICHEN_NONE)
                return 2;
    }
    sort(&words);
    char *text = lichen_alloc(size + words.used * 22);
    char *end = text;
    if (!text)
        return 2;
    for (size_t i = 0; i < words.used; i++)
        end = line(end, &words.slots[i]);
    lichen_item total = {"total", 5, item.key, text, (size_t)(end - text)};
    return lichen_put("totals", &total) ? 3 : 0;
}
