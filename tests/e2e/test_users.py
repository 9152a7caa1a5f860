"""A split network's broker, for all of its users: programs of two users talk through memory, of a third they do not, and none of them
can have, see or spoil what is another's."""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from harness import BINARY, children, command_line, descendants, eventually
from halves import Halves
from test_broker import CALLS, ECHO
from test_cni import can_make_namespaces, inside, run
from test_net import answers_at

APP, PROXY, STRANGER = 12001, 1337, 12003
# One that others than root can run.
PYTHON = next((path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path)), None)

# As ECHO, at a port that is said, and where each connection was to go.
SIDECAR = """
import socket, struct, sys, threading
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
def answer(connection):
    told = connection.getsockopt(socket.SOL_IP, 80, 16)
    print(socket.inet_ntoa(told[4:8]), struct.unpack("!H", told[2:4])[0], flush=True)
    while piece := connection.recv(65536):
        connection.sendall(piece)
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
"""

# As CALLS, to an address that is said.
CALLS_AFAR = CALLS.replace('("127.0.0.1", int(sys.argv[1]))', "(sys.argv[1], int(sys.argv[2]))")

RULES = """*nat
:OUTPUT ACCEPT [0:0]
-A OUTPUT -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -d 127.0.0.1/32 -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""

# Comes by a door, and ends with the error that it gets.
COMES = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""

# What a process of one user can do to another's, by hand: each line is a thing that it could do, and was to be refused.
HOSTILE = """
import array, glob, os, socket, sys
mine, theirs, victims = sys.argv[1], sys.argv[2], sys.argv[3:]
def could(what, act):
    try:
        act()
    except OSError:
        return
    print("could", what)
def connect(path):
    broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.settimeout(20)
    broker.connect(path)
    return broker
could("come by their door", lambda: connect(theirs))
could("come by root's", lambda: connect(os.path.join(os.path.dirname(os.path.dirname(mine)), "broker")))
could("hear their calls", lambda: os.open(theirs + ".call", os.O_RDONLY | os.O_NONBLOCK))
could("remove their door", lambda: os.unlink(theirs))
could("replace its own", lambda: os.rename(mine, mine + ".old"))
could("make a door", lambda: os.mkdir(os.path.join(os.path.dirname(os.path.dirname(mine)), "1")))
for pid in victims:
    could("see descriptors", lambda: os.listdir(f"/proc/{pid}/fd"))
    could("open memory", lambda: os.listdir(f"/proc/{pid}/map_files"))
    could("read memory", lambda: open(f"/proc/{pid}/mem"))
    could("kill", lambda: os.kill(int(pid), 9))
# The build that the broker understands is in its answer to one that it does not.
other = connect(mine)
other.send(b"lichen socket 999.0 0")
build = other.recv(512)[1:]
def member():
    broker = connect(mine)
    broker.send(b"lichen socket " + build)
    return broker, broker.recv(512)
broker, said = member()
assert said[0] == 1, said
# An end of its own by a key that it guesses; a socket that is no connection; memory that is none.
def offer(key, file):
    broker = connect(mine)
    broker.sendmsg([b"o" + key + bytes(8)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])
    return broker.recv(512)
server = socket.create_server(("127.0.0.1", 0))
end = socket.create_connection(server.getsockname())
for key, file in ((bytes(16), end), (said[1:], server), (said[1:], open("/dev/null"))):
    assert offer(key, file) == b"", "it is hung up on"
# All the places and connections that it can have.
crowd = []
for _ in range(3000):
    try:
        one = connect(mine)
        one.send(b"lichen socket " + build)
        crowd.append(one)
    except OSError:
        pass
print("done", flush=True)
sys.stdin.read()
"""


# A connection whose end it looks at when it is told to.
LATE = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(connection.getsockname()[1], flush=True)
for line in sys.stdin:
    if line == "go\\n":
        connection.sendall(b"12345678")
        connection.recv(8)
        print("done", flush=True)
        continue
    try:
        print("got", connection.recv(100), flush=True)
    except OSError as error:
        print("over", error.errno, flush=True)
"""

# A connection that has the addresses of another one that is over, of which one end alone is offered: the other makes one call.
HEIR = """
import socket, sys
port, caller = map(int, sys.argv[1:])
server, client = socket.socket(), socket.socket()
for one, own in ((server, port), (client, caller)):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", own))
server.listen()
client.connect(("127.0.0.1", port))
end = server.accept()[0]
client.sendall(b"x" * 200)
for line in sys.stdin:
    end.recv(1)
    end.sendall(b"not for you")
    print("done", flush=True)
"""


@unittest.skipUnless(can_make_namespaces() and all(map(shutil.which, ["nft", "setpriv"])), "needs root, nsenter, ip, nft, setpriv")
class Users(Halves, unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lichen-users-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.users = self.folder / "users"
        self.a, self.b = self.namespace("a"), self.namespace("b")
        self.addCleanup(self.stop)
        self.start()

    def environment(self, user):
        """That user's, whose own broker is in a folder of its own."""
        own = self.folder / f"of-{user}"
        own.mkdir(mode=0o700, exist_ok=True)
        os.chown(own, user, user)
        return {**os.environ, "XDG_RUNTIME_DIR": str(own), "LICHEN_SOCKET_AFTER": "2"}

    def start(self):
        self.serve_net("--users", self.users, environment=self.environment(0))

    def net(self, *words):
        return run(BINARY, "net", *words, "--folder", self.folder / "net")

    def join(self, *words):
        named = [word for user in (APP, PROXY) for word in ("--user", user)]
        self.net("join", "web", "--half", f"cpu={self.a}", "--half", f"dpu={self.b}", *named, *words)

    def join_alone(self, namespace):
        """A network of one half: a Pod that is not split."""
        named = [word for user in (APP, PROXY) for word in ("--user", user)]
        self.net("join", "web", "--half", f"cpu={namespace}", *named)

    def program(self, user, namespace, text, *words, ports=()):
        options = ["--users", self.users, *(word for port in ports for word in ("--port", port))]
        line = ["nsenter", f"--net={namespace}", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", BINARY,
                "socket", "run", *options, "--", PYTHON, "-c", text, *words]
        process = subprocess.Popen(list(map(str, line)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
                                   env=self.environment(user), start_new_session=True)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def serve(self, user, namespace, seen_from):
        server = self.program(user, namespace, ECHO)
        port = int(server.stdout.readline())
        eventually(lambda: answers_at(seen_from, port), "the port is the network's")
        return server, port

    def turn(self, caller):
        caller.stdin.write("go\n")
        caller.stdin.flush()
        self.assertEqual(caller.stdout.readline(), "done\n")

    def listed(self, user, namespace=None):
        enter = [f"--net={namespace or self.a}", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        text = run("nsenter", *enter, BINARY, "socket", "ls", "-o", "json", "--users", self.users, env=self.environment(user), cwd="/")
        return json.loads(text)

    def known(self, user, port, tier="memory"):
        """Connections of a port, as that user is told of them, of which both ends are known."""
        of = [c for c in self.listed(user)["connections"] if any(end["address"].endswith(f":{port}") for end in c["ends"])]
        return [c for c in of if c["tier"] == tier and all(end.get("process") for end in c["ends"])]

    def in_memory(self, caller, port, user=0):
        def looked():
            self.turn(caller)
            return self.known(user, port)

        return eventually(looked, "the connection goes through memory")

    def broker(self):
        """The process of the network's."""
        of = [pid for pid in children(self.daemon.pid) if "--network=web" in command_line(pid)]
        return of[0] if of else None

    def python_of(self, process):
        """The program that `lichen socket run` has started."""
        return [pid for pid in descendants(process.pid) if command_line(pid)[:1] == [PYTHON]]

    def test_two_users_talk_through_memory_in_one_half_and_in_two(self):
        self.join()
        for here, there in ((self.a, self.a), (self.a, self.b)):
            server, port = self.serve(PROXY, there, here)
            caller = self.program(APP, here, CALLS, port)
            (seen,) = self.in_memory(caller, port)
            self.assertTrue(all(end["sends"] == "memory" for end in seen["ends"]), seen)
            for user in (APP, PROXY):
                self.assertEqual(len(self.known(user, port)), 1)
            # A program of a user that is not declared is served as ever: over TCP.
            stranger = self.program(STRANGER, here, CALLS, port)
            for _ in range(5):
                self.turn(stranger)
            self.assertEqual((len(self.known(0, port)), self.known(STRANGER, port)), (1, []))
            self.assertEqual(self.listed(STRANGER)["processes"], 1, "it has a broker of its own")
            for process in (caller, stranger, server):
                self.end(process)
        eventually(lambda: self.listed(0)["connections"] == [], "nothing is left")

    def test_who_is_declared_can_be_said_anew(self):
        self.join()
        self.net("users", "web", APP)
        server, port = self.serve(PROXY, self.a, self.a)
        caller = self.program(APP, self.a, CALLS, port)
        for _ in range(5):
            self.turn(caller)
        self.assertEqual(self.known(0, port), [])
        self.assertIn(str(APP), self.net("ls"))
        # The broker is another one then, and all that begin now meet.
        self.net("users", "web", APP, PROXY)
        server, port = self.serve(PROXY, self.a, self.a)
        caller = self.program(APP, self.a, CALLS, port)
        self.in_memory(caller, port)
        self.net("users", "web")
        eventually(lambda: not any(path.is_dir() for path in self.users.iterdir()), "nobody's door is left")
        self.turn(caller)

    def test_kills_and_the_next_broker(self):
        self.join()
        server, port = self.serve(PROXY, self.b, self.a)
        callers = [self.program(APP, self.a, CALLS, port) for _ in range(2)]
        for caller in callers:
            self.in_memory(caller, port)
        eventually(lambda: len(self.known(0, port)) == 2, "both are known")
        killed = eventually(self.broker, "the network has a broker")
        os.kill(killed, signal.SIGKILL)
        for caller in callers:
            self.turn(caller)

        def told():
            for caller in callers:
                self.turn(caller)
            return self.broker() not in (None, killed) and len(self.known(APP, port)) == len(self.known(PROXY, port)) == 2

        eventually(told, "the next broker is told by both users")
        # Not missed either: the daemon, with all brokers.
        self.stop(signal.SIGKILL)
        for caller in callers:
            self.turn(caller)
        self.start()
        eventually(lambda: [self.turn(caller) for caller in callers] and len(self.known(0, port)) == 2, "and the next one's")
        # One end, then the other.
        self.end(callers[0])
        eventually(lambda: len(self.known(0, port)) == 1, "its connection is over")
        self.turn(callers[1])
        self.end(server)
        self.end(callers[1])
        eventually(lambda: self.listed(0)["connections"] == [], "nothing is left")
        eventually(lambda: "memfd:lichen-pair" not in Path(f"/proc/{self.broker()}/maps").read_text(), "the memory is gone")

    def test_a_hostile_user_has_nothing_of_anothers(self):
        self.join()
        self.be_hostile(self.b)

    def test_a_hostile_user_in_one_half(self):
        self.join_alone(self.a)
        self.be_hostile(self.a)

    def be_hostile(self, there):
        server, port = self.serve(APP, there, self.a)
        caller = self.program(APP, self.a, CALLS, port)
        self.in_memory(caller, port)
        doors = [next(self.users.glob(f"*/{user}/broker")) for user in (PROXY, APP)]
        victims = self.python_of(server) + self.python_of(caller) + [self.broker()]
        hostile = self.program(PROXY, self.a, HOSTILE, *doors, *victims)
        self.assertEqual(hostile.stdout.readline(), "done\n")
        # While it has all that it can have: others find a place, and memory.
        self.turn(caller)
        self.assertEqual(self.known(PROXY, port), [])
        second = self.program(APP, self.a, CALLS, port)
        self.in_memory(second, port)
        self.end(hostile)
        eventually(lambda: self.listed(0)["processes"] == 3, "what it had is free")

    def test_one_half_and_then_another(self):
        with self.assertRaises(subprocess.CalledProcessError) as refused:
            self.net("join", "web", "--half", f"cpu={self.a}")
        self.assertIn("name those who may share memory", refused.exception.stderr)
        self.join_alone(self.a)
        server, port = self.serve(PROXY, self.a, self.a)
        caller = self.program(APP, self.a, CALLS, port)
        (seen,) = self.in_memory(caller, port)
        self.assertTrue(all(end["sends"] == "memory" for end in seen["ends"]), seen)
        # Who is not named has a broker of its own, and TCP; one that goes by another's door is refused.
        stranger = self.program(STRANGER, self.a, CALLS, port)
        for _ in range(5):
            self.turn(stranger)
        self.assertEqual((len(self.known(0, port)), self.known(STRANGER, port)), (1, []))
        self.assertEqual(self.listed(STRANGER)["processes"], 1, "it has a broker of its own")
        doors = list(self.users.glob("*/*/broker"))
        self.assertEqual(sorted(int(door.parent.name) for door in doors), [PROXY, APP])
        for door in (*doors, *self.users.glob("*/broker")):
            refused = subprocess.run(["setpriv", f"--reuid={STRANGER}", "--clear-groups", PYTHON, "-c", COMES, door])
            self.assertEqual(refused.returncode, errno.EACCES, door)

        # Its broker is killed: what has memory keeps it, and what comes later meets again.
        killed = self.broker()
        os.kill(killed, signal.SIGKILL)
        self.turn(caller)
        second = self.program(APP, self.a, CALLS, port)
        self.in_memory(second, port)
        eventually(lambda: self.turn(caller) or len(self.known(PROXY, port)) == 2, "the next one is told of both")
        self.assertNotEqual(self.broker(), killed)

        # The Pod is split: nothing is missed, and the other half's programs meet those that were there.
        self.net("split", "web", "--half", f"dpu={self.b}")
        for one in (caller, second):
            self.turn(one)
        third = self.program(APP, self.b, CALLS, port)
        self.in_memory(third, port)
        eventually(lambda: [self.turn(one) for one in (caller, second)] and len(self.known(0, port)) == 3, "all are known")
        self.net("leave", "web")
        # Without the network, memory stays theirs who have it.
        for one in (caller, second):
            self.turn(one)
        self.assertEqual([path for path in self.users.iterdir() if path.is_dir()], [])
        eventually(lambda: self.broker() is None, "its broker has ended")
        for one in (caller, second, third, stranger, server):
            self.end(one)

    def test_what_comes_after_a_connection_is_not_taken_for_it(self):
        self.join()
        server = inside(self.a, lambda: socket.create_server(("127.0.0.1", 0)))
        port = server.getsockname()[1]
        caller = self.program(APP, self.a, LATE, port)
        connection = server.accept()[0]
        mine = int(caller.stdout.readline())
        answers = threading.Thread(target=lambda: [connection.sendall(piece) for piece in iter(lambda: connection.recv(8), b"")])
        answers.start()

        def waits():
            self.turn(caller)
            return len(self.listed(APP)["connections"]) == 1

        eventually(waits, "its end was offered, and waits")
        # It is over, and its end does not know yet.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
        answers.join()
        connection.close()
        server.close()
        heir = self.program(PROXY, self.a, HEIR, port, mine)

        def met():
            self.turn(heir)
            return self.known(0, port, "memory") + self.known(0, port, "tcp")

        eventually(met, "the broker has taken one for the other")
        for said in ("over 104", "got b''"):
            caller.stdin.write("look\n")
            caller.stdin.flush()
            self.assertEqual(caller.stdout.readline().strip(), said)
        (python,) = self.python_of(caller)
        self.assertFalse("memfd:lichen-pair" in Path(f"/proc/{python}/maps").read_text(), "it was given memory")

    @unittest.skipUnless(shutil.which("iptables-restore"), "needs iptables")
    def test_a_sidecar_in_one_half(self):
        """A Pod as most are, with rules as its mesh has written them."""
        for words in ("link add eth0 type veth peer name afar", "address add 10.77.0.5/24 dev eth0", "link set afar up",
                      "link set eth0 up", "route add default via 10.77.0.1"):
            run("nsenter", f"--net={self.a}", "ip", *words.split())
        run("nsenter", f"--net={self.a}", "iptables-restore", input=RULES)
        self.join_alone(self.a)
        self.calls_by_a_proxy(self.a, [self.a])

    def test_a_sidecar_of_another_user(self):
        for words in ("link add eth0 type veth peer name afar", "address add 10.77.0.5/24 dev eth0", "link set afar up",
                      "link set eth0 up", "route add default via 10.77.0.1"):
            run("nsenter", f"--net={self.b}", "ip", *words.split())
        self.join("--uplink", "dpu", "--address", "10.77.0.5")
        rules = self.folder / "rules.txt"
        rules.write_text(RULES)
        self.net("capture", "web", "--proxy", "dpu", "--v4", rules)
        # From the other half, and from the proxy's own.
        self.calls_by_a_proxy(self.b, [self.a, self.b])

    def calls_by_a_proxy(self, there, callers):
        proxy = self.program(PROXY, there, SIDECAR, 15001, ports=(15001,))
        self.assertEqual(proxy.stdout.readline(), "ready\n")
        for half in callers:
            caller = self.program(APP, half, CALLS_AFAR, "203.0.113.9", 80, ports=(80,))
            self.turn(caller)
            self.assertEqual(proxy.stdout.readline(), "203.0.113.9 80\n")
            (seen,) = self.in_memory(caller, 80)
            self.assertTrue(all(end["sends"] == "memory" for end in seen["ends"]), seen)
            self.end(caller)
            eventually(lambda: self.listed(0)["connections"] == [], "nothing is left")


if __name__ == "__main__":
    unittest.main()
