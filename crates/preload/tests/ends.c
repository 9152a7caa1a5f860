/* Connections that end while a broker that does not answer has been shown them: the other end hears of it at once.
 * Says "joined" when the broker knows this program; goes on when it is told a line. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(x) do { if (!(x)) { printf("line %d: %s: %s\n", __LINE__, #x, strerror(errno)); exit(1); } } while (0)

static int a, b;

static void connected(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!bind(l, (void *)&at, len) && !listen(l, 1) && !getsockname(l, (void *)&at, &len));
    a = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!connect(a, (void *)&at, len) && (b = accept(l, NULL, NULL)) >= 0 && !close(l));
}

static void exchange(void) {
    char c;
    MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
}

/* What the other end finds, and how much it can still send. */
static void found(const char *name) {
    struct pollfd p = {b, POLLIN, 0};
    char c[8];
    MUST(poll(&p, 1, 5000) == 1);
    ssize_t got = recv(b, c, sizeof c, 0);
    printf("%s: %d %zd %s\n", name, p.revents, got, got < 0 ? strerrorname_np(errno) : "ok");
    close(b);
}

int main(void) {
    int (*tier)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    alarm(50);
    connected();
    do exchange(); while (tier && tier(a) < 1);
    close(a), close(b);
    char line[8];
    MUST(puts("joined") >= 0 && !fflush(stdout) && fgets(line, sizeof line, stdin));

    connected();
    for (int i = 0; i < 8; i++) exchange();
    close(a);
    found("closed");

    connected();
    for (int i = 0; i < 8; i++) exchange();
    MUST(send(b, "unread", 6, 0) == 6 && !close(a));
    found("closed with bytes that nobody has read");

    connected();
    for (int i = 0; i < 8; i++) exchange();
    struct linger linger = {1, 0};
    MUST(!setsockopt(a, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) && !close(a));
    found("reset");

    connected();
    for (int i = 0; i < 8; i++) exchange();
    int other = dup(a);
    close(a);
    struct pollfd p = {b, POLLIN, 0};
    MUST(poll(&p, 1, 0) == 0);
    close(other);
    found("closed by its second descriptor");
    return 0;
}
