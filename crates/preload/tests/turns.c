// A call by way of others: caller and server on one processor, two relays on another. What it takes, in microseconds, the median of many.
//
//   turns PORT PORT PORT: of the first relay, the second and the server.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 16, WARM = 400, CALLS = 400 };

static void need(int yes, const char *what) {
    if (!yes) {
        perror(what);
        exit(1);
    }
}

static void run_on(int which) {
    cpu_set_t all, one;
    need(sched_getaffinity(0, sizeof all, &all) == 0, "affinity");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && which-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            need(sched_setaffinity(0, sizeof one, &one) == 0, "affinity");
            return;
        }
    }
}

static int connected(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    need(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int accepted(int listener) {
    int one = 1, fd = accept4(listener, NULL, NULL, 0);
    need(fd >= 0, "accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void serve(int listener) {
    int fd = accepted(listener);
    char bytes[BYTES];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        need(write(fd, bytes, got) == got, "write");
    }
}

static void relay(int listener, int port) {
    int ends[2] = {accepted(listener), connected(port)}, set = epoll_create1(0);
    for (int end = 0; end < 2; end++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = end};
        fcntl(ends[end], F_SETFL, O_NONBLOCK);
        need(epoll_ctl(set, EPOLL_CTL_ADD, ends[end], &event) == 0, "epoll_ctl");
    }
    for (;;) {
        struct epoll_event events[4];
        int count = epoll_wait(set, events, 4, -1);
        for (int at = 0; at < count; at++) {
            int from = events[at].data.u32;
            char bytes[BYTES];
            ssize_t got = read(ends[from], bytes, sizeof bytes);
            if (got == 0) {
                return;
            }
            need(got < 0 || write(ends[1 - from], bytes, got) == got, "write");
        }
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int later(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static int listening(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    need(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0, "listen");
    return fd;
}

int main(int count, char **words) {
    int ports[3], listeners[3];
    need(count == 4, "words");
    for (int role = 0; role < 3; role++) {
        ports[role] = atoi(words[1 + role]);
        listeners[role] = listening(ports[role]);
    }
    for (int role = 0; role < 3; role++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_on(role == 2 ? 0 : 1);
            role == 2 ? serve(listeners[2]) : relay(listeners[role], ports[role + 1]);
            _exit(0);
        }
    }
    run_on(0);
    int fd = connected(ports[0]);
    static double took[CALLS];
    for (int call = -WARM; call < CALLS; call++) {
        char bytes[BYTES] = "a call";
        double began = now();
        need(write(fd, bytes, sizeof bytes) == sizeof bytes, "write");
        for (int got = 0; got < BYTES;) {
            ssize_t more = read(fd, bytes, sizeof bytes - got);
            need(more > 0, "read");
            got += more;
        }
        if (call >= 0) {
            took[call] = now() - began;
        }
    }
    qsort(took, CALLS, sizeof took[0], later);
    printf("%.0f\n", took[CALLS / 2]);
    return 0;
}
