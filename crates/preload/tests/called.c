/* Many connections in one epoll set, most of them asleep: each message is answered, whoever waits for the set, and however.
 * What it says does not depend on how bytes go. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 200, ROUNDS = 3000 };

static int check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

struct server {
    int set, kind;
};

enum { LEVEL, EDGE, ONCE, OTHERS, KINDS };
static const char *const names[KINDS] = {"level", "edge", "once, two threads", "the set polled"};

static uint32_t wanted(int kind) {
    return EPOLLIN | (kind == EDGE ? EPOLLET : kind == ONCE ? EPOLLONESHOT : 0);
}

/* Answers each message by itself, until a connection ends. */
static void *serve(void *argument) {
    struct server *server = argument;
    for (;;) {
        struct epoll_event events[16];
        if (server->kind == OTHERS) {
            struct pollfd poll_set = {.fd = server->set, .events = POLLIN};
            check(poll(&poll_set, 1, -1), "poll");
        }
        int found = check(epoll_wait(server->set, events, 16, server->kind == OTHERS ? 0 : -1), "epoll_wait");
        for (int at = 0; at < found; at++) {
            int fd = events[at].data.fd;
            char bytes[64];
            for (;;) {
                ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
                if (got == 0) return NULL;
                if (got < 0 && errno == EAGAIN) break;
                check(got, "recv");
                if (send(fd, bytes, got, MSG_NOSIGNAL) != got) check(-1, "send");
            }
            if (server->kind == ONCE) {
                struct epoll_event again = {.events = wanted(ONCE), .data.fd = fd};
                check(epoll_ctl(server->set, EPOLL_CTL_MOD, fd, &again), "MOD");
                /* The other thread is to be woken by what comes now. */
                struct timespec pause = {.tv_nsec = 50000};
                nanosleep(&pause, NULL);
            }
        }
    }
}

static void call(const struct sockaddr_in *address) {
    static int open[CONNECTIONS];
    for (int at = 0; at < CONNECTIONS; at++) {
        int one = 1;
        open[at] = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
        check(connect(open[at], (const void *)address, sizeof *address), "connect");
        check(setsockopt(open[at], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
    }
    unsigned seed = 1;
    for (int round = 0; round < ROUNDS + 10 * CONNECTIONS; round++) {
        /* First each gets memory; then most sleep. */
        int fd = open[round < 10 * CONNECTIONS ? round % CONNECTIONS : rand_r(&seed) % CONNECTIONS];
        char sent[16] = {0}, back[16];
        int len = 1 + rand_r(&seed) % 15;
        memcpy(sent, &round, sizeof round);
        if (send(fd, sent, len, 0) != len) check(-1, "send");
        for (int got = 0; got < len;) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            if (check(poll(&wait, 1, 10000), "poll") == 0) {
                printf("no answer in round %d\n", round);
                exit(1);
            }
            ssize_t some = check(recv(fd, back + got, len - got, 0), "recv");
            if (some == 0) exit(1);
            got += some;
        }
        if (memcmp(sent, back, len)) {
            printf("another answer in round %d\n", round);
            exit(1);
        }
        if (round % 7 == 0) {
            struct timespec pause = {.tv_nsec = 100000};
            nanosleep(&pause, NULL);
        }
    }
    exit(0);
}

static void talk(int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(bind(listener, (void *)&address, size), "bind");
    check(listen(listener, CONNECTIONS), "listen");
    check(getsockname(listener, (void *)&address, &size), "getsockname");
    int caller = check(fork(), "fork");
    if (caller == 0) call(&address);
    struct server server = {.set = check(epoll_create1(0), "epoll_create1"), .kind = kind};
    /* They wait before there is anything in the set, let alone memory. */
    pthread_t threads[2];
    int count = kind == ONCE ? 2 : 1;
    for (int at = 0; at < count; at++) pthread_create(&threads[at], NULL, serve, &server);
    static int accepted[CONNECTIONS];
    for (int at = 0; at < CONNECTIONS; at++) {
        accepted[at] = check(accept4(listener, NULL, NULL, SOCK_NONBLOCK), "accept");
        struct epoll_event event = {.events = wanted(kind), .data.fd = accepted[at]};
        check(epoll_ctl(server.set, EPOLL_CTL_ADD, accepted[at], &event), "ADD");
    }
    int status;
    check(waitpid(caller, &status, 0), "waitpid");
    for (int at = 0; at < count; at++) pthread_join(threads[at], NULL);
    for (int at = 0; at < CONNECTIONS; at++) close(accepted[at]);
    close(server.set);
    close(listener);
    printf("%s: %s\n", names[kind], WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "all answered" : "failed");
    fflush(stdout);
}

int main(void) {
    for (int kind = 0; kind < KINDS; kind++) talk(kind);
    return 0;
}
