/* Programs that receive and send by io_uring, past libc: what the other end, which knows of none, has sent is what they get. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(x) do { if (!(x)) { printf("line %d: %s: %s\n", __LINE__, #x, strerror(errno)); fflush(stdout); _exit(1); } } while (0)
#define LONG 200000
#define TURNS 1000

enum made { NONE, BY_NUMBER, UNSEEN };

static int (*tier)(int);

static struct {
    int fd;
    unsigned *tail, *array, *done, *come, mask;
    struct io_uring_sqe *asked;
    struct io_uring_cqe *answers;
} ring;

/* A system call that no library sees. */
static long unseen(long number, long a, long b, long c, long d, long e, long f) {
#ifdef __x86_64__
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#endif
}

static void make(enum made how) {
    struct io_uring_params p = {0};
    long fd = how == UNSEEN ? unseen(SYS_io_uring_setup, 4, (long)&p, 0, 0, 0, 0) : syscall(SYS_io_uring_setup, 4, &p);
    if (fd < 0) {
        printf("rings are not to be had here\n");
        fflush(stdout);
        _exit(2);
    }
    ring.fd = fd;
    size_t submissions = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t completions = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    char *sq = mmap(NULL, submissions, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, completions, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_CQ_RING);
    ring.asked = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
    MUST(sq != MAP_FAILED && cq != MAP_FAILED && ring.asked != MAP_FAILED);
    ring.tail = (unsigned *)(sq + p.sq_off.tail);
    ring.array = (unsigned *)(sq + p.sq_off.array);
    ring.done = (unsigned *)(cq + p.cq_off.head);
    ring.come = (unsigned *)(cq + p.cq_off.tail);
    ring.mask = *(unsigned *)(cq + p.cq_off.ring_mask);
    ring.answers = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

/* One request, and its answer. */
static int ask(int what, int fd, void *bytes, unsigned len) {
    unsigned tail = *ring.tail, done = *ring.done;
    memset(ring.asked, 0, sizeof *ring.asked);
    ring.asked->opcode = what;
    ring.asked->fd = fd;
    ring.asked->addr = (unsigned long)bytes;
    ring.asked->len = len;
    ring.array[tail & 3] = 0;
    __atomic_store_n(ring.tail, tail + 1, __ATOMIC_RELEASE);
    MUST(unseen(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) == 1);
    MUST(__atomic_load_n(ring.come, __ATOMIC_ACQUIRE) == done + 1);
    int result = ring.answers[done & ring.mask].res;
    __atomic_store_n(ring.done, done + 1, __ATOMIC_RELEASE);
    return result;
}

static unsigned char byte(size_t i) {
    return (unsigned char)(i * 2654435761u >> 13);
}

/* Receives so many bytes of the series, by a ring or not. */
static void take(int fd, size_t from, size_t len, int by_ring) {
    static unsigned char buffer[65536];
    while (len > 0) {
        unsigned most = len < sizeof buffer ? len : sizeof buffer;
        int got = by_ring ? ask(IORING_OP_RECV, fd, buffer, most) : recv(fd, buffer, most, 0);
        MUST(got > 0);
        for (int i = 0; i < got; i++) MUST(buffer[i] == byte(from + i));
        from += got, len -= got;
    }
}

static void give(int fd, size_t from, size_t len, int by_ring) {
    static unsigned char buffer[65536];
    while (len > 0) {
        unsigned most = len < sizeof buffer ? len : sizeof buffer;
        for (unsigned i = 0; i < most; i++) buffer[i] = byte(from + i);
        int put = by_ring ? ask(IORING_OP_SEND, fd, buffer, most) : send(fd, buffer, most, 0);
        MUST(put > 0);
        from += put, len -= put;
    }
}

static int listening(struct sockaddr_in *at) {
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof *at;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!bind(l, (void *)at, len) && !listen(l, 1) && !getsockname(l, (void *)at, &len));
    return l;
}

static int connected(const struct sockaddr_in *at) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    MUST(!connect(fd, (const void *)at, sizeof *at));
    return fd;
}

/* The other process: it asks until it has memory, if it is to get some, sends much, and takes it back. */
static void without_ring(const struct sockaddr_in *at, enum made other) {
    int fd = connected(at);
    char c;
    for (int i = 0, end = 0; !end; i++) {
        end = i >= 100 && (!tier || other == UNSEEN || tier(fd) == 1);
        MUST(send(fd, end ? "e" : "x", 1, 0) == 1 && recv(fd, &c, 1, 0) == 1 && i < 2000000);
        /* The other end says when it has memory, too. */
        end = end && c == 'm';
    }
    MUST(send(fd, "E", 1, 0) == 1);
    give(fd, 0, LONG, 0);
    take(fd, 0, LONG, 0);
    for (int i = 0; i < TURNS; i++) {
        give(fd, i, 64, 0);
        take(fd, i, 64, 0);
    }
    MUST(!shutdown(fd, SHUT_WR) && recv(fd, &c, 1, 0) == 0);
}

static void two_processes(const char *name, enum made how) {
    struct sockaddr_in at;
    int l = listening(&at);
    pid_t child = fork();
    if (child == 0) {
        if (how == UNSEEN) make(how);
        int fd = accept(l, NULL, NULL);
        char c;
        do {
            MUST(recv(fd, &c, 1, 0) == 1);
            if (c != 'E') MUST(send(fd, !tier || how == UNSEEN || tier(fd) == 1 ? "m" : "t", 1, 0) == 1);
        } while (c != 'E');
        if (how == UNSEEN) MUST(!tier || tier(fd) == 0);
        /* Some of it by the library, the rest when it knows better. */
        take(fd, 0, 1000, 0);
        if (how == BY_NUMBER) make(how);
        take(fd, 1000, LONG - 1000, 1);
        give(fd, 0, LONG, 1);
        for (int i = 0; i < TURNS; i++) {
            take(fd, i, 64, 1);
            give(fd, i, 64, 1);
        }
        MUST(ask(IORING_OP_RECV, fd, &c, 1) == 0);
        _exit(0);
    }
    close(l);
    without_ring(&at, how);
    int status;
    MUST(waitpid(child, &status, 0) == child);
    MUST(status == 0);
    printf("%s: as sent\n", name);
}

/* Both ends in one process: neither can answer the other while the ring is made. */
static void one_process(void) {
    struct sockaddr_in at;
    int l = listening(&at), a = connected(&at), b = accept(l, NULL, NULL);
    char c;
    for (int i = 0; i < 100 || (tier && (tier(a) < 1 || tier(b) < 1)); i++)
        MUST(send(a, "x", 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && send(b, "y", 1, 0) == 1 && recv(a, &c, 1, 0) == 1);
    give(a, 0, 5000, 0);
    give(b, 0, 3000, 0);
    make(BY_NUMBER);
    take(b, 0, 5000, 1);
    take(a, 0, 3000, 1);
    give(b, 0, 100, 1);
    take(a, 0, 100, 0);
    printf("both ends: as sent\n");
}

int main(void) {
    alarm(60);
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        make(BY_NUMBER);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child);
    if (status) return 2;
    tier = getenv("EXPECT_MEMORY") ? (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier") : NULL;
    two_processes("made by number", BY_NUMBER);
    two_processes("unseen", UNSEEN);
    one_process();
    return 0;
}
