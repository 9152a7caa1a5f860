/* Several threads wait for one epoll set: while one of them is held up by what it was woken for, another is woken for what comes next.
 * What it says does not depend on how bytes go. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 2, THREADS = 2, WARM = 50, ROUNDS = 300, PATIENCE_MS = 10000 };

#define MUST(x) do { if (!(x)) { perror(#x); exit(1); } } while (0)

enum { LEVEL, EDGE, ONE_EACH, KINDS };
static const char *const names[KINDS] = {"level", "edge", "one event each"};

struct server {
    int set, kind;
    sem_t let_go;
};

/* Answers each byte by itself. 'h' holds its thread up until an 'l' lets it go. */
static void *serve(void *argument) {
    struct server *server = argument;
    for (;;) {
        struct epoll_event events[16];
        int found = epoll_wait(server->set, events, server->kind == ONE_EACH ? 1 : 16, -1);
        MUST(found > 0 || errno == EINTR);
        for (int at = 0; at < found; at++) {
            int fd = events[at].data.fd, held = 0;
            if (fd < 0) return NULL;
            char byte;
            ssize_t got;
            while ((got = recv(fd, &byte, 1, MSG_DONTWAIT)) > 0) {
                held += byte == 'h';
                if (byte == 'l') sem_post(&server->let_go);
                MUST(send(fd, &byte, 1, MSG_NOSIGNAL) == 1);
            }
            if (got == 0) epoll_ctl(server->set, EPOLL_CTL_DEL, fd, NULL);
            for (; held > 0; held--) {
                while (sem_wait(&server->let_go)) MUST(errno == EINTR);
            }
        }
    }
}

static void hear(int fd, char expected) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    char byte;
    if (poll(&wait, 1, PATIENCE_MS) != 1) {
        printf("no answer to %c\n", expected);
        fflush(stdout);
        exit(1);
    }
    MUST(recv(fd, &byte, 1, 0) == 1 && byte == expected);
}

static void call(const struct sockaddr_in *address, int kind) {
    int fds[CONNECTIONS];
    for (int at = 0; at < CONNECTIONS; at++) {
        int one = 1;
        fds[at] = socket(AF_INET, SOCK_STREAM, 0);
        MUST(!connect(fds[at], (const void *)address, sizeof *address));
        MUST(!setsockopt(fds[at], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    }
    for (int round = 0; round < WARM * CONNECTIONS; round++) {
        MUST(send(fds[round % CONNECTIONS], "e", 1, 0) == 1);
        hear(fds[round % CONNECTIONS], 'e');
    }
    for (int round = 0; round < ROUNDS; round++) {
        int first = fds[round % CONNECTIONS], second = kind == ONE_EACH ? fds[(round + 1) % CONNECTIONS] : first;
        MUST(send(first, "h", 1, 0) == 1);
        if (kind != ONE_EACH) hear(first, 'h');
        MUST(send(second, "l", 1, 0) == 1);
        if (kind == ONE_EACH) hear(first, 'h');
        hear(second, 'l');
        /* For most of them both threads sleep. */
        struct timespec pause = {.tv_nsec = round % 4 * 50000};
        nanosleep(&pause, NULL);
    }
    exit(0);
}

static void talk(int kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), status, accepted[CONNECTIONS];
    MUST(!bind(listener, (void *)&address, size) && !listen(listener, CONNECTIONS));
    MUST(!getsockname(listener, (void *)&address, &size));
    pid_t caller = fork();
    MUST(caller >= 0);
    if (caller == 0) call(&address, kind);
    struct server server = {.set = epoll_create1(0), .kind = kind};
    MUST(!sem_init(&server.let_go, 0, 0));
    for (int at = 0; at < CONNECTIONS; at++) {
        accepted[at] = accept4(listener, NULL, NULL, 0);
        struct epoll_event event = {.events = EPOLLIN | (kind == EDGE ? EPOLLET : 0), .data.fd = accepted[at]};
        MUST(!epoll_ctl(server.set, EPOLL_CTL_ADD, accepted[at], &event));
    }
    pthread_t threads[THREADS];
    for (int at = 0; at < THREADS; at++) pthread_create(&threads[at], NULL, serve, &server);
    MUST(waitpid(caller, &status, 0) == caller);
    printf("%s: %s\n", names[kind], status == 0 ? "all answered" : "failed");
    fflush(stdout);
    if (status) exit(1);
    struct epoll_event stop = {.events = EPOLLIN, .data.fd = -1};
    int ends[2];
    MUST(!pipe(ends) && !close(ends[1]));
    MUST(!epoll_ctl(server.set, EPOLL_CTL_ADD, ends[0], &stop));
    for (int at = 0; at < THREADS; at++) pthread_join(threads[at], NULL);
    for (int at = 0; at < CONNECTIONS; at++) close(accepted[at]);
    close(server.set);
    close(ends[0]);
    close(listener);
}

int main(void) {
    alarm(60);
    for (int kind = 0; kind < KINDS; kind++) talk(kind);
    return 0;
}
