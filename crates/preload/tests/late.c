// What a set says whose members are removed, put back and changed all the time, between two ends of connections in one process: with memory or
// without, the same.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int yes, const char *what) {
    if (!yes) {
        perror(what);
        exit(1);
    }
}

static void join(int ends[2]) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 1) == 0, "listen");
    getsockname(listener, (void *)&at, &len);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(connect(ends[0], (void *)&at, sizeof at) == 0, "connect");
    ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    for (int end = 0; end < 2; end++) {
        setsockopt(ends[end], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    // Until they have memory, if they get some.
    for (int turn = 0; turn < 400; turn++) {
        char byte = 'w';
        need(write(ends[turn & 1], &byte, 1) == 1 && read(ends[~turn & 1], &byte, 1) == 1, "warm");
    }
}

static int set;

static void ctl(int what, int fd, unsigned events, unsigned data) {
    static const char *names[] = {"", "add", "del", "mod"};
    struct epoll_event event = {.events = events, .data.u32 = data};
    int result = epoll_ctl(set, what, fd, what == EPOLL_CTL_DEL ? NULL : &event);
    printf("%s %u: %s\n", names[what], data, result == 0 ? "yes" : strerror(errno));
}

static int sooner(const void *one, const void *other) {
    const struct epoll_event *a = one, *b = other;
    return (a->data.u32 > b->data.u32) - (a->data.u32 < b->data.u32);
}

static void wait_for(int ms) {
    struct epoll_event events[8];
    int count = epoll_wait(set, events, 8, ms);
    qsort(events, count, sizeof events[0], sooner);
    printf("%d:", count);
    for (int at = 0; at < count; at++) {
        printf(" %u %x", events[at].data.u32, events[at].events);
    }
    printf("\n");
}

static void say(int fd) {
    need(write(fd, "x", 1) == 1, "write");
}

static void hear(int fd) {
    char bytes[64];
    printf("got %zd\n", recv(fd, bytes, sizeof bytes, MSG_DONTWAIT));
}

int main(void) {
    int a[2], b[2];
    join(a);
    join(b);
    set = epoll_create1(EPOLL_CLOEXEC);
    ctl(EPOLL_CTL_ADD, a[0], EPOLLIN, 1);
    ctl(EPOLL_CTL_ADD, b[0], EPOLLIN, 2);
    wait_for(1);
    say(a[1]);
    wait_for(-1);
    hear(a[0]);
    // As a client does that writes when it may, and then waits for the answer.
    for (int turn = 0; turn < 50; turn++) {
        ctl(EPOLL_CTL_DEL, a[0], 0, 1);
        ctl(EPOLL_CTL_ADD, a[0], EPOLLOUT, 3);
        wait_for(-1);
        say(a[0]);
        hear(a[1]);
        ctl(EPOLL_CTL_DEL, a[0], 0, 3);
        ctl(EPOLL_CTL_ADD, a[0], EPOLLIN, 4);
        if (turn % 3 == 0) {
            wait_for(1);
        }
        say(a[1]);
        wait_for(-1);
        hear(a[0]);
    }
    // What is there and is not, twice.
    ctl(EPOLL_CTL_ADD, a[0], EPOLLIN, 5);
    ctl(EPOLL_CTL_DEL, a[0], 0, 5);
    ctl(EPOLL_CTL_DEL, a[0], 0, 5);
    ctl(EPOLL_CTL_MOD, a[0], EPOLLIN, 5);
    ctl(EPOLL_CTL_DEL, b[0], 0, 2);
    say(a[1]);
    say(b[1]);
    wait_for(1);
    ctl(EPOLL_CTL_ADD, b[0], EPOLLIN | EPOLLOUT, 6);
    ctl(EPOLL_CTL_ADD, a[0], EPOLLIN, 7);
    wait_for(-1);
    ctl(EPOLL_CTL_MOD, b[0], EPOLLIN, 8);
    ctl(EPOLL_CTL_MOD, a[0], EPOLLIN | EPOLLET, 9);
    wait_for(-1);
    hear(a[0]);
    hear(b[0]);
    wait_for(1);
    // Who waits in ways that are not seen: a set in poll, and in a child.
    ctl(EPOLL_CTL_MOD, b[0], EPOLLOUT, 10);
    struct pollfd one = {.fd = set, .events = POLLIN};
    printf("poll %d\n", poll(&one, 1, 0));
    wait_for(-1);
    ctl(EPOLL_CTL_MOD, b[0], EPOLLIN, 11);
    printf("poll %d\n", poll(&one, 1, 0));
    fflush(stdout);
    int other = epoll_create1(EPOLL_CLOEXEC);
    close(set);
    set = other;
    ctl(EPOLL_CTL_ADD, a[0], EPOLLIN, 1);
    wait_for(1);
    ctl(EPOLL_CTL_MOD, a[0], EPOLLOUT, 2);
    fflush(stdout);
    if (fork() == 0) {
        wait_for(-1);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    // One that is removed and closed, of which another descriptor is open: nothing more is said of it.
    set = epoll_create1(EPOLL_CLOEXEC);
    ctl(EPOLL_CTL_ADD, b[0], EPOLLIN, 1);
    wait_for(1);
    int again = dup(b[0]);
    ctl(EPOLL_CTL_DEL, b[0], 0, 1);
    close(b[0]);
    say(b[1]);
    wait_for(1);
    hear(again);
    // The end, of one that was put back.
    set = epoll_create1(EPOLL_CLOEXEC);
    ctl(EPOLL_CTL_ADD, again, EPOLLIN, 1);
    wait_for(1);
    ctl(EPOLL_CTL_DEL, again, 0, 1);
    ctl(EPOLL_CTL_ADD, again, EPOLLIN | EPOLLRDHUP, 2);
    close(b[1]);
    wait_for(-1);
    hear(again);
    return 0;
}
