"""The broker of sockets as a part of a node, and what it tells of connections: `lichen socket ls`, `lichen top`, /v1, /metrics."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from harness import BINARY, PATIENCE, Node, alive, children, command_line, descendants, eventually, lichen

ECHO = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def answer(connection):
    while piece := connection.recv(65536):
        connection.sendall(piece)
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
"""

# Round trips for each line of its input; the connection is there until that ends.
CALLS = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for line in sys.stdin:
    for turn in range(200):
        connection.sendall(b"%8d" % turn)
        got = b""
        while len(got) < 8:
            got += connection.recv(8 - len(got))
        assert got == b"%8d" % turn, got
    print("done", flush=True)
"""

# Two connections by an event loop, two that are waited for by threads, and one in poll: all at work while the input says so, then
# idle, waiting.
BUSY = """
import asyncio, select, socket, sys, threading
port, working = int(sys.argv[1]), threading.Event()
working.set()

def check(turn, got):
    if got != b"%8d" % turn:
        print("wrong", turn, got, flush=True)

def waits():
    connection, turn = socket.create_connection(("127.0.0.1", port)), 0
    while True:
        if not working.is_set():
            # Nothing comes: it waits where it would in a program that is told what to do.
            connection.recv(1)
        turn += 1
        connection.sendall(b"%8d" % turn)
        check(turn, connection.recv(8, socket.MSG_WAITALL))

def polls():
    connection, turn = socket.create_connection(("127.0.0.1", port)), 0
    connection.setblocking(False)
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    while True:
        if not working.is_set():
            waiting.poll()
        turn += 1
        connection.sendall(b"%8d" % turn)
        got = b""
        while len(got) < 8:
            waiting.poll()
            try:
                got += connection.recv(8 - len(got))
            except BlockingIOError:
                pass
        check(turn, got)

async def goes_round():
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = 0
    while True:
        if not working.is_set():
            await reader.read(1)
        turn += 1
        writer.write(b"%8d" % turn)
        check(turn, await reader.readexactly(8))

async def all():
    await asyncio.gather(goes_round(), goes_round())

for target in (waits, waits, polls, lambda: asyncio.run(all())):
    threading.Thread(target=target, daemon=True).start()
for line in sys.stdin:
    working.clear()
    print("idle", flush=True)
"""

# A server that has a child go on with its connections, and makes no call any more, or ends.
HANDS_ON = """
import os, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection = server.accept()[0]
for turn in range(200):
    connection.sendall(connection.recv(8, socket.MSG_WAITALL))
if os.fork():
    if sys.argv[1] == "ends":
        os._exit(0)
    os.wait()
while piece := connection.recv(8, socket.MSG_WAITALL):
    connection.sendall(piece)
"""


class Broker(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lichen-broker-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "LICHEN_SOCKET_AFTER": "2"}

    def node(self, *arguments):
        # Its data is not where the broker's folder is.
        return self.enterContext(Node(*arguments, env=self.environment))

    def program(self, text, *words, library=True):
        line = [BINARY, "socket", "run", "--"] if library else []
        process = subprocess.Popen(
            [*line, sys.executable, "-c", text, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=self.environment, start_new_session=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def server(self):
        server = self.program(ECHO)
        return server, int(server.stdout.readline())

    def turn(self, caller):
        caller.stdin.write("go\n")
        caller.stdin.flush()
        self.assertEqual(caller.stdout.readline(), "done\n")

    def listed(self):
        """By whichever broker serves: one that ends while it is asked does not answer."""
        def asked():
            done = lichen("socket", "ls", "-o", "json", env=self.environment)
            self.assertTrue(done.returncode == 0 or "does not answer" in done.stderr, done.stderr)
            return done.stdout

        return json.loads(eventually(asked, "a broker that answers"))

    def to(self, port):
        """The connections with a port."""
        of = [c for c in self.listed()["connections"] if any(end["address"].endswith(f":{port}") for end in c["ends"])]
        return of

    def in_memory(self, port, caller):
        def looked():
            self.turn(caller)
            return [c for c in self.to(port) if c["tier"] == "memory"]

        return eventually(looked, "the connection goes through memory")

    def broker_of(self, node):
        def found():
            pids = [pid for pid in children(node.process.pid) if "broker" in command_line(pid)[1:2]]
            return pids[0] if pids else None

        return eventually(found, "the node has a broker")

    def test_it_is_the_nodes_and_outlives_programs(self):
        node = self.node()
        broker = self.broker_of(node)
        eventually(lambda: self.listed()["broker"], "the broker answers")
        first = self.program("pass")
        first.wait(PATIENCE)
        server, port = self.server()
        caller = self.program(CALLS, port)
        (connection,) = self.in_memory(port, caller)
        programs = {end["program"] for end in connection["ends"]}
        self.assertEqual(programs, {Path(f"/proc/{self.python_of(server)}/comm").read_text().strip()})
        pids = {end["process"] for end in connection["ends"]}
        self.assertEqual(pids, {self.python_of(server), self.python_of(caller)})

        # The same by the node, for people, programs and Prometheus.
        with urllib.request.urlopen(f"{node.endpoint}/v1/connections", timeout=PATIENCE) as answer:
            told = json.load(answer)
        self.assertIn(connection["ends"], [c["ends"] for c in told["connections"]])
        shown = lichen("top", "--once", endpoint=node.endpoint).stdout
        self.assertRegex(shown, rf"127\.0\.0\.1:{port} .*memory")
        top = json.loads(lichen("top", "-o", "json", endpoint=node.endpoint).stdout)
        self.assertTrue(top["sockets"]["connections"])
        with urllib.request.urlopen(f"{node.endpoint}/metrics", timeout=PATIENCE) as answer:
            metrics = answer.read().decode()
        self.assertRegex(metrics, r'lichen_socket_connections\{tier="memory"\} [1-9]')
        self.assertRegex(metrics, r"lichen_socket_broker 1")

        # A new broker for new connections; those that have memory do not need it.
        os.kill(broker, signal.SIGKILL)
        eventually(lambda: self.broker_of(node) != broker, "another broker")
        self.turn(caller)
        again = self.program(CALLS, port)
        self.in_memory(port, again)

        # It is told of what there was.
        addresses = {end["address"] for end in connection["ends"]}

        def is_told():
            self.turn(caller)
            known = [c for c in self.to(port) if {end["address"] for end in c["ends"]} == addresses]
            return known and pids == {end["process"] for end in known[0]["ends"]}

        eventually(is_told, "the connection is known again")

        # Nothing of it stays behind.
        family = descendants(node.process.pid)
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        eventually(lambda: not alive(family), "all processes of the node have ended")
        self.turn(caller)
        self.turn(again)

    def test_a_killed_broker_costs_nothing(self):
        """Killed under load, again and again, and while all are idle: bytes are right, and the next one is told of everything."""
        node = self.node()
        broker = self.broker_of(node)
        server, port = self.server()
        callers = [self.program(BUSY, port) for _ in range(2)]

        def are_known():
            known = self.to(port)
            both = [c for c in known if all(end.get("process") for end in c["ends"])]
            return len(both) == len(known) == 10 and all(c["tier"] == "memory" for c in both)

        eventually(are_known, "all have memory")
        memory = {name for caller in (server, *callers) for name in self.memories(self.python_of(caller))}

        def kill(what):
            nonlocal broker
            os.kill(broker, signal.SIGKILL)
            last = broker
            eventually(lambda: self.broker_of(node) != last, "another broker")
            broker = self.broker_of(node)
            eventually(are_known, what)

        for _ in range(5):
            kill("all are known again, at work")
        for caller in callers:
            caller.stdin.write("rest\n")
            caller.stdin.flush()
            # Whatever was wrong was said before.
            self.assertEqual(caller.stdout.readline(), "idle\n")
        kill("all are known again, idle")
        kill("and again")
        now = {name for caller in (server, *callers) for name in self.memories(self.python_of(caller))}
        self.assertEqual(now, memory)
        for caller in callers:
            self.end(caller)
        eventually(lambda: not self.to(port), "nothing is left of those who are gone")
        self.assertFalse([fd for fd in os.listdir(f"/proc/{broker}/fd") if "lichen-pair" in self.target(broker, fd)])

    def test_a_child_tells_what_it_has_from_its_parent(self):
        for what in ("waits", "ends"):
            with self.subTest(parent=what):
                node = self.node()
                broker = self.broker_of(node)
                server = self.program(HANDS_ON, what)
                port = int(server.stdout.readline())
                caller = self.program(CALLS, port)
                self.in_memory(port, caller)
                os.kill(broker, signal.SIGKILL)
                eventually(lambda: self.broker_of(node) != broker, "another broker")

                def are_known():
                    self.turn(caller)
                    return [c for c in self.to(port) if all(end.get("process") for end in c["ends"]) and c["tier"] == "memory"]

                (connection,) = eventually(are_known, "both ends are known again")
                self.assertIn(self.python_of(caller), {end["process"] for end in connection["ends"]})
                self.end(caller)
                eventually(lambda: not self.to(port), "nothing is left of it")
                node.stop()

    def target(self, pid, fd):
        try:
            return os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            return ""

    def python_of(self, process):
        """The program that `lichen socket run` has started."""
        (pid,) = children(process.pid)
        return pid

    def test_a_program_is_the_broker_until_a_node_can_be(self):
        server, port = self.server()
        node = self.node()
        caller = self.program(CALLS, port)
        self.in_memory(port, caller)
        self.end(server)
        self.end(caller)
        server, port = self.server()
        caller = self.program(CALLS, port)
        self.in_memory(port, caller)
        self.assertEqual(node.stop(), 0)

    def test_one_end_alone_is_told_as_it_is(self):
        self.node()
        eventually(lambda: self.listed()["broker"], "the broker answers")
        server, port = self.server()
        caller = self.program(CALLS, port, library=False)

        def looked():
            self.turn(caller)
            return self.to(port)

        (connection,) = eventually(looked, "the broker knows the connection")
        self.assertEqual(connection["tier"], "tcp")
        table = lichen("socket", "ls", env=self.environment).stdout
        self.assertRegex(table, r"without the library")
        self.assertEqual(len(re.findall(rf":{port}\b", table)), 1)

    def memories(self, pid):
        """The memories of sockets that a process has, by their kind and number."""
        maps = Path(f"/proc/{pid}/maps").read_text()
        return set(re.findall(r"(\d+) +/memfd:(lichen-pair|lichen-pod)\b", maps))

    def test_programs_of_a_pod_have_one_memory(self):
        config = self.folder / "lichen.toml"
        config.write_text('[socket]\nmode = "pod"\n')
        self.node("--config", config)
        eventually(lambda: self.listed()["broker"], "the broker answers")
        server, port = self.server()
        callers = [self.program(CALLS, port) for _ in range(3)]
        for caller in callers:
            self.in_memory(port, caller)
        eventually(lambda: self.turn(callers[0]) or len(self.to(port)) == 3, "all three are known")
        (memory,) = self.memories(self.python_of(server))
        self.assertEqual(memory[1], "lichen-pod")
        for caller in callers:
            self.assertEqual(self.memories(self.python_of(caller)), {memory})
        # One that is killed harms nobody.
        self.end(callers[0])
        for caller in callers[1:]:
            self.turn(caller)
        self.in_memory(port, self.program(CALLS, port))

    def test_killed_programs_of_a_pod_leave_nothing(self):
        config = self.folder / "lichen.toml"
        config.write_text('[socket]\nmode = "pod"\n')
        self.node("--config", config)
        eventually(lambda: self.listed()["broker"], "the broker answers")
        server, port = self.server()
        known = set()
        # More of them than a memory has room for.
        for turn in range(20):
            caller = self.program(CALLS, port)
            self.in_memory(port, caller)
            known |= self.memories(self.python_of(server))
            self.end(caller)
            eventually(lambda: not self.to(port), "nothing is left of it")
        self.assertEqual({kind for _, kind in known}, {"lichen-pod"})
        self.assertLessEqual(len(known), 2, known)

    def test_strictly_connections_have_memories_of_their_own(self):
        config = self.folder / "lichen.toml"
        config.write_text('[socket]\nmode = "strict"\n')
        node = self.node("--config", config)
        broker = self.broker_of(node)
        eventually(lambda: self.listed()["broker"], "the broker answers")
        server, port = self.server()
        caller = self.program(BUSY, port)
        eventually(lambda: len([c for c in self.to(port) if c["tier"] == "memory"]) == 5, "all have memory")
        memories = self.memories(self.python_of(server))
        self.assertEqual((len(memories), memories), (5, self.memories(self.python_of(caller))))
        self.end(caller)
        eventually(lambda: not self.memories(self.python_of(server)), "they go with their connections")
        held = lambda: [fd for fd in os.listdir(f"/proc/{broker}/fd") if "lichen-pair" in self.target(broker, fd)]
        eventually(lambda: not held(), "nor has the broker any")

    def run_in(self, text, *, environment=None, **options):
        """A program that says its number, and its runner."""
        line = [BINARY, "socket", "run", "--", sys.executable, "-u", "-c", text]
        runner = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**self.environment, **(environment or {})}, start_new_session=True, **options,
        )
        self.addCleanup(runner.stderr.close)
        self.addCleanup(self.end, runner)
        return runner

    @unittest.skipUnless(os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK), "needs cgroup v1's memory, as root")
    def test_who_may_have_little_memory_is_not_killed_for_what_nobody_reads(self):
        group = Path(f"/sys/fs/cgroup/memory/lichen-test-{os.getpid()}")
        group.mkdir()
        self.addCleanup(group.rmdir)
        (group / "memory.limit_in_bytes").write_text("64M")
        says = """
import ctypes, os, socket, sys
COUNT = 32
listener = socket.create_server(("127.0.0.1", 0), backlog=COUNT)
told, tell = os.pipe()
reader = os.fork()
if reader == 0:
    os.close(tell)
    ends = [listener.accept()[0] for _ in range(COUNT)]
    for end in ends:
        while (c := end.recv(1)) == b"x": end.send(c)
    os.read(told, 1)
    print(sum(iter(lambda: sum(len(end.recv(1 << 20)) for end in ends), 0)))
    sys.stdout.flush()
    os._exit(0)
with open(sys.argv[1] + "/cgroup.procs", "w") as procs: procs.write(str(os.getpid()))
tier = ctypes.CDLL(None).lichen_socket_tier
ends = [socket.create_connection(listener.getsockname()) for _ in range(COUNT)]
for end in ends:
    while tier(end.fileno()) < 1: end.send(b"x"); end.recv(1)
    end.send(b".")
sent = 0
for end in ends:
    end.setblocking(False)
    try:
        while True: sent += end.send(bytes(65536))
    except BlockingIOError: pass
    end.close()
os.write(tell, b".")
os.waitpid(reader, 0)
print(sent)
"""
        run = subprocess.run([BINARY, "socket", "run", "--", sys.executable, "-c", says, str(group)], env=self.environment,
                             capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)
        received, sent = map(int, run.stdout.split())
        self.assertEqual(received, sent)
        self.assertGreater(sent, 16 << 20)

    def test_a_program_that_cannot_be_run(self):
        plain = Path(self.environment["XDG_RUNTIME_DIR"]) / "plain"
        plain.write_text("no program")
        for program, code in ("/nobody/has/this", 127), ("lichen-has-no-such-program", 127), (plain, 126), ("/", 126):
            run = subprocess.run([BINARY, "socket", "run", "--", program], env=self.environment, capture_output=True, text=True)
            self.assertEqual((run.returncode, run.stdout), (code, ""), run.stderr)
            self.assertIn(f"{program} cannot be run", run.stderr)
        run = subprocess.run([BINARY, "socket", "run", "--port", "0", "--", "true"], env=self.environment, capture_output=True)
        self.assertEqual(run.returncode, 2)

    def test_signals_are_the_programs(self):
        says = """
import signal, sys
for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), lambda number, frame: print(number) or sys.exit(number))
print("ready")
signal.pause()
"""
        for sent in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            runner = self.run_in(says)
            self.assertEqual(runner.stdout.readline(), "ready\n")
            runner.send_signal(sent)
            self.assertEqual((runner.stdout.read(), runner.wait()), (f"{sent}\n", sent))
        # One that it does not handle ends it, and the runner says so as a shell does.
        runner = self.run_in("import signal; print('ready'); signal.pause()")
        self.assertEqual(runner.stdout.readline(), "ready\n")
        runner.terminate()
        self.assertEqual(runner.wait(), 128 + signal.SIGTERM)

    def test_a_terminal_interrupts_once(self):
        says = """
import signal, sys
signal.signal(signal.SIGINT, lambda number, frame: print("interrupted", flush=True))
print("ready", flush=True)
for line in sys.stdin:
    print("heard", line, end="", flush=True)
"""
        child, terminal = pty.fork()
        if child == 0:
            os.execve(BINARY, [str(BINARY), "socket", "run", "--", sys.executable, "-c", says], self.environment)
        said = b""
        try:
            for waits, then in ((b"ready", b"\x03"), (b"interrupted", b"line\n"), (b"heard line", b"\x04")):
                while waits not in said:
                    said += os.read(terminal, 4096)
                os.write(terminal, then)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        finally:
            os.close(terminal)
        self.assertEqual(said.count(b"interrupted"), 1)

    def test_where_there_can_be_no_broker_all_is_tcp(self):
        runner = self.run_in("print('runs')", environment={"XDG_RUNTIME_DIR": str(self.folder / "missing")})
        said, why = runner.communicate()
        self.assertEqual((said, runner.returncode), ("runs\n", 0))
        self.assertIn("connections stay on TCP", why)

    def test_without_a_broker(self):
        self.assertEqual(self.listed(), {"broker": False, "processes": 0, "met": 0, "connections": []})


if __name__ == "__main__":
    unittest.main()
