/*
 * Names of sets and items, in whatever way they travel. Part of lichen.c.
 */
enum { NAME_MAX_BYTES = 255, DIGITS_MAX = 20 };

static size_t text_len(const char *text) {
    size_t len = 0;
    while (text[len])
        len++;
    return len;
}

static int same(const char *a, size_t a_len, const char *b, size_t b_len) {
    if (a_len != b_len)
        return 0;
    for (size_t i = 0; i < a_len; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

static int good_name(const char *name, size_t len) {
    if (len == 0 || len > NAME_MAX_BYTES || same(name, len, ".", 1) || same(name, len, "..", 2))
        return 0;
    for (size_t i = 0; i < len; i++)
        if (name[i] == '/' || name[i] == 0)
            return 0;
    return 1;
}

/* Writes a number in decimal; answers how many digits that were. */
static size_t decimal(uint64_t number, char *out) {
    char reversed[DIGITS_MAX];
    size_t digits = 0;
    do {
        reversed[digits++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    for (size_t i = 0; i < digits; i++)
        out[i] = reversed[digits - 1 - i];
    return digits;
}
