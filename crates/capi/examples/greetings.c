/*
 * A program that starts itself on a PU, as a writer of one FIFO and with no other right, and reads what that writes.
 *
 *     cc -Iinclude crates/capi/examples/greetings.c -Ltarget/debug -llichen_xpu -o greetings
 *     LD_LIBRARY_PATH=target/debug ./greetings SOCKET [PU]
 */
#include <lichen_xpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* What a call has answered, or the end of this program. */
static int64_t checked(const char *what, int64_t answer)
{
    if (answer < 0) {
        fprintf(stderr, "%s: %s\n", what, xpu_strerror((int)answer));
        exit(1);
    }
    return answer;
}

/* The program as it was started by itself: it holds the right to write, and may do nothing else. */
static int writer(uint64_t fifo)
{
    static char long_text[1000000];
    struct xpu *xpu;
    struct xfifo *end;
    uint64_t other;

    checked("attach", xpu_attach(NULL, XPU_ADAPTIVE, &xpu));
    checked("connect", xfifo_connect(xpu, fifo, XPU_WRITE, &end));
    checked("write", xfifo_write(end, "greetings", 9, -1));
    memset(long_text, '.', sizeof long_text);
    checked("write", xfifo_write(end, long_text, sizeof long_text, 10000));
    if (xfifo_connect(xpu, fifo, XPU_READ, &end) != XPU_EPERM || grant_cap(xpu, 1, fifo, XPU_READ) != XPU_EPERM)
        return 2;
    checked("init", xfifo_init(xpu, 0, NULL, &other));
    /* Closing, releasing and detaching are left to the end of the process. */
    return 0;
}

int main(int argc, char **argv)
{
    static char buffer[2000000];
    struct xpu *xpu;
    struct xfifo *reader;
    struct xfifo_limits limits = {4000000, 0};
    struct xfifo_message message;
    struct xpu_capability capability;
    const char *arguments[4];
    uint64_t self, other, fifo;
    char name[32];
    int64_t got;

    if (argc == 3 && strcmp(argv[1], "--fifo") == 0)
        return writer(strtoull(argv[2], NULL, 10));
    if (argc < 2) {
        fprintf(stderr, "usage: %s SOCKET [PU]\n", argv[0]);
        return 2;
    }
    checked("attach", xpu_attach(argv[1], XPU_ADAPTIVE, &xpu));
    checked("get_xpupid", get_xpupid(xpu, &self));
    checked("init", xfifo_init(xpu, 0, &limits, &fifo));
    checked("connect", xfifo_connect(xpu, fifo, XPU_READ, &reader));
    if (xfifo_read(reader, buffer, sizeof buffer, 0, NULL) != XPU_EAGAIN)
        return 3;

    snprintf(name, sizeof name, "%llu", (unsigned long long)fifo);
    arguments[0] = argv[0];
    arguments[1] = "--fifo";
    arguments[2] = name;
    arguments[3] = NULL;
    capability.fifo = fifo;
    capability.rights = XPU_WRITE;
    checked("spawn", xspawn(xpu, argc > 2 ? atoi(argv[2]) : 0, argv[0], arguments, (const char *const *)environ,
                            &capability, 1, &other));

    /* A buffer that is too small loses nothing. */
    if (xfifo_read(reader, buffer, 4, 10000, &message) != XPU_ETOOLONG || message.length != 9)
        return 4;
    got = checked("read", xfifo_read(reader, buffer, sizeof buffer, 10000, &message));
    if (message.from != other || other == self)
        return 5;
    printf("%.*s\n", (int)got, buffer);
    printf("%lld\n", (long long)checked("read", xfifo_read(reader, buffer, sizeof buffer, 10000, NULL)));

    if (xfifo_read(reader, buffer, sizeof buffer, 10000, &message) != XPU_EWRITER || message.from != other)
        return 6;
    printf("%s\n", xpu_strerror(message.ended));

    xfifo_close(reader);
    checked("release", xfifo_release(xpu, fifo));
    if (xfifo_release(xpu, fifo) != XPU_ENOFIFO)
        return 7;
    xpu_detach(xpu);
    return 0;
}
