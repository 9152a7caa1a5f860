/* Listeners that come from elsewhere, by exec and in a message: what is accepted from them is a connection like any other.
 * With EXPECT_MEMORY in the environment it insists that each gets memory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int (*tier)(int);

#define MUST(x) do { if (!(x)) { perror(#x); exit(1); } } while (0)

/* Two ends of a connection talk, until both have memory. */
static void talk(const char *name, int listener) {
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    MUST(!getsockname(listener, (void *)&at, &len));
    int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(!connect(a, (void *)&at, len));
    int b = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    MUST(b >= 0);
    char c;
    for (int i = 0; i < 100 || (tier && (tier(a) < 1 || tier(b) < 1)); i++) {
        MUST(i < 2000000);
        char sent = i;
        MUST(send(a, &sent, 1, 0) == 1 && recv(b, &c, 1, 0) == 1 && c == sent);
        MUST(send(b, &sent, 1, 0) == 1 && recv(a, &c, 1, 0) == 1 && c == sent);
    }
    close(a);
    MUST(recv(b, &c, 1, 0) == 0);
    close(b);
    printf("%s: answered\n", name);
}

/* The same listener, under another number. */
static int in_a_message(int listener) {
    int ends[2];
    MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    char c = 0;
    struct iovec part = {&c, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    MUST(sendmsg(ends[0], &message, 0) == 1 && recvmsg(ends[1], &message, 0) == 1);
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    close(ends[0]), close(ends[1]);
    return listener;
}

int main(int count, char **words) {
    alarm(60);
    if (count == 1) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        MUST(!bind(listener, (void *)&at, sizeof at) && !listen(listener, 4));
        char number[16];
        snprintf(number, sizeof number, "%d", listener);
        execl(words[0], words[0], number, (char *)NULL);
        MUST(!"exec");
    }
    if (getenv("EXPECT_MEMORY")) MUST((tier = (int (*)(int))dlsym(RTLD_DEFAULT, "lichen_socket_tier")));
    int listener = atoi(words[1]), other = in_a_message(listener);
    talk("by exec", listener);
    close(listener);
    talk("in a message", other);
    return 0;
}
