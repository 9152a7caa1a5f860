"""`lichen net`, as a person uses it: two network namespaces become one network, survive the daemon, and come apart again."""

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
import unittest
from pathlib import Path

from harness import BINARY, PATIENCE, alive, children, command_line, descendants, eventually
from halves import Halves
from test_broker import CALLS, ECHO
from test_cni import answers, can_make_namespaces, inside, run, serve

PORT = 8000
# SO_BINDTODEVICE
BIND_TO_DEVICE = 25


def echo_in_udp(address):
    """A UDP socket that is bound there; who calls it is answered by `answer`."""
    server = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(address)
    server.settimeout(1)
    return server


def said_in_udp(namespace, server, address):
    """Whether a datagram to `address` arrives at `server`, and its answer at who sent it."""
    def ask():
        caller = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        caller.settimeout(1)
        with caller, contextlib.suppress(OSError):
            caller.sendto(b"anybody?", address)
            asked, sender = server.recvfrom(100)
            server.sendto(asked[::-1], sender)
            return caller.recv(100) == asked[::-1]
        return False

    return inside(namespace, ask)


@unittest.skipUnless(can_make_namespaces() and shutil.which("nft"), "needs root, nsenter, ip, nft")
class Net(Halves, unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lichen-net-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "LICHEN_SOCKET_AFTER": "2"}
        self.a, self.b = self.namespace("a"), self.namespace("b")
        self.before = [self.picture(half) for half in (self.a, self.b)]
        self.start()
        self.addCleanup(self.stop)

    def picture(self, namespace):
        """All of a namespace that a network could change."""
        looks = [["ip", "-o", "-br", "link"], ["ip", "-br", "address"], ["ip", "rule"], ["ip", "-6", "rule"],
                 ["ip", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"],
                 ["nft", "list", "ruleset"], ["tc", "qdisc", "show"], ["sysctl", "-a", "-r", r"^net\.ipv[46]\.(ip_|conf\.(all|default)\.)"]]
        return [run("nsenter", f"--net={namespace}", *look) for look in looks]

    def net(self, *words, check=True):
        line = [BINARY, "net", *words, "--folder", self.folder / "net"]
        return subprocess.run(list(map(str, line)), check=check, capture_output=True, text=True, timeout=PATIENCE)

    def start(self):
        self.serve_net(environment=self.environment)

    def join(self):
        self.net("join", "web", "--half", f"cpu={self.a}", "--half", f"dpu={self.b}")

    def check_reaches(self, port):
        """Both ways, TCP and UDP, IPv4 and IPv6."""
        for server, caller in ((self.a, self.b), (self.b, self.a)):
            for address in ("127.0.0.1", "::1"):
                with contextlib.closing(serve(server, (address, port), b"hello")):
                    eventually(lambda: answers(caller, (address, port)) == b"hello", f"{address} by TCP")
                    # The listening socket ends when its thread has left it.
                    with contextlib.suppress(OSError):
                        inside(server, lambda: socket.create_connection((address, port)).close())
                port += 1
                with inside(server, lambda: echo_in_udp((address, port))) as datagrams:
                    eventually(lambda: said_in_udp(caller, datagrams, (address, port)), f"{address} by UDP")
                port += 1

    def test_two_namespaces_are_one_network_and_come_apart(self):
        self.join()
        self.check_reaches(PORT)
        # One set of ports.
        taken = inside(self.a, lambda: socket.create_server(("127.0.0.1", PORT + 100)))
        with taken, self.assertRaises(OSError) as refused:
            inside(self.b, lambda: socket.create_server(("127.0.0.1", PORT + 100)))
        self.assertEqual(refused.exception.errno, errno.EADDRINUSE)
        listed = json.loads(self.net("ls", "-o", "json").stdout)
        self.assertEqual([half["pu"] for half in listed[0]["halves"]], ["cpu", "dpu"])

        # A daemon that is killed is missed by nobody, and followed by another.
        with contextlib.closing(serve(self.b, ("127.0.0.1", PORT + 200), b"still")):
            eventually(lambda: answers(self.a, ("127.0.0.1", PORT + 200)) == b"still", "before")
            self.stop(signal.SIGKILL)
            self.assertEqual(answers(self.a, ("127.0.0.1", PORT + 200)), b"still")
            self.start()
            self.assertEqual(answers(self.a, ("127.0.0.1", PORT + 200)), b"still")
        self.check_reaches(PORT + 300)

        self.net("leave", "web")
        self.assertEqual(json.loads(self.net("ls", "-o", "json").stdout), [])
        for namespace, before in zip((self.a, self.b), self.before):
            self.assertEqual(self.picture(namespace), before)
        self.assertEqual([path.name for path in (self.folder / "net").iterdir() if path.suffix == ".json"], [])
        self.stop()

    def test_sockets_that_hear_their_loopback_alone(self):
        self.join()
        device, port = lambda made: made.setsockopt(socket.SOL_SOCKET, BIND_TO_DEVICE, b"lo\0"), PORT + 400
        for server, caller in ((self.a, self.b), (self.b, self.a)):
            for address in ("127.0.0.1", "::1"):
                port += 1
                family = socket.AF_INET6 if ":" in address else socket.AF_INET

                def made(kind, bound, prepare):
                    made = self.enterContext(socket.socket(family, kind))
                    made.settimeout(PATIENCE)
                    prepare(made)
                    if bound:
                        made.bind((address, port))
                    return made

                # Either end may be bound to the device.
                for first, second in ((device, id), (id, device)):
                    listener = inside(server, lambda: made(socket.SOCK_STREAM, True, first))
                    listener.listen()
                    client = inside(caller, lambda: made(socket.SOCK_STREAM, False, second))
                    client.connect((address, port))
                    served, _ = listener.accept()
                    served.sendall(b"hello")
                    self.assertEqual(client.recv(9), b"hello")
                    for ended in (client, served, listener):
                        ended.close()
                    port += 1

                # A server of datagrams that answers by the device by which it was asked, however long they are.
                level, ask, told = (socket.IPPROTO_IPV6, 49, 50) if ":" in address else (socket.IPPROTO_IP, 8, 8)
                answerer = inside(server, lambda: made(socket.SOCK_DGRAM, True, lambda s: s.setsockopt(level, ask, 1)))
                client = inside(caller, lambda: made(socket.SOCK_DGRAM, False, id))
                for length in (10, 60000):
                    client.sendto(b"?" * length, (address, port))
                    question, about, _, who = answerer.recvmsg(100000, 1000)
                    ((_, kind, information),) = about
                    index = struct.unpack_from("i", information, 16 if ":" in address else 0)[0]
                    self.assertEqual((len(question), kind, index), (length, told, 1), "it has come by the loopback")
                    answerer.sendmsg([b"!"], about, 0, who)
                    self.assertEqual(client.recv(9), b"!")

    def program(self, namespace, text, *words):
        process = subprocess.Popen(
            list(map(str, ["nsenter", f"--net={namespace}", BINARY, "socket", "run", "--", sys.executable, "-c", text, *words])),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment, start_new_session=True,
        )

        def end():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close()
            process.stdout.close()

        self.addCleanup(end)
        return process

    def connections(self):
        listed = subprocess.run([BINARY, "socket", "ls", "-o", "json"], check=True, capture_output=True, text=True,
                                env=self.environment, timeout=PATIENCE)
        return json.loads(listed.stdout)

    def test_connections_between_the_halves_go_through_memory(self):
        self.assertTrue(any("broker" in command_line(pid)[1:2] for pid in eventually(
            lambda: children(self.daemon.pid), "the daemon keeps a broker")))
        eventually(lambda: self.connections()["broker"], "the broker answers")
        self.join()
        server = self.program(self.b, ECHO)
        port = int(server.stdout.readline())
        eventually(lambda: answers_at(self.a, port), "the port is the network's")
        caller = self.program(self.a, CALLS, port)

        def turn():
            caller.stdin.write("go\n")
            caller.stdin.flush()
            self.assertEqual(caller.stdout.readline(), "done\n")

        def looked():
            turn()
            known = self.connections()["connections"]
            return [c for c in known if c["tier"] == "memory" and all(end.get("process") for end in c["ends"])]

        (connection,) = eventually(looked, "the connection goes through memory")
        self.assertIn(f"127.0.0.1:{port}", [end["address"] for end in connection["ends"]])
        # Neither daemon nor broker is missed by what has memory.
        self.stop(signal.SIGKILL)
        turn()


def answers_at(namespace, port):
    def connect():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    return inside(namespace, connect)


@unittest.skipUnless(can_make_namespaces() and all(map(shutil.which, ["nft", "setpriv", "taskset"])), "needs root, ip, nft")
class KilledBench(unittest.TestCase):
    def test_a_mesh_leaves_no_process_and_no_mount(self):
        # Proxies run as another user.
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-net-")))
        folder.chmod(0o755)
        envoy = folder / "envoy"
        envoy.write_text("#!/bin/sh\nexec sleep 100\n")
        envoy.chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
        bench = subprocess.Popen([BINARY, "bench", "--quick", "mesh"], env=environment, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(bench.wait)
        self.addCleanup(bench.kill)

        def running():
            self.assertIsNone(bench.poll())
            processes = descendants(bench.pid)
            return len([pid for pid in processes if command_line(pid)[:1] == ["sleep"]]) == 2 and processes

        processes = eventually(running, "daemon, servers, callers and two proxies")
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in alive(processes)])
        bench.kill()
        eventually(lambda: not alive(processes), "all of them have ended")
        self.assertNotIn(str(folder), Path("/proc/self/mounts").read_text())
        eventually(lambda: not list(folder.glob("lichen-bench-*")), "its folders are gone")


if __name__ == "__main__":
    unittest.main()
