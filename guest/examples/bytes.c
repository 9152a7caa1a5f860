/*
 * bytes: for every item of `make`, a number, an item of so many bytes in `out`; for every item of `measure`, its length and
 * the sum of its bytes, as text in `out`. What large items cost on their way.
 */
#include "lichen.h"

enum { DIGITS = 20 };

static size_t number(const char *text, size_t len) {
    size_t value = 0;
    for (size_t at = 0; at < len && text[at] >= '0' && text[at] <= '9'; at++)
        value = value * 10 + (size_t)(text[at] - '0');
    return value;
}

static char *digits(char *end, uint64_t value) {
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

static int make(const lichen_item *item) {
    size_t len = number(item->data, item->len);
    uint8_t *bytes = lichen_alloc(len ? len : 1);
    if (!bytes)
        return 1;
    for (size_t at = 0; at < len; at++)
        bytes[at] = (uint8_t)(at % 251);
    lichen_item made = {.name = item->name, .name_len = item->name_len, .key = item->key, .data = bytes, .len = len};
    return lichen_put("out", &made);
}

static int measure(const lichen_item *item) {
    uint64_t sum = 0;
    for (size_t at = 0; at < item->len; at++)
        sum += ((const uint8_t *)item->data)[at];
    char *text = lichen_alloc(2 * DIGITS + 1);
    if (!text)
        return 1;
    char *end = text + 2 * DIGITS + 1;
    char *from = digits(end, sum);
    *--from = ' ';
    from = digits(from, item->len);
    lichen_item made = {.key = item->key, .data = from, .len = (size_t)(end - from)};
    return lichen_put("out", &made);
}

static int all(const char *set, int (*what)(const lichen_item *)) {
    size_t from = lichen_input(set);
    for (size_t i = 0; i < lichen_items(from); i++) {
        lichen_item item;
        if (lichen_get(from, i, &item) || what(&item))
            return 1;
    }
    return 0;
}

int lichen_main(void) {
    return all("make", make) || all("measure", measure);
}
