/* What can still be received, and what is said to whom, when a side of a connection is shut, or both are. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(x) do { if (!(x)) { printf("line %d: %s: %s\n", __LINE__, #x, strerror(errno)); exit(1); } } while (0)

static int a, b;
static int (*tier)(int);

static void connected(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!bind(l, (void *)&at, len) && !listen(l, 1) && !getsockname(l, (void *)&at, &len));
    a = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!connect(a, (void *)&at, len) && (b = accept(l, NULL, NULL)) >= 0 && !close(l));
    /* Nothing is held back. */
    int one = 1;
    MUST(!setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) && !setsockopt(b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
}

/* Until bytes go through memory, both ways. */
static void exchange(void) {
    char c;
    do
        MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
    while (tier && (tier(a) < 1 || tier(b) < 1));
}

/* What a call says, without waiting, and the first bytes that it brings. */
static void says(const char *name, int fd, int sends) {
    char bytes[9] = "sent";
    ssize_t n = sends ? send(fd, bytes, 4, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(fd, bytes, 8, MSG_DONTWAIT);
    int error = errno;
    bytes[n < 0 ? 0 : n] = 0;
    printf(" %s %zd %s", name, n, n < 0 ? strerrorname_np(error) : sends ? "" : bytes);
}

/* What TCP has told the other end arrives within the call that sends it, on loopback. */
static void polled(int fd) {
    struct pollfd p = {fd, POLLIN | POLLRDHUP, 0};
    poll(&p, 1, 0);
    printf(" [%x]", p.revents);
}

static void shut(const char *name, int first, int second, int unread) {
    connected();
    exchange();
    printf("%s:", name);
    if (unread) MUST(send(a, "early", 5, 0) == 5);
    MUST(!shutdown(b, first) && (second < 0 || !shutdown(b, second)));
    polled(b), polled(a);
    says("takes", b, 0);
    says("sends", a, 1);
    polled(b), polled(a);
    says("takes", b, 0), says("takes", b, 0), says("takes", b, 0);
    says("sends", a, 1), says("sends", a, 1);
    says("answers", b, 1);
    says("hears", a, 0), says("hears", a, 0);
    polled(b), polled(a);
    putchar('\n');
    close(a), close(b);
}

/* An edge after it was shut. */
static void edges(void) {
    struct epoll_event e = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.u64 = 1}};
    int set = epoll_create1(0);
    connected();
    exchange();
    MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e) && !shutdown(b, SHUT_RD));
    MUST(epoll_wait(set, &e, 1, 1000) == 1);
    printf("edges: %x", e.events);
    MUST(send(a, "x", 1, 0) == 1 && epoll_wait(set, &e, 1, 1000) == 1);
    printf(" %x", e.events);
    says("takes", b, 0);
    putchar('\n');
    close(a), close(b), close(set);
}

int main(void) {
    tier = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    signal(SIGPIPE, SIG_IGN);
    alarm(50);
    for (int unread = 0; unread < 2; unread++) {
        shut("receiving", SHUT_RD, -1, unread);
        shut("sending", SHUT_WR, -1, unread);
        shut("both", SHUT_RDWR, -1, unread);
        shut("one after the other", SHUT_RD, SHUT_WR, unread);
        shut("the other way round", SHUT_WR, SHUT_RD, unread);
    }
    edges();
    return 0;
}
