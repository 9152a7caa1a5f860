/* What a program can tell about its connections: one line per case, the same whether the bytes go over TCP or through memory.
 * With EXPECT_MEMORY in the environment it insists that each connection has memory before its case begins. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int (*tier)(int);
static int a, b;
static const char *name;

#define SAY(...) (printf("%s: ", name), printf(__VA_ARGS__), printf("\n"), fflush(stdout))
#define MUST(x) do { if (!(x)) { printf("%s: line %d: %s: %s\n", name, __LINE__, #x, strerror(errno)); fflush(stdout); exit(1); } } while (0)

static const char *err(long r) {
    return r >= 0 ? "ok" : strerrorname_np(errno);
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
    for (int i = 0; i < 12 || (tier && (tier(a) < 1 || tier(b) < 1)); i++) {
        MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
        MUST(i < 2000000);
    }
    /* The first that go through memory. */
    MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
}

static void done(void) {
    close(a);
    close(b);
}

static unsigned char byte(size_t i) {
    return (unsigned char)(i * 2654435761u >> 13);
}

static void *pour(void *total) {
    static unsigned char buffer[100000];
    size_t sent = 0, all = (size_t)total;
    while (sent < all) {
        size_t len = 1 + (sent * 7 + 13) % sizeof buffer;
        if (len > all - sent) len = all - sent;
        for (size_t i = 0; i < len; i++) buffer[i] = byte(sent + i);
        ssize_t n = write(a, buffer, len);
        MUST(n > 0);
        sent += n;
    }
    shutdown(a, SHUT_WR);
    return NULL;
}

static void integrity(int nonblocking) {
    static unsigned char buffer[65536];
    size_t all = 20000000, got = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, pour, (void *)all);
    if (nonblocking) fcntl(b, F_SETFL, O_NONBLOCK);
    for (;;) {
        ssize_t n = read(b, buffer, 1 + got % sizeof buffer);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {b, POLLIN, 0};
            MUST(poll(&p, 1, 20000) == 1);
            continue;
        }
        MUST(n >= 0);
        if (!n) break;
        for (ssize_t i = 0; i < n; i++) MUST(buffer[i] == byte(got + i));
        got += n;
    }
    pthread_join(thread, NULL);
    SAY("%zu bytes", got);
}

static void half_close(void) {
    char c[8];
    MUST(write(a, "abc", 3) == 3 && !shutdown(a, SHUT_WR));
    ssize_t one = read(b, c, 8), two = read(b, c, 8), three = write(b, "back", 4), four = read(a, c, 8);
    signal(SIGPIPE, SIG_IGN);
    ssize_t five = write(a, "x", 1);
    SAY("%zd %zd %zd %zd %s", one, two, three, four, err(five));
}

static void peer_closes(void) {
    char c[8];
    MUST(write(b, "last", 4) == 4 && !close(b));
    ssize_t got = read(a, c, 8), end = read(a, c, 8);
    signal(SIGPIPE, SIG_IGN);
    int first = write(a, "x", 1) == 1, failed = 0;
    for (int i = 0; i < 200 && !failed; i++) {
        failed = send(a, "x", 1, 0) < 0;
        if (!failed) poll(NULL, 0, 10);
    }
    SAY("%zd %zd %d %d %s", got, end, first, failed, failed ? strerrorname_np(errno) : "");
    b = -1;
}

static void reset(int linger) {
    char c[8];
    if (linger) {
        struct linger l = {1, 0};
        setsockopt(b, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    } else {
        MUST(write(a, "unread", 6) == 6);
        struct pollfd p = {b, POLLIN, 0};
        MUST(poll(&p, 1, 20000) == 1);
    }
    close(b);
    b = -1;
    ssize_t r = read(a, c, 8);
    SAY("%s", err(r));
}

static void peek_and_all(void) {
    char c[16] = "";
    MUST(write(a, "hello", 5) == 5);
    ssize_t p1 = recv(b, c, 3, MSG_PEEK), p2 = recv(b, c, 16, MSG_PEEK);
    int waiting = 0;
    ioctl(b, FIONREAD, &waiting);
    if (!fork()) {
        poll(NULL, 0, 30);
        MUST(write(a, "world", 5) == 5);
        _exit(0);
    }
    ssize_t all = recv(b, c, 10, MSG_WAITALL);
    wait(NULL);
    ssize_t none = recv(b, c + 12, 1, MSG_DONTWAIT);
    SAY("%zd %zd %d %zd %.10s %s", p1, p2, waiting, all, c, err(none));
}

static void vectors(void) {
    char x[3], y[4], z[8];
    struct iovec out[4] = {{"ab", 2}, {NULL, 0}, {"cde", 3}, {"f", 1}}, in[3] = {{x, 3}, {y, 2}, {z, 8}};
    ssize_t w = writev(a, out, 4), r = readv(b, in, 3);
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 3}, n = {.msg_iov = in, .msg_iovlen = 3};
    ssize_t s = sendmsg(a, &m, 0), g = recvmsg(b, &n, 0);
    SAY("%zd %zd %.3s %.2s %zd %zd %d", w, r, x, y, s, g, n.msg_flags);
}

static void timeouts(void) {
    struct timeval t = {0, 50000};
    setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    char c;
    ssize_t r = read(b, &c, 1);
    const char *e = err(r);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(b, &set);
    t = (struct timeval){0, 20000};
    int s = select(b + 1, &set, NULL, NULL, &t);
    struct pollfd p = {b, POLLIN | POLLOUT, 0};
    int q = poll(&p, 1, 0);
    SAY("%s %d %d %x", e, s, q, p.revents);
}

static void ready(void) {
    MUST(write(a, "x", 1) == 1);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(b, &set);
    int s = select(b + 1, &set, NULL, NULL, NULL);
    struct pollfd p[2] = {{b, POLLIN, 0}, {a, POLLIN | POLLOUT, 0}};
    int q = poll(p, 2, -1);
    char c;
    MUST(read(b, &c, 1) == 1);
    p[0].revents = p[1].revents = 0;
    int again = poll(p, 2, 0);
    SAY("%d %d %d %x %x %d", s, FD_ISSET(b, &set) != 0, q, p[0].revents, p[1].revents, again);
}

static void epolls(unsigned mode) {
    int set = epoll_create1(0), outer = epoll_create1(0);
    struct epoll_event e = {EPOLLIN | mode, {.u64 = 77}}, got[4], o = {EPOLLIN, {.u64 = 5}};
    MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e) && !epoll_ctl(outer, EPOLL_CTL_ADD, set, &o));
    int none = epoll_wait(set, got, 4, 0);
    MUST(write(a, "abcdef", 6) == 6);
    int nested = epoll_wait(outer, got, 4, 5000);
    int one = epoll_wait(set, got, 4, 5000);
    char c[8];
    MUST(read(b, c, 2) == 2);
    int two = epoll_wait(set, got, 4, 30);
    MUST(write(a, "g", 1) == 1);
    int three = epoll_wait(set, got, 4, 30);
    MUST(recv(b, c, 5, MSG_WAITALL) == 5);
    int four = epoll_wait(set, got, 4, 30);
    e.events = EPOLLIN | EPOLLRDHUP | mode;
    MUST(!epoll_ctl(set, EPOLL_CTL_MOD, b, &e) && !shutdown(a, SHUT_WR));
    int five = epoll_wait(set, got, 4, 5000);
    SAY("%d %d %d %d %d %d %d %x %d", none, nested, one, two, three, four, five, got[0].events, (int)got[0].data.u64);
    close(set);
    close(outer);
}

static void *ask(void *rounds) {
    for (long i = 0; i < (long)rounds; i++) {
        char c = (char)i, d = 0;
        MUST(write(a, &c, 1) == 1 && read(a, &d, 1) == 1 && c == d);
        if (i % 5 == 0) usleep(i % 90);
    }
    return NULL;
}

/* Who waits for a set that has two descriptors is woken whenever something comes, asleep or not. */
static void sleepers(unsigned mode) {
    int set = epoll_create1(0), other = dup(set);
    struct epoll_event e = {EPOLLIN | mode, {.u64 = 9}}, got[4];
    long rounds = 3000, wrong = 0;
    pthread_t thread;
    fcntl(b, F_SETFL, O_NONBLOCK);
    MUST(!epoll_ctl(other, EPOLL_CTL_ADD, b, &e));
    pthread_create(&thread, NULL, ask, (void *)rounds);
    for (long i = 0; i < rounds;) {
        char c;
        if (i % 7 == 0) usleep(i % 110);
        MUST(epoll_wait(i % 3 ? set : other, got, 4, 20000) == 1);
        wrong += got[0].data.u64 != 9;
        while (read(b, &c, 1) == 1) MUST(write(b, &c, 1) == 1 && ++i);
        MUST(errno == EAGAIN);
        if (mode & EPOLLONESHOT || i % 11 == 0) MUST(!epoll_ctl(i % 2 ? set : other, EPOLL_CTL_MOD, b, &e));
        if (i % 31 == 0) MUST(!epoll_ctl(set, EPOLL_CTL_DEL, b, NULL) && !epoll_ctl(set, EPOLL_CTL_ADD, b, &e));
    }
    pthread_join(thread, NULL);
    close(other);
    int none = epoll_wait(set, got, 4, 10);
    SAY("%ld %ld %d", rounds, wrong, none);
    close(set);
}

static void doubles(void) {
    int c = dup(b), d = fcntl(a, F_DUPFD_CLOEXEC, 20), e = dup2(b, 30);
    close(b);
    char x[4];
    MUST(write(d, "hi", 2) == 2);
    ssize_t r = read(c, x, 1), s = read(e, x, 1);
    close(c);
    close(e);
    close(d);
    struct pollfd p = {a, POLLRDHUP, 0};
    int q = poll(&p, 1, 5000);
    SAY("%zd %zd %d %x", r, s, q, p.revents);
    b = -1;
}

static void forked(void) {
    char x[8] = "";
    MUST(write(a, "12", 2) == 2);
    pid_t child = fork();
    if (!child) {
        close(a);
        MUST(read(b, x, 1) == 1 && write(b, x, 1) == 1 && write(b, "!", 1) == 1);
        _exit(0);
    }
    MUST(waitpid(child, NULL, 0) == child);
    ssize_t mine = read(b, x, 1);
    char y[8] = "";
    ssize_t all = recv(a, y, 2, MSG_WAITALL);
    SAY("%zd %c %zd %s", mine, x[0], all, y);
}

/* A child that was forked has both ends, until it becomes another program or is killed: then closing one is its end again. */
static void inherited(int kill_it) {
    int born[2];
    MUST(!pipe2(born, O_CLOEXEC));
    pid_t child = fork();
    if (!child) {
        if (kill_it) kill(getpid(), SIGKILL);
        execlp("sleep", "sleep", "60", NULL);
        _exit(9);
    }
    char c[8];
    close(born[1]);
    MUST(read(born[0], c, 1) == 0 && !close(born[0]));
    if (kill_it) MUST(waitpid(child, NULL, 0) == child);
    MUST(write(a, "unread", 6) == 6);
    struct pollfd p = {b, POLLIN, 0};
    MUST(poll(&p, 1, 20000) == 1);
    close(b);
    b = -1;
    ssize_t r = read(a, c, 8);
    if (!kill_it) MUST(!kill(child, SIGKILL) && waitpid(child, NULL, 0) == child);
    SAY("%s", err(r));
}

static void killed(void) {
    int go[2];
    MUST(!pipe(go));
    pid_t child = fork();
    if (!child) {
        close(a);
        MUST(write(b, "before", 6) == 6 && write(go[1], "", 1) == 1);
        pause();
    }
    char x[8];
    MUST(read(go[0], x, 1) == 1);
    close(b);
    b = -1;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ssize_t r = read(a, x, 8), e = read(a, x, 8);
    SAY("%zd %zd", r, e);
}

/* The peer answers in a process of its own while this one gives its descriptor away. */
static void executed(void) {
    pid_t peer = fork();
    if (!peer) {
        close(a);
        char c;
        MUST(write(b, "to you\n", 7) == 7);
        MUST(read(b, &c, 1) == 1);
        MUST(write(b, "and more\n", 9) == 9 && !shutdown(b, SHUT_WR));
        while (read(b, &c, 1) == 1) putchar(c), fflush(stdout);
        _exit(0);
    }
    close(b);
    b = -1;
    pid_t child = fork();
    if (!child) {
        dup2(a, 0);
        dup2(a, 1);
        execl("/bin/sh", "sh", "-c", "printf .; cat; echo end", (char *)NULL);
        _exit(9);
    }
    close(a);
    a = -1;
    int status;
    MUST(waitpid(child, &status, 0) == child && waitpid(peer, NULL, 0) == peer);
    SAY("%d", status);
}

static void files(void) {
    FILE *f = tmpfile();
    for (int i = 0; i < 50000; i++) fputc(byte(i), f);
    fflush(f);
    off_t at = 10;
    static unsigned char buffer[50000];
    MUST(write(a, "<", 1) == 1);
    ssize_t s = sendfile(a, fileno(f), &at, 40000);
    MUST(write(a, ">", 1) == 1);
    ssize_t r = recv(b, buffer, s + 2, MSG_WAITALL);
    int right = buffer[0] == '<' && buffer[s + 1] == '>';
    for (ssize_t i = 0; i < s; i++) right &= buffer[i + 1] == byte(i + 10);
    SAY("%d %d %d %d", s > 0, r == s + 2, right, at == 10 + s);
    /* From where the file is, and beyond its end. */
    MUST(lseek(fileno(f), -300, SEEK_END) >= 0);
    off_t from = lseek(fileno(f), 0, SEEK_CUR);
    s = sendfile(a, fileno(f), NULL, 1000);
    MUST(recv(b, buffer, 300, MSG_WAITALL) == 300);
    right = 1;
    for (int i = 0; i < 300; i++) right &= buffer[i] == byte(from + i);
    off_t then = lseek(fileno(f), 0, SEEK_CUR);
    SAY("%zd %d %d %zd", s, right, then == from + 300, sendfile(a, fileno(f), NULL, 1000));
    off_t bad = -1;
    SAY("%s", err(sendfile(a, fileno(f), &bad, 10)));
    SAY("%s", err(sendfile(a, 999, NULL, 10)));
}

/* What the kernel refuses, or never looks at. */
static void pointers(void) {
    void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *kept = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *f = tmpfile();
    fprintf(f, "0123456789");
    fflush(f);
    char c[16] = "";
    const char *first = err(sendfile(a, fileno(f), nowhere, 5)), *second = err(sendfile(a, fileno(f), kept, 5));
    ssize_t r = recv(b, c, 16, 0);
    MUST(write(a, "more", 4) == 4);
    SAY("%s %s %zd %s", first, second, r, c);
    int waiting = 7;
    first = err(ioctl(b, FIONREAD, nowhere)), second = err(ioctl(b, FIONREAD, NULL));
    int third = ioctl(b, FIONREAD, &waiting);
    SAY("%s %s %d %d", first, second, third, waiting);
    first = err(dup2(-1, b)), second = err(dup3(-1, b, O_CLOEXEC));
    SAY("%s %s %s %s", first, second, err(dup2(b, -1)), err(splice(-1, NULL, b, NULL, 1, 0)));
    SAY("%s %s %s", err(close(-1)), err(accept(-1, NULL, NULL)), err(epoll_ctl(-1, EPOLL_CTL_ADD, b, NULL)));
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {EPOLLIN, {.u64 = 3}}, got[4];
    first = err(epoll_ctl(set, EPOLL_CTL_ADD, b, nowhere));
    for (int waited = 0; waited < 2; waited++) {
        MUST(!epoll_ctl(set, EPOLL_CTL_ADD, b, &e));
        if (waited) MUST(epoll_wait(set, got, 4, 5000) == 1);
        const char *third = err(epoll_ctl(set, EPOLL_CTL_MOD, b, nowhere));
        second = err(epoll_ctl(set, EPOLL_CTL_DEL, b, waited ? nowhere : (void *)1));
        SAY("%s %s %s %s", first, third, second, err(epoll_ctl(set, EPOLL_CTL_ADD, b, nowhere)));
    }
    SAY("%d", epoll_wait(set, got, 4, 0));
    close(set);
}

/* What goes over TCP, and what may go through memory, in turns: a way down and one up each time the reader keeps up. */
#define TURNS 3000

static void *alternate(void *unused) {
    (void)unused;
    static unsigned char buffer[3000];
    int p[2];
    MUST(!pipe(p));
    size_t sent = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        size_t len = 1 + turn * 37 % sizeof buffer;
        for (size_t i = 0; i < len; i++) buffer[i] = byte(sent + i);
        if (turn % 2) {
            MUST(write(p[1], buffer, len) == (ssize_t)len);
            for (size_t left = len; left;) {
                ssize_t n = splice(p[0], NULL, a, NULL, left, 0);
                MUST(n > 0);
                left -= n;
            }
        } else {
            for (size_t at = 0; at < len;) {
                ssize_t n = write(a, buffer + at, len - at);
                MUST(n > 0);
                at += n;
            }
        }
        sent += len;
    }
    close(p[0]), close(p[1]);
    shutdown(a, SHUT_WR);
    return NULL;
}

static void storm(int polls) {
    static unsigned char buffer[4096];
    pthread_t thread;
    pthread_create(&thread, NULL, alternate, NULL);
    size_t got = 0;
    for (;;) {
        struct pollfd p = {b, POLLIN, 0};
        if (polls) MUST(poll(&p, 1, 20000) == 1);
        ssize_t n = read(b, buffer, sizeof buffer);
        MUST(n >= 0);
        if (!n) break;
        for (ssize_t i = 0; i < n; i++) MUST(buffer[i] == byte(got + i));
        got += n;
    }
    pthread_join(thread, NULL);
    SAY("%zu", got);
}

static int descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 2000; fd++) count += fcntl(fd, F_GETFD) != -1;
    return count;
}

static long shared(void) {
    char line[200];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f)) sscanf(line, "RssShmem: %ld", &kib);
    fclose(f);
    return kib;
}

/* Connections that come and go leave nothing. */
static void come_and_go(void) {
    int had = 0;
    long kib = 0;
    for (int i = 0; i < 250; i++) {
        done();
        connected();
        if (i == 50) had = descriptors(), kib = shared();
    }
    SAY("%d %d", descriptors() - had, shared() - kib < 512);
}

/* By number: what has its descriptor next is no socket, and the other end hears of it. */
static void by_number(void) {
    char c[8] = "";
    long sent = syscall(SYS_write, a, "abc", 3), got = read(b, c, 8);
    int was = a;
    long closed = syscall(SYS_close, a);
    ssize_t end = read(b, c + 4, 4);
    int file, first = -1;
    while ((file = open("/dev/zero", O_RDWR)) < was) first = first < 0 ? file : first;
    MUST(file == was);
    ssize_t zeroes = read(file, c, 2), written = write(file, c, 2);
    SAY("%ld %ld %ld %zd %zd %zd %d %s", sent, got, closed, end, zeroes, written, c[0], c + 2);
    close_range(first < 0 ? file : first, file, 0);
    a = -1;
}

static int forking;

static void *forks(void *unused) {
    while (__atomic_load_n(&forking, __ATOMIC_RELAXED)) {
        pid_t child = fork();
        if (!child) _exit(0);
        MUST(child > 0 && waitpid(child, NULL, 0) == child);
    }
    return unused;
}

/* While one thread of a process that has just begun uses connections for the first time, another forks. */
static void forks_beside(void) {
    int set = epoll_create1(EPOLL_CLOEXEC), good = 0, status;
    for (int i = 0; i < 100; i++) {
        pid_t process = fork();
        if (!process) {
            pthread_t thread;
            alarm(20);
            tier = NULL;
            forking = 1;
            pthread_create(&thread, NULL, forks, NULL);
            connected();
            forking = 0;
            pthread_join(thread, NULL);
            _exit(0);
        }
        MUST(process > 0 && waitpid(process, &status, 0) == process);
        good += !status;
    }
    close(set);
    SAY("%d", good);
}

static void streams(void) {
    pid_t peer = fork();
    if (!peer) {
        close(a);
        char c[64];
        ssize_t n;
        MUST(write(b, "line one\nline two\n", 18) == 18);
        while ((n = read(b, c, sizeof c)) > 0) fwrite(c, 1, n, stdout), fflush(stdout);
        _exit(0);
    }
    close(b);
    b = -1;
    FILE *f = fdopen(a, "r+");
    char x[64], y[64];
    MUST(fgets(x, 64, f) && fgets(y, 64, f));
    fseek(f, 0, SEEK_CUR);
    fprintf(f, "written by stdio\n");
    fclose(f);
    a = -1;
    MUST(waitpid(peer, NULL, 0) == peer);
    SAY("%.8s %.8s", x, y);
}

static void backpressure(void) {
    fcntl(a, F_SETFL, O_NONBLOCK);
    static char buffer[65536];
    size_t sent = 0;
    ssize_t n;
    while ((n = write(a, buffer, sizeof buffer)) > 0) sent += n;
    const char *e = err(n);
    struct pollfd p = {a, POLLOUT, 0};
    int full = poll(&p, 1, 0);
    size_t got = 0;
    while (got < sent && (n = read(b, buffer, sizeof buffer)) > 0) got += n;
    int free_again = poll(&p, 1, 5000);
    SAY("%s %d %d %d", e, full, got == sent, free_again);
}

#define CASE(n, call) do { name = n; alarm(60); connected(); call; done(); } while (0)

int main(void) {
    if (getenv("EXPECT_MEMORY")) tier = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier");
    if (!tier && getenv("EXPECT_MEMORY")) return 3;
    CASE("integrity", integrity(0));
    CASE("integrity, not blocking", integrity(1));
    CASE("half-close", half_close());
    CASE("peer closes", peer_closes());
    CASE("reset by unread bytes", reset(0));
    CASE("reset by linger", reset(1));
    CASE("peek and waitall", peek_and_all());
    CASE("vectors", vectors());
    CASE("timeouts", timeouts());
    CASE("ready", ready());
    CASE("epoll, level", epolls(0));
    CASE("epoll, edge", epolls(EPOLLET));
    CASE("epoll, once", epolls(EPOLLONESHOT));
    CASE("sleepers, level", sleepers(0));
    CASE("sleepers, edge", sleepers(EPOLLET));
    CASE("sleepers, once", sleepers(EPOLLONESHOT));
    CASE("doubles", doubles());
    CASE("fork", forked());
    CASE("by number", by_number());
    CASE("forks", forks_beside());
    CASE("a child executes", inherited(0));
    CASE("a child is killed", inherited(1));
    CASE("kill", killed());
    CASE("files", files());
    CASE("bad pointers", pointers());
    CASE("back-pressure", backpressure());
    CASE("storm", storm(0));
    CASE("storm, polled", storm(1));
    CASE("come and go", come_and_go());
    CASE("exec", executed());
    CASE("stdio", streams());
    return 0;
}
