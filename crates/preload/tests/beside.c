/* Connections that always have something in an epoll set with a pipe: the pipe is heard of, whatever room there is for events, and so is each
 * of the connections; also by who asks without waiting, again and again, and then waits. What it says does not depend on how bytes go. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONNECTIONS = 100, WAITS = 20000, ROUNDS = 2000 };

static long check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static int ends[CONNECTIONS];

/* A process of its own for the other ends: what it does. */
static int talks(void (*what)(void)) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(bind(listener, (void *)&address, size), "bind");
    check(listen(listener, CONNECTIONS), "listen");
    check(getsockname(listener, (void *)&address, &size), "getsockname");
    int caller = check(fork(), "fork");
    for (int at = 0; at < CONNECTIONS; at++) {
        if (caller == 0) {
            ends[at] = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
            check(connect(ends[at], (void *)&address, size), "connect");
        } else {
            ends[at] = check(accept4(listener, NULL, NULL, SOCK_NONBLOCK), "accept");
        }
    }
    if (caller == 0) {
        what();
        exit(0);
    }
    close(listener);
    return caller;
}

/* Asks on each, some times, so that it has memory, then sends more than anybody takes. */
static void fills(void) {
    static char bytes[4096];
    for (int turn = 0; turn < 40; turn++)
        for (int at = 0; at < CONNECTIONS; at++) {
            check(send(ends[at], bytes, 1, 0), "send");
            check(recv(ends[at], bytes, 1, 0) - 1, "recv");
        }
    for (int at = 0; at < CONNECTIONS; at++) check(send(ends[at], bytes, sizeof bytes, 0), "send");
    pause();
}

static int with_members(void) {
    int set = check(epoll_create1(0), "epoll_create1");
    for (int at = 0; at < CONNECTIONS; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = at};
        check(epoll_ctl(set, EPOLL_CTL_ADD, ends[at], &event), "ADD");
    }
    return set;
}

/* Answers so many bytes. */
static void answers(int set, int rounds, int asks) {
    struct epoll_event events[64];
    while (rounds > 0) {
        int found = asks ? check(epoll_wait(set, events, 64, 0), "epoll_wait") : 0;
        if (found == 0) found = check(epoll_wait(set, events, 64, -1), "epoll_wait");
        for (int at = 0; at < found; at++, rounds--) {
            char byte;
            check(recv(ends[events[at].data.u32], &byte, 1, 0) - 1, "recv");
            check(send(ends[events[at].data.u32], &byte, 1, 0) - 1, "send");
        }
    }
}

static void hears(int room) {
    int caller = talks(fills), set = with_members(), pipes[2], there = 0, all = 0;
    answers(set, 40 * CONNECTIONS, 0);
    check(pipe(pipes), "pipe");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = CONNECTIONS}, events[64];
    check(epoll_ctl(set, EPOLL_CTL_ADD, pipes[0], &event), "ADD");
    check(write(pipes[1], "p", 1), "write");
    char seen[CONNECTIONS + 1] = {0};
    for (int turn = 0; turn < WAITS && there + all <= CONNECTIONS; turn++) {
        int found = check(epoll_wait(set, events, room, -1), "epoll_wait");
        for (int at = 0; at < found; at++) {
            int which = events[at].data.u32;
            all += !seen[which] && which < CONNECTIONS;
            there |= which == CONNECTIONS;
            seen[which] = 1;
        }
    }
    printf("room for %d: pipe %s, %d connections\n", room, there ? "heard" : "not heard", all);
    fflush(stdout);
    kill(caller, SIGKILL);
    check(waitpid(caller, NULL, 0), "waitpid");
    for (int at = 0; at < CONNECTIONS; at++) close(ends[at]);
    close(set), close(pipes[0]), close(pipes[1]);
}

/* Has few of many answer, so that the others rest, then all of them. */
static void turns(void) {
    for (int turn = 0; turn < 40 * CONNECTIONS + ROUNDS; turn++) {
        char byte = turn;
        int at = turn < 40 * CONNECTIONS || turn % 50 == 0 ? turn / 3 % CONNECTIONS : turn % 3;
        check(send(ends[at], &byte, 1, 0) - 1, "send");
        char back;
        check(recv(ends[at], &back, 1, 0) - 1, "recv");
        if (back != byte) exit(3);
    }
}

static void asks(void) {
    int caller = talks(turns), set = with_members(), status;
    answers(set, 40 * CONNECTIONS + ROUNDS, 1);
    check(waitpid(caller, &status, 0), "waitpid");
    printf("asked before waiting: %s\n", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "all answered" : "failed");
}

int main(void) {
    hears(64);
    hears(4);
    hears(1);
    asks();
    return 0;
}
