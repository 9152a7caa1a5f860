"""The broker of sockets as a part of a node, and what it tells of connections: `lichen socket ls`, `lichen top`, /v1, /metrics."""

import json
import os
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
        done = lichen("socket", "ls", "-o", "json", env=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

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

        # Nothing of it stays behind.
        family = descendants(node.process.pid)
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        eventually(lambda: not alive(family), "all processes of the node have ended")
        self.turn(caller)
        self.turn(again)

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

    def test_without_a_broker(self):
        self.assertEqual(self.listed(), {"broker": False, "processes": 0, "met": 0, "connections": []})


if __name__ == "__main__":
    unittest.main()
