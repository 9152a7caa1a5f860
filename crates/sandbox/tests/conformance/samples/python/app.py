"""A function that does what its event says: the conformance suite's sample in Python."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import uuid

calls = 0
libc = ctypes.CDLL(None, use_errno=True)


def refused(call, *arguments):
    return "refused" if libc.syscall(call, *arguments) < 0 else "possible"


def survives_killing_init():
    """Where init has our own user the kernel takes the signal, and drops it: killing init would end us too."""
    libc.kill(1, signal.SIGKILL)
    return "refused"


def attack():
    return {
        "mount": refused(165, b"none", b"/tmp", b"tmpfs", 0, None),
        "unshare user namespace": refused(272, 0x10000000),
        "clone user namespace": refused(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
        "ptrace init": refused(101, 16, 1, 0, 0),
        "setns init": refused(308, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0),
        "bpf": refused(321, 0, 0, 0),
        "keyctl": refused(250, 0, 0, 0),
        "perf_event_open": refused(298, 0, 0, -1, -1, 0),
        "io_uring_setup": refused(425, 1, 0),
        "userfaultfd": refused(323, 0),
        "packet socket": refused(41, 17, 3, 0),
        "chroot": refused(161, b"/tmp"),
        "setuid root": refused(105, 0),
        "kill init": survives_killing_init(),
        "reboot": refused(169, 0xFEE1DEAD, 672274793, 0x1234567, None),
    }


def fork_bomb():
    made = 0
    try:
        while made < 100_000:
            if os.fork() == 0:
                signal.pause()
            made += 1
    except OSError:
        return made


def scribble():
    with open("/proc/self/maps") as maps:
        region = next(line for line in maps if "lichen-channel" in line)
    start = int(region.split("-")[0], 16)
    ctypes.memset(start + 64, 0xFF, 4)
    ctypes.memset(start + 192, 0xFF, 4)


def handler(event, context):
    global calls
    calls += 1
    what = event.get("do")
    if what == "echo":
        return event["value"]
    if what == "count":
        return calls
    if what == "context":
        return [context.aws_request_id, context.function_name]
    if what == "environment":
        return os.environ.get(event["name"])
    if what == "print":
        print(event["text"])
        return None
    if what == "raise":
        raise ValueError(event["text"])
    if what == "random":
        return [random.random(), str(uuid.uuid4()), os.urandom(8).hex()]
    if what == "exit":
        os._exit(event["status"])
    if what == "kill-self":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "spin":
        while True:
            pass
    if what == "leave-children":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        return None
    if what == "attack":
        return attack()
    if what == "read":
        with open(event["path"]) as file:
            return file.read(65536)
    if what == "write":
        with open(event["path"], "w") as file:
            file.write("x")
        return None
    if what == "processes":
        return [name for name in os.listdir("/proc") if name.isdigit()]
    if what == "connect":
        socket.create_connection((event["host"], event["port"]), timeout=2).close()
        return None
    if what == "allocate":
        return len(bytearray(os.urandom(1 << 20)) * event["mib"])
    if what == "fork-bomb":
        return fork_bomb()
    if what == "fill-tmp":
        with open("/tmp/full", "wb") as file:
            for _ in range(event["mib"]):
                file.write(b"x" * (1 << 20))
        return None
    if what == "close-all":
        os.closerange(0, 1024)
        return None
    if what == "scribble":
        return scribble()
    return sys.version
