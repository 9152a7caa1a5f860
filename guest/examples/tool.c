/*
 * tool: an ordinary program for WASI, with the C library and nothing of ours, for tests of `lichen run`.
 *
 *   tool args                 its arguments, one per line          tool env NAME          that variable
 *   tool cat [FILE]…          files, or standard input             tool fail CODE TEXT    TEXT to standard error, that code
 *   tool write FILE TEXT      makes a file                         tool append FILE TEXT  adds to one
 *   tool rm FILE              removes one                          tool mv FROM TO        renames
 *   tool mkdir FOLDER         makes a folder                       tool ls FOLDER         its entries, as they come
 *   tool upper                standard input in capital letters, line by line
 *   tool trap                 gives up where it never comes        tool loop              goes on for ever
 *   tool eat                  takes memory until there is none, and says so
 *   tool yes                  a line, again and again              tool tty               of each standard stream whether it is a terminal
 *   tool poll MILLISECONDS    whether there is input by then
 */
#include <ctype.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy(FILE *in) {
    char buffer[8192];
    size_t got;
    while ((got = fread(buffer, 1, sizeof(buffer), in)) > 0)
        fwrite(buffer, 1, got, stdout);
    return ferror(in);
}

static int cat(char **files, int count) {
    for (int i = 0; i < count; i++) {
        FILE *in = fopen(files[i], "r");
        if (!in || copy(in)) {
            perror(files[i]);
            return 1;
        }
        fclose(in);
    }
    return count ? 0 : copy(stdin);
}

static int put(const char *file, const char *text, const char *how) {
    FILE *out = fopen(file, how);
    if (!out || fputs(text, out) < 0 || fclose(out)) {
        perror(file);
        return 1;
    }
    return 0;
}

static int list(const char *folder) {
    DIR *open = opendir(folder);
    if (!open) {
        perror(folder);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(open));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            puts(entry->d_name);
    return closedir(open);
}

static int upper(void) {
    for (int c; (c = getchar()) != EOF;) {
        putchar(toupper(c));
        if (c == '\n')
            fflush(stdout);
    }
    return 0;
}

static int eat(void) {
    for (volatile char *got; (got = malloc(1 << 20));)
        got[0] = 1;
    puts("full");
    return 0;
}

static int wait_for_input(int milliseconds) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    int ready = poll(&input, 1, milliseconds);
    puts(ready > 0 ? "input" : "nothing");
    return ready < 0;
}

static int done(int failed, const char *what) {
    if (failed)
        perror(what);
    return failed ? 1 : 0;
}

int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    if (!strcmp(verb, "args"))
        for (int i = 2; i < count; i++)
            puts(words[i]);
    else if (!strcmp(verb, "env") && count > 2)
        puts(getenv(words[2]) ? getenv(words[2]) : "(unset)");
    else if (!strcmp(verb, "cat"))
        return cat(words + 2, count - 2);
    else if (!strcmp(verb, "fail") && count > 3)
        return fprintf(stderr, "%s\n", words[3]), atoi(words[2]);
    else if (!strcmp(verb, "write") && count > 3)
        return put(words[2], words[3], "w");
    else if (!strcmp(verb, "append") && count > 3)
        return put(words[2], words[3], "a");
    else if (!strcmp(verb, "rm") && count > 2)
        return done(unlink(words[2]), words[2]);
    else if (!strcmp(verb, "mv") && count > 3)
        return done(rename(words[2], words[3]), words[2]);
    else if (!strcmp(verb, "mkdir") && count > 2)
        return done(mkdir(words[2], 0777), words[2]);
    else if (!strcmp(verb, "ls") && count > 2)
        return list(words[2]);
    else if (!strcmp(verb, "upper"))
        return upper();
    else if (!strcmp(verb, "tty"))
        for (int fd = 0; fd < 3; fd++)
            puts(isatty(fd) ? "terminal" : "none");
    else if (!strcmp(verb, "yes"))
        while (puts("y") >= 0)
            ;
    else if (!strcmp(verb, "poll") && count > 2)
        return wait_for_input(atoi(words[2]));
    else if (!strcmp(verb, "eat"))
        return eat();
    else if (!strcmp(verb, "trap"))
        __builtin_trap();
    else if (!strcmp(verb, "loop"))
        for (;;)
            __asm__ volatile("");
    else
        return fprintf(stderr, "tool: what is asked is not known\n"), 64;
    return 0;
}
