/* Much is sent on many connections before any of it is received: nobody waits for himself, and all of it comes, in order. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 120, MESSAGE = 8 << 10, BEFORE = 16, ROUNDS = 60 };

static int ends[CONNECTIONS][2];
static long sent[CONNECTIONS], received[CONNECTIONS];

static int check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static char byte(int at, long position) {
    return (char)(position * 7 + position / 509 + at);
}

static void send_one(int at, int flags) {
    static char bytes[MESSAGE];
    for (int i = 0; i < MESSAGE; i++) bytes[i] = byte(at, sent[at] + i);
    for (int done = 0; done < MESSAGE;) {
        ssize_t took = send(ends[at][0], bytes + done, MESSAGE - done, flags);
        if (took < 0 && errno == EAGAIN) {
            sched_yield();
            continue;
        }
        done += check(took, "send");
    }
    sent[at] += MESSAGE;
}

static int receive(int at) {
    static char bytes[5 * MESSAGE / 2];
    ssize_t got = recv(ends[at][1], bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    check(got, "recv");
    for (int i = 0; i < got; i++)
        if (bytes[i] != byte(at, received[at] + i)) {
            printf("connection %d: another byte at %ld\n", at, received[at] + i);
            exit(1);
        }
    received[at] += got;
    return got;
}

static void *serve(void *argument) {
    int set = *(int *)argument, whole = 0;
    while (whole < CONNECTIONS) {
        struct epoll_event events[64];
        int found = check(epoll_wait(set, events, 64, -1), "epoll_wait");
        for (int i = 0; i < found; i++) {
            int at = events[i].data.u32;
            long before = received[at], all = (long)(2 * BEFORE + 2 * ROUNDS) * MESSAGE;
            while (receive(at) > 0) {}
            whole += before < all && received[at] == all;
        }
    }
    return NULL;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket"), set = check(epoll_create1(0), "epoll_create1");
    check(bind(listener, (void *)&address, len), "bind");
    check(listen(listener, CONNECTIONS), "listen");
    check(getsockname(listener, (void *)&address, &len), "getsockname");
    for (int at = 0; at < CONNECTIONS; at++) {
        ends[at][0] = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
        check(connect(ends[at][0], (void *)&address, len), "connect");
        ends[at][1] = check(accept(listener, NULL, NULL), "accept");
    }
    /* They get memory. */
    for (int round = 0; round < BEFORE; round++)
        for (int at = 0; at < CONNECTIONS; at++) {
            send_one(at, 0);
            while (received[at] < sent[at]) receive(at);
        }
    /* Nobody receives meanwhile: some 16 MB, fewer on each connection than TCP has room for. */
    for (int round = 0; round < BEFORE; round++)
        for (int at = 0; at < CONNECTIONS; at++) send_one(at, round & 1 ? MSG_DONTWAIT : 0);
    printf("sent ahead\n");
    for (int at = 0; at < CONNECTIONS; at++)
        while (received[at] < sent[at]) receive(at);
    printf("received\n");
    /* And to one who is at work. */
    for (int at = 0; at < CONNECTIONS; at++) {
        struct epoll_event event = {.events = at & 1 ? EPOLLIN : EPOLLIN | EPOLLET, .data.u32 = at};
        check(epoll_ctl(set, EPOLL_CTL_ADD, ends[at][1], &event), "ADD");
    }
    pthread_t server;
    pthread_create(&server, NULL, serve, &set);
    for (int round = 0; round < 2 * ROUNDS; round++)
        for (int at = 0; at < CONNECTIONS; at++) send_one(at, round % 3 == 0 ? MSG_DONTWAIT : 0);
    pthread_join(server, NULL);
    printf("whole\n");
    return 0;
}
