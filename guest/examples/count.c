/*
 * count: the words of the items of `chunk`, as lines `WORD NUMBER` in items of `pairs`: one for each of 8 keys, so that a
 * word is always in items of the same key, and whoever sums up can do so key by key.
 */
#include "words.h"

enum { KEYS = 8 };

static int count_words(struct words *words, const char *text, size_t len) {
    for (size_t at = 0, end; at < len; at = end + 1) {
        for (end = at; end < len && in_word((unsigned char)text[end]);)
            end++;
        if (end > at && !add(words, text + at, end - at, 1))
            return 0;
    }
    return 1;
}

static int put_key(const struct words *words, uint64_t key) {
    size_t size = 1;
    for (size_t i = 0; i < words->used; i++)
        size += words->slots[i].len + 22;
    char *text = lichen_alloc(size);
    char *end = text;
    if (!text)
        return 0;
    for (size_t i = 0; i < words->used; i++)
        if (hash(words->slots[i].text, words->slots[i].len) % KEYS == key)
            end = line(end, &words->slots[i]);
    lichen_item item = {.key = key, .data = text, .len = (size_t)(end - text)};
    return end == text || lichen_put("pairs", &item) == 0;
}

int lichen_main(void) {
    struct words words = {0};
    size_t set = lichen_input("chunk");
    for (size_t i = 0; i < lichen_items(set); i++) {
        lichen_item item;
        if (lichen_get(set, i, &item) || !count_words(&words, item.data, item.len))
            return 1;
    }
    sort(&words);
    for (uint64_t key = 0; key < KEYS; key++)
        if (!put_key(&words, key))
            return 2;
    return 0;
}
