/* Two connections, whose ends wait in poll or select for either, asleep as often as not. What it says does not depend on how bytes go;
 * with EXPECT_MEMORY in the environment it insists that next to nothing goes over TCP once they have memory, not even to wake who sleeps:
 * at most what was on its way when both ends had found it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EACH = 2, WARM = 2000000, ROUNDS = 500 };
enum { POLL, PPOLL, SELECT, MANY, KINDS };
static const char *const names[KINDS] = {"poll", "ppoll", "select", "poll among many"};

static int (*tier)(int);
static int ends[EACH];
static int ear, mouth;

static long check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

/* Waits for one of them: which. */
static int waits(int kind) {
    struct pollfd polls[300];
    int count = kind == MANY ? 300 : kind == PPOLL ? 200 : EACH + 1;
    if (kind == SELECT) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(ear, &set);
        for (int at = 0; at < EACH; at++) FD_SET(ends[at], &set);
        struct timeval limit = {.tv_sec = 20};
        check(select(FD_SETSIZE, &set, NULL, NULL, &limit) - 1, "select");
        for (int at = 0; at < EACH; at++)
            if (FD_ISSET(ends[at], &set)) return at;
        exit(2);
    }
    for (int at = 0; at < count; at++)
        polls[at] = (struct pollfd){.fd = at < EACH ? ends[at] : ear, .events = POLLIN};
    struct timespec limit = {.tv_sec = 20};
    int found = kind == PPOLL ? ppoll(polls, count, &limit, NULL) : poll(polls, count, 20000);
    check(found - 1, "poll");
    int there = 0;
    for (int at = 0; at < count; at++) there += polls[at].revents != 0;
    if (there != found) {
        printf("%d are said to have something, and %d have\n", found, there);
        exit(1);
    }
    for (int at = 0; at < EACH; at++)
        if (polls[at].revents) return at;
    exit(2);
}

static unsigned long over_tcp(void) {
    unsigned long all = 0;
    for (int at = 0; at < EACH; at++) {
        struct tcp_info info = {0};
        socklen_t len = sizeof info;
        check(getsockopt(ends[at], IPPROTO_TCP, TCP_INFO, &info, &len), "TCP_INFO");
        all += info.tcpi_bytes_received;
    }
    return all;
}

static char take(int kind, int *from) {
    for (;;) {
        *from = waits(kind);
        char byte;
        long got = recv(ends[*from], &byte, 1, 0);
        if (got == 1) return byte;
        if (got == 0) return 0;
    }
}

/* What came over TCP since memory began, at this end. */
static void judge(const char *who, int kind, unsigned long before) {
    unsigned long came = over_tcp() - before;
    if (getenv("EXPECT_MEMORY") && kind != MANY && came > ROUNDS / 10) {
        printf("%s, %s: %lu bytes over TCP\n", names[kind], who, came);
        fflush(stdout);
        exit(1);
    }
}

static void call(int kind) {
    int from, turn = 0;
    do {
        check(send(ends[turn % EACH], "w", 1, 0) - 1, "send");
        if (take(kind, &from) != 'w' || from != turn % EACH) exit(3);
        turn++;
    } while (turn < 20 || (tier && turn < WARM && (tier(ends[0]) < 1 || tier(ends[1]) < 1)));
    for (int at = 0; at < 2 * EACH; at++) {
        check(send(ends[at % EACH], "m", 1, 0) - 1, "send");
        if (take(kind, &from) != 'm') exit(3);
    }
    unsigned long before = over_tcp();
    for (int round = 0; round < ROUNDS; round++) {
        char byte = 'A' + round % 26;
        check(send(ends[round * 7 % 5 % EACH], &byte, 1, 0) - 1, "send");
        if (take(kind, &from) != byte || from != round * 7 % 5 % EACH) exit(3);
    }
    judge("caller", kind, before);
    check(send(ends[0], "e", 1, 0) - 1, "send");
    exit(take(kind, &from) == 'e' ? 0 : 3);
}

static void answer(int kind) {
    unsigned long before = 0;
    int memory = 0, from;
    char byte;
    while ((byte = take(kind, &from)) != 0) {
        if (byte == 'm' && memory++ == 2 * EACH - 1) before = over_tcp();
        if (byte == 'e') judge("server", kind, before);
        check(send(ends[from], &byte, 1, MSG_NOSIGNAL) - 1, "send");
    }
}

static void talk(int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(bind(listener, (void *)&address, size), "bind");
    check(listen(listener, EACH), "listen");
    check(getsockname(listener, (void *)&address, &size), "getsockname");
    int caller = check(fork(), "fork");
    for (int at = 0; at < EACH; at++) {
        if (caller == 0) {
            ends[at] = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
            check(connect(ends[at], (void *)&address, size), "connect");
        } else {
            ends[at] = check(accept(listener, NULL, NULL), "accept");
        }
        /* As event loops have them. */
        if (kind != SELECT) check(fcntl(ends[at], F_SETFL, O_NONBLOCK), "F_SETFL");
    }
    if (caller == 0) call(kind);
    answer(kind);
    int status;
    check(waitpid(caller, &status, 0), "waitpid");
    for (int at = 0; at < EACH; at++) close(ends[at]);
    close(listener);
    printf("%s: %s\n", names[kind], WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "all answered" : "failed");
    fflush(stdout);
}

int main(void) {
    int pipes[2];
    check(pipe(pipes), "pipe");
    ear = pipes[0], mouth = pipes[1];
    if (getenv("EXPECT_MEMORY")) tier = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    for (int kind = 0; kind < KINDS; kind++) talk(kind);
    return mouth < 0;
}
