/* A set is to speak of a connection once: it does, also where that gets memory between the event and the next question. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
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
}

/* Until bytes go through memory, both ways. */
static void exchange(void) {
    char c;
    do
        MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
    while (tier && (tier(a) < 1 || tier(b) < 1));
}

/* One byte comes while the set is asked by the kernel alone, or beside another connection that has memory. */
static void once(const char *name, int set, unsigned flags) {
    struct epoll_event e = {EPOLLIN | EPOLLONESHOT | flags, {.u64 = 7}}, got = {0};
    char c[8];
    connected();
    MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e));
    MUST(send(a, "1", 1, 0) == 1);
    int first = epoll_wait(set, &got, 1, 1000);
    MUST(recv(b, c, 1, 0) == 1);
    exchange();
    MUST(send(a, "23", 2, 0) == 2);
    int unasked = epoll_wait(set, &got, 1, 30);
    MUST(recv(b, c, 1, 0) == 1);
    int still = epoll_wait(set, &got, 1, 0);
    MUST(!epoll_ctl(set, EPOLL_CTL_MOD, b, &e));
    int asked = epoll_wait(set, &got, 1, 1000), again = epoll_wait(set, &got, 1, 0);
    MUST(recv(b, c, 8, 0) == 1 && !epoll_ctl(set, EPOLL_CTL_MOD, b, &e));
    int nothing = epoll_wait(set, &got, 1, 0);
    MUST(send(a, "4", 1, 0) == 1);
    int more = epoll_wait(set, &got, 1, 1000);
    printf("%s: %d, unasked %d %d, asked %d %d, read %d %d\n", name, first, unasked, still, asked, again, nothing, more);
    close(a), close(b);
}

/* One that was told nothing is told of what comes through memory. */
static void quiet(int set) {
    struct epoll_event e = {EPOLLIN | EPOLLONESHOT, {.u64 = 8}}, got = {0};
    connected();
    MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e));
    exchange();
    int before = epoll_wait(set, &got, 1, 0);
    MUST(send(a, "x", 1, 0) == 1);
    int first = epoll_wait(set, &got, 1, 1000), second = epoll_wait(set, &got, 1, 0);
    printf("quiet: %d %d %d\n", before, first, second);
    close(a), close(b);
}

int main(void) {
    tier = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    alarm(50);
    int set = epoll_create1(0);
    once("alone", set, 0);
    once("alone, edge", set, EPOLLET);
    struct epoll_event e = {EPOLLIN, {.u64 = 9}};
    connected();
    MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e));
    exchange();
    MUST(epoll_wait(set, &e, 1, 0) == 0);
    once("beside another", set, 0);
    quiet(set);
    return 0;
}
