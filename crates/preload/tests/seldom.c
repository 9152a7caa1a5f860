/* Calls that are seldom made, and ways into other hands that are: one line per call, the same whether the bytes go over TCP or through
 * memory. With EXPECT_MEMORY in the environment it insists that each connection has memory before its case begins. */
#define _GNU_SOURCE
#include <aio.h>
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static int (*tier)(int);
static int a, b;
static const char *name;
static char x[64];

#define MUST(it) do { if (!(it)) { printf("%s: line %d: %s: %s\n", name, __LINE__, #it, strerror(errno)); fflush(stdout); exit(1); } } while (0)

static void say(const char *what, long r) {
    const char *error = r < 0 ? strerrorname_np(errno) : "ok";
    printf("%s: %s: %ld %s '%.*s'\n", name, what, r, error, (int)(r > 0 ? r : 0), x);
    fflush(stdout);
    memset(x, '.', sizeof x);
}

/* Two ends of one connection, used until both have memory. */
static void connected(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(!bind(l, (void *)&at, len) && !listen(l, 1) && !getsockname(l, (void *)&at, &len));
    a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(!connect(a, (void *)&at, len));
    b = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    MUST(b >= 0 && !close(l));
    char c;
    for (int i = 0; i < 12 || (getenv("EXPECT_MEMORY") && (tier(a) < 1 || tier(b) < 1)); i++) {
        MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
        MUST(i < 2000000);
    }
}

static void *calls(void *unused) {
    struct pollfd p = {a, POLLIN, 0};
    char c;
    while (poll(&p, 1, 1) == 0) {}
    MUST(recv(a, &c, 1, 0) == 1);
    return unused;
}

static pthread_t other;

/* Something lies in memory, and the other end's thread is at work, until it is told to end. */
static void begins(void) {
    MUST(send(a, "hello", 5, 0) == 5 && !pthread_create(&other, NULL, calls, NULL));
}

static void ends(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0) == child);
    printf("%s: status %x\n", name, status);
    MUST(send(b, "!", 1, 0) == 1 && !pthread_join(other, NULL));
    MUST(send(a, "more", 4, 0) == 4);
    say("recv", recv(b, x, 4, MSG_WAITALL));
}

static char *heads[] = {"timeout", "5", "head", "-c", "5", NULL};

static void spawned(void) {
    posix_spawn_file_actions_t actions;
    pid_t child;
    begins();
    MUST(!posix_spawn_file_actions_init(&actions) && !posix_spawn_file_actions_adddup2(&actions, b, 0));
    MUST(!posix_spawnp(&child, "timeout", &actions, NULL, heads, environ));
    ends(child);
}

static void vforked(void) {
    begins();
    pid_t child = vfork();
    if (!child) {
        dup2(b, 0);
        execvp(heads[0], heads);
        _exit(9);
    }
    ends(child);
    child = vfork();
    if (!child) {
        dup2(a, 1);
        execlp("echo", "echo", "out", NULL);
        _exit(9);
    }
    waitpid(child, NULL, 0);
    say("its output", recv(b, x, 4, MSG_WAITALL));
}

static void executed_at(void) {
    for (int i = 0; i < 2; i++) {
        begins();
        pid_t child = fork();
        if (!child) {
            dup2(b, 0);
            if (i == 0) execveat(AT_FDCWD, "/usr/bin/timeout", heads, environ, 0);
            else syscall(SYS_execve, "/usr/bin/timeout", heads, environ);
            _exit(9);
        }
        ends(child);
    }
}

/* libc's own streams. */
static void standard(void) {
    begins();
    pid_t child = fork();
    if (!child) {
        dup2(b, 0);
        alarm(5);
        char line[6] = "";
        fread(line, 1, 5, stdin);
        printf("%s: stdin has '%s'\n", name, line);
        fflush(stdout);
        dup2(a, 1);
        printf("stdout\n");
        fflush(stdout);
        _exit(0);
    }
    ends(child);
    say("recv", recv(b, x, 7, MSG_WAITALL));
}

static void placed(void) {
    struct iovec in = {x, sizeof x}, out = {"again", 5};
    MUST(send(a, "hello", 5, 0) == 5);
    say("preadv2", preadv2(b, &in, 1, -1, 0));
    say("pwritev2", pwritev2(a, &out, 1, -1, 0));
    say("recv", recv(b, x, 5, MSG_WAITALL));
    say("preadv2, not waiting", preadv2(b, &in, 1, -1, RWF_NOWAIT));
    say("preadv2, of a place", preadv2(b, &in, 1, 0, 0));
    MUST(syscall(SYS_preadv2, -1, &in, 1, -1, -1, 0) == -1);
}

static void asynchronous(void) {
    struct aiocb in = {.aio_fildes = b, .aio_buf = x, .aio_nbytes = sizeof x};
    struct aiocb out = {.aio_fildes = a, .aio_buf = "again", .aio_nbytes = 5, .aio_lio_opcode = LIO_WRITE};
    const struct aiocb *one[] = {&in};
    struct aiocb *all[] = {&out};
    struct timespec time = {5, 0};
    MUST(send(a, "hello", 5, 0) == 5 && !aio_read(&in));
    MUST(!aio_suspend(one, 1, &time));
    say("aio_read", aio_return(&in));
    MUST(!lio_listio(LIO_WAIT, all, 1, NULL));
    say("lio_listio", aio_return(&out));
    say("recv", recv(b, x, 5, MSG_WAITALL));
}

static int prints(const char *format, ...) {
    va_list all;
    va_start(all, format);
    int said = vdprintf(a, format, all);
    va_end(all);
    return said;
}

static void printed(void) {
    MUST(send(a, "1", 1, 0) == 1 && prints("two%d", 3) == 4 && send(a, "4", 1, 0) == 1);
    say("recv", recv(b, x, 6, MSG_WAITALL));
}

static void dropped(void) {
    struct iovec in = {x, 5};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &in, .msg_iovlen = 1}};
    MUST(send(a, "helloworld", 10, 0) == 10);
    memset(x, '.', sizeof x);
    say("recvmsg that drops", recvmsg(b, &message.msg_hdr, MSG_TRUNC));
    say("recv", recv(b, x, 5, MSG_WAITALL));
}

static void many(void) {
    char parts[3][8] = {""};
    struct iovec in[3];
    struct mmsghdr messages[3] = {0};
    for (int i = 0; i < 3; i++) {
        in[i] = (struct iovec){parts[i], 4};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    MUST(send(a, "aaaabbbbcc", 10, 0) == 10);
    say("recvmmsg", recvmmsg(b, messages, 3, MSG_DONTWAIT, NULL) - 3);
    printf("%s: %u %u %u %s %s %s\n", name, messages[0].msg_len, messages[1].msg_len, messages[2].msg_len, parts[0], parts[1], parts[2]);
    MUST(send(a, "dddd", 4, 0) == 4);
    say("recvmmsg, waiting for one", recvmmsg(b, messages, 3, MSG_WAITFORONE, NULL) - 1);
}

static void urgent(void) {
    MUST(send(a, "abc", 3, 0) == 3 && send(a, "U", 1, MSG_OOB) == 1 && send(a, "def", 3, 0) == 3);
    struct pollfd p = {b, POLLPRI, 0};
    MUST(poll(&p, 1, 5000) == 1);
    say("urgent", recv(b, x, 1, MSG_OOB));
    say("before", recv(b, x, sizeof x, 0));
    say("behind", recv(b, x, 3, MSG_WAITALL));
}

/* A socket that is connected to nobody, and then to another. */
static void parted(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    socklen_t len = sizeof at;
    MUST(!connect(a, &nobody, sizeof nobody));
    say("the other end", recv(b, x, sizeof x, 0));
    say("send", send(a, "x", 1, MSG_NOSIGNAL));
    int l = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!bind(l, (void *)&at, len) && !listen(l, 1) && !getsockname(l, (void *)&at, &len));
    MUST(!connect(a, (void *)&at, len));
    int c = accept(l, NULL, NULL);
    for (int i = 0; i < 20; i++) {
        MUST(send(a, "there", 5, 0) == 5 && recv(c, x, 5, MSG_WAITALL) == 5 && !memcmp(x, "there", 5));
        MUST(send(c, "back", 4, 0) == 4 && recv(a, x, 4, MSG_WAITALL) == 4 && !memcmp(x, "back", 4));
    }
    say("and back", 4);
    close(c);
    close(l);
}

/* Who asks to be told once is told once, until he asks anew. */
static void once(void) {
    struct epoll_event said = {0}, asked = {.events = EPOLLIN | EPOLLOUT | EPOLLONESHOT, .data.fd = b};
    int set = epoll_create1(EPOLL_CLOEXEC), more = 0;
    MUST(set >= 0 && !epoll_ctl(set, EPOLL_CTL_ADD, b, &asked));
    int told = epoll_wait(set, &said, 1, 5000);
    printf("%s: %d %x\n", name, told, said.events);
    MUST(send(a, "hello", 5, 0) == 5);
    for (int i = 0; i < 20; i++) more += epoll_wait(set, &said, 1, 0);
    asked.events = EPOLLIN | EPOLLONESHOT;
    MUST(!epoll_ctl(set, EPOLL_CTL_MOD, b, &asked));
    told = epoll_wait(set, &said, 1, 5000);
    printf("%s: %d more, then %d %x\n", name, more, told, said.events);
    close(a);
    for (int i = more = 0; i < 20; i++) more += epoll_wait(set, &said, 1, 1);
    MUST(!epoll_ctl(set, EPOLL_CTL_MOD, b, &asked));
    told = epoll_wait(set, &said, 1, 5000);
    printf("%s: %d more, then %d %x\n", name, more, told, said.events);
    close(set);
}

int main(void) {
    struct {
        const char *name;
        void (*act)(void);
    } cases[] = {
        {"spawned", spawned}, {"vforked", vforked}, {"executed at", executed_at}, {"standard", standard}, {"placed", placed},
        {"asynchronous", asynchronous}, {"printed", printed}, {"dropped", dropped}, {"many", many}, {"urgent", urgent},
        {"parted", parted}, {"once", once},
    };
    tier = dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    signal(SIGPIPE, SIG_IGN);
    alarm(100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        name = cases[i].name;
        connected();
        cases[i].act();
        close(a);
        close(b);
    }
    return 0;
}
