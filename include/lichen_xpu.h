/*
 * XPUcalls of Lichen, for C. Link with -llichen_xpu. A man page per call is in crates/capi/man.
 *
 * Made by `cargo xtask header` from crates/capi/src: change it there.
 */
#ifndef LICHEN_XPU_H
#define LICHEN_XPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* done */
#define XPU_OK 0

/* an argument is null, not UTF-8, or out of range */
#define XPU_EINVAL (-1)

/* a bug in this library: the call may have done anything but break memory */
#define XPU_EINTERNAL (-2)

/* a system call failed: errno says why */
#define XPU_ESYSTEM (-3)

/* no shim listens there, or it is gone: is lichen serve running? */
#define XPU_ENOSHIM (-4)

/* the shim speaks another version, or has answered with something that is no answer */
#define XPU_EPROTO (-5)

/* this process was forked from the one that attached: attach it by itself */
#define XPU_EFORKED (-6)

/* this PU was cut off from the others: attach again when it has joined them */
#define XPU_EFENCED (-7)

/* the shim has ended this attachment: it did not keep to the protocol, or sat in a write */
#define XPU_EDETACHED (-8)

/* this process may not do that: it lacks the capability, or its class may not at all */
#define XPU_EPERM (-9)

/* there is no such FIFO */
#define XPU_ENOFIFO (-10)

/* there is no such process */
#define XPU_ENOPROCESS (-11)

/* there is no such PU */
#define XPU_ENOPU (-12)

/* a FIFO of that id exists already, somewhere among the PUs */
#define XPU_EEXIST (-13)

/* messages of that length, or a ring of that size, are not to be had */
#define XPU_ELIMITS (-14)

/* this process has as much as it may */
#define XPU_EQUOTA (-15)

/* the FIFO has a reader already */
#define XPU_EBUSY (-16)

/* the two PUs share no memory, and no link carries this FIFO */
#define XPU_ENOPATH (-17)

/* there is nothing to read, or no room to write, now */
#define XPU_EAGAIN (-18)

/* there was nothing to read, or no room to write, in time */
#define XPU_ETIMEDOUT (-19)

/* the message is longer than the FIFO carries, or than the buffer */
#define XPU_ETOOLONG (-20)

/* the other end, or the FIFO, was closed */
#define XPU_ECLOSED (-21)

/* the process at the other end has ended */
#define XPU_EDIED (-22)

/* the other end's PU is gone or cut off */
#define XPU_ELOST (-23)

/* the right to it was revoked */
#define XPU_EREVOKED (-24)

/* the other end has written what no lane carries */
#define XPU_EBROKEN (-25)

/* no message, but the end of a writer: see struct xfifo_message */
#define XPU_EWRITER (-26)

/* the program could not be started: errno says why */
#define XPU_ENOTSTARTED (-27)

/* The text of a status, in English, for as long as the library is loaded. */
const char *xpu_strerror(int code);

/* To connect to a FIFO as its reader. */
#define XPU_READ 1

/* To connect to a FIFO as a writer. */
#define XPU_WRITE 2

/* To grant and revoke what one holds, and to release the FIFO. */
#define XPU_OWNER 4

/* Both sides of a call look a short while, then sleep. The one to use. */
#define XPU_ADAPTIVE 0

/* Calls travel over a socket. */
#define XPU_BASE 1

/* Calls travel in memory, and are waited for asleep. */
#define XPU_MPSC 2

/* Both sides look without end. */
#define XPU_POLLING 3

/* An attachment of this process to the shim of its PU. It may be used by several threads. */
struct xpu;

/* A capability that a new process is to have. */
struct xpu_capability {
    /* On which FIFO. */
    uint64_t fifo;
    /* XPU_READ, XPU_WRITE, XPU_OWNER, or several of them. */
    int rights;
};

/* Attaches this process to the shim that listens at path, or, where path is null, over the connection that
 * whoever started this program by xspawn has left it. The attachment, and all that the process has by it, lasts
 * until xpu_detach or the end of the process. A child that a fork makes has to attach by itself. */
int xpu_attach(const char *path, int transport, struct xpu **xpu);

/* Ends an attachment. Its FIFOs are to be closed before. */
void xpu_detach(struct xpu *xpu);

/* Asks the shim for this process's id, which is unique among all PUs and over all time. */
int get_xpupid(const struct xpu *xpu, uint64_t *pid);

/* Gives rights on a FIFO to another process, on whatever PU. The caller must have XPU_OWNER and each right it
 * gives. */
int grant_cap(const struct xpu *xpu, uint64_t pid, uint64_t fifo, int rights);

/* Takes rights on a FIFO from another process. When it returns 0, no PU lets that process use them, its
 * connections that lived by them are cut, and nothing that it writes after that is ever read. The caller must
 * have XPU_OWNER; from the FIFO's creator nobody can take anything. */
int revoke_cap(const struct xpu *xpu, uint64_t pid, uint64_t fifo, int rights);

/* Starts a program on a PU, attached from birth, with just the capabilities in capabilities, count of them.
 * arguments and environment (NAME=value) end with a null, as those of execve. Its id goes to pid, which may be
 * null. */
int xspawn(const struct xpu *xpu, int pu, const char *path, const char *const *arguments, const char *const
           *environment, const struct xpu_capability *capabilities, size_t count, uint64_t *pid);

/* What a FIFO is to be able to carry. 0 leaves it to the shim. */
struct xfifo_limits {
    /* Bytes of the longest message. */
    uint64_t message_max;
    /* Bytes of each writer's ring: a power of two. */
    uint64_t ring;
};

/* What xfifo_read tells of what it has read. */
struct xfifo_message {
    /* The process that wrote the message, or that will write no more. */
    uint64_t from;
    /* Bytes of the message, also where the buffer had no room for it. */
    uint64_t length;
    /* With XPU_EWRITER: why that process will write no more. */
    int ended;
};

/* One end of a FIFO. Used by one thread at a time. */
struct xfifo;

/* Makes a FIFO that this process owns. id is 0, or the id that it is to have: one that no other FIFO on any PU
 * has. Its id goes to fifo. limits may be null. It lasts until xfifo_release, or the end of the process. */
int xfifo_init(const struct xpu *xpu, uint64_t id, const struct xfifo_limits *limits, uint64_t *fifo);

/* Ends a FIFO that this process owns: every connection to it, and every capability on it. */
int xfifo_release(const struct xpu *xpu, uint64_t fifo);

/* Connects this process to a FIFO: as its only reader (right is XPU_READ), or as one of its writers (XPU_WRITE).
 * A writer may connect, and write, before there is a reader. */
int xfifo_connect(const struct xpu *xpu, uint64_t fifo, int right, struct xfifo **end);

/* Writes one message of size bytes, all of it or nothing. Waits for room up to milliseconds; 0: not at all;
 * negative: as long as it takes. A writer whose reader has ended is told why. */
int xfifo_write(struct xfifo *end, const void *message, size_t size, int milliseconds);

/* Reads one message into buffer, which has size bytes, and returns its length. Waits up to milliseconds; 0: not
 * at all; negative: as long as it takes. message may be null; else it is told whose the message is. A message
 * that is longer than the buffer stays for the next read: XPU_ETOOLONG, and its length in message. Of each
 * writer's end one XPU_EWRITER tells, after that writer's last message. All other errors are of the FIFO itself. */
int64_t xfifo_read(struct xfifo *end, void *buffer, size_t size, int milliseconds, struct xfifo_message *message);

/* For event loops: from now on the descriptor that is put in descriptor becomes readable when there may be
 * something to read, or, after XPU_EAGAIN from xfifo_write, room to write. Returns 1 if one may wait for it, 0
 * if one is to look again at once. To be followed by xfifo_disarm, before the next read or write. The descriptor
 * belongs to the connection. */
int xfifo_arm(struct xfifo *end, int *descriptor);

/* Takes what has made the descriptor of xfifo_arm readable. */
int xfifo_disarm(struct xfifo *end);

/* Closes a connection. The other end is told after what was written before it. The FIFO itself ends by
 * xfifo_release. */
void xfifo_close(struct xfifo *end);

#ifdef __cplusplus
}
#endif

#endif
