"""Does whatever harm it is asked to do."""

import ctypes
import os
import signal
import sys
import time

kept = []


def memory():
    """Takes memory until somebody ends it."""
    while True:
        kept.append(b"x" * (16 << 20))


def tmp():
    """Fills /tmp."""
    with open("/tmp/all", "wb") as file:
        while True:
            file.write(b"x" * (1 << 20))


def fork_bomb():
    """Forks, and every child does too, for as long as that works."""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def threads():
    """Starts threads for as long as that works."""
    import threading

    while True:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def descriptors():
    """Closes all it has."""
    os.closerange(0, 1 << 16)


def open_descriptors():
    """Opens files for as long as that works."""
    while True:
        kept.append(open("/dev/null"))


def print_much(size):
    """Prints this many bytes."""
    line = "x" * 1023 + "\n"
    for _ in range(size // 1024):
        sys.stdout.write(line)


def leave_children():
    """Goes, and leaves a child that would go on for ever."""
    if os.fork() == 0:
        while True:
            time.sleep(600)


ACTIONS = {
    "memory": memory,
    "tmp": tmp,
    "exit": lambda: os._exit(3),
    "sys_exit": lambda: sys.exit(4),
    "raise": lambda: {}["no such key"],
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill_all": lambda: os.kill(-1, signal.SIGKILL),
    "spin": lambda: [None for _ in iter(int, 1)],
    "sleep": lambda: time.sleep(600),
    "ignore_signals": lambda: [signal.signal(signal.SIGTERM, signal.SIG_IGN), time.sleep(600)],
    "fork_bomb": fork_bomb,
    "threads": threads,
    "descriptors": descriptors,
    "open_descriptors": open_descriptors,
    "print": lambda: print_much(1 << 30),
    "huge_answer": lambda: "x" * (7 << 20),
    "no_json": lambda: object(),
    "leave_children": leave_children,
}


def handler(event, context):
    """Does `event["do"]`; with nothing to do, says that it is well."""
    action = event.get("do")
    return ACTIONS[action]() if action else "well"
