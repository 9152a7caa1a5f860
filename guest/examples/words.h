/*
 * Words and how often they occur: a table that grows. For split.c, count.c and sum.c.
 *
 * A word is a run of letters, digits and bytes beyond ASCII; letters are made small. What is counted is written as lines
 * `WORD NUMBER`, sorted by word, so that the same text always gives the same bytes.
 */
#include "lichen.h"

struct word {
    const char *text;
    size_t len;
    uint64_t count;
};

struct words {
    struct word *slots;
    size_t used, room;
};

static inline int in_word(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 128;
}

static inline char small(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static inline uint64_t hash(const char *text, size_t len) {
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ (unsigned char)small(text[i])) * 0x100000001b3;
    return sum;
}

/* Less than, equal to or greater than 0, as words are sorted. */
static inline int order(const struct word *a, const struct word *b) {
    size_t len = a->len < b->len ? a->len : b->len;
    for (size_t i = 0; i < len; i++) {
        int apart = (unsigned char)small(a->text[i]) - (unsigned char)small(b->text[i]);
        if (apart)
            return apart;
    }
    return a->len < b->len ? -1 : a->len > b->len;
}

static inline struct word *slot(struct words *words, const struct word *word) {
    size_t at = hash(word->text, word->len) & (words->room - 1);
    while (words->slots[at].text && order(&words->slots[at], word))
        at = (at + 1) & (words->room - 1);
    return &words->slots[at];
}

static inline int more_room(struct words *words) {
    struct words larger = {.room = words->room ? words->room * 2 : 1024};
    larger.slots = lichen_alloc(larger.room * sizeof(struct word));
    if (!larger.slots)
        return 0;
    for (size_t i = 0; i < larger.room; i++)
        larger.slots[i].text = NULL;
    for (size_t i = 0; i < words->room; i++)
        if (words->slots[i].text)
            *slot(&larger, &words->slots[i]) = words->slots[i];
    larger.used = words->used;
    lichen_free(words->slots);
    *words = larger;
    return 1;
}

static inline int add(struct words *words, const char *text, size_t len, uint64_t count) {
    if (2 * words->used >= words->room && !more_room(words))
        return 0;
    struct word word = {text, len, count};
    struct word *found = slot(words, &word);
    if (found->text)
        found->count += count;
    else {
        *found = word;
        words->used++;
    }
    return 1;
}

static inline void sift(struct word *heap, size_t at, size_t len) {
    for (size_t child; (child = 2 * at + 1) < len; at = child) {
        if (child + 1 < len && order(&heap[child], &heap[child + 1]) < 0)
            child++;
        if (order(&heap[at], &heap[child]) >= 0)
            return;
        struct word swapped = heap[at];
        heap[at] = heap[child];
        heap[child] = swapped;
    }
}

/* Moves the words to the front of the table and sorts them. The table is none any more. */
static inline void sort(struct words *words) {
    size_t len = 0;
    for (size_t i = 0; i < words->room; i++)
        if (words->slots[i].text)
            words->slots[len++] = words->slots[i];
    for (size_t at = len / 2; at-- > 0;)
        sift(words->slots, at, len);
    for (size_t end = len; end-- > 1;) {
        struct word last = words->slots[0];
        words->slots[0] = words->slots[end];
        words->slots[end] = last;
        sift(words->slots, 0, end);
    }
}

/* Writes `WORD NUMBER`, and answers where it ended. */
static inline char *line(char *out, const struct word *word) {
    char digits[20];
    size_t len = 0;
    for (size_t i = 0; i < word->len; i++)
        *out++ = small(word->text[i]);
    *out++ = ' ';
    for (uint64_t rest = word->count; rest || !len; rest /= 10)
        digits[len++] = (char)('0' + rest % 10);
    while (len)
        *out++ = digits[--len];
    *out++ = '\n';
    return out;
}
