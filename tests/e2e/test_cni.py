"""lichen-cni, driven as container runtimes drive plugins: environment and standard input, in a chain after CNI's own
plugins and alone. Everything happens in network namespaces of the test's own."""

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import uuid
from pathlib import Path

from harness import BINARY, PATIENCE, eventually

PLUGIN = BINARY.parent / "lichen-cni"
REFERENCE = Path(os.environ.get("CNI_PLUGINS", "/usr/lib/cni"))
VERSION = "1.1.0"
LIBC = ctypes.CDLL(None, use_errno=True)
NEWNET = 0x40000000


def can_make_namespaces():
    return os.geteuid() == 0 and shutil.which("ip") and subprocess.run(["unshare", "-n", "true"]).returncode == 0


def run(*line, **options):
    return subprocess.run([str(word) for word in line], check=True, capture_output=True, text=True, **options).stdout


def inside(namespace, what):
    """Does something in a network namespace, which is entered by a thread of its own."""
    box = {}

    def visit():
        try:
            with open(namespace) as file:
                if LIBC.setns(file.fileno(), NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            box["answer"] = what()
        except BaseException as error:
            box["error"] = error

    thread = threading.Thread(target=visit)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["answer"]


class Failed(Exception):
    def __init__(self, told):
        super().__init__(told)
        self.code = told["code"]


class Cluster:
    """A daemon of networks, a folder for all state, a network namespace in the place of the host's, and Pods."""

    def __init__(self, test):
        self.folder = Path(test.enterContext(tempfile.TemporaryDirectory(prefix="lichen-cni-")))
        self.test = test
        self.host = self.namespace("host")
        self.daemon = None
        self.start()
        test.addCleanup(self.stop)
        test.addCleanup(self.unmount)

    def unmount(self):
        """What a test that fails leaves, so that the folder can go."""
        for path in (self.folder / "state/netns").glob("*"):
            subprocess.run(["umount", "-l", path], capture_output=True)

    def start(self):
        line = [BINARY, "net", "serve", "--folder", self.folder / "net", "--users", self.folder / "users"]
        self.daemon = subprocess.Popen([str(word) for word in line], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        eventually((self.folder / "net/socket").exists, "the daemon of networks listens")

    def stop(self, how=signal.SIGTERM):
        if self.daemon:
            self.daemon.send_signal(how)
            self.daemon.wait(PATIENCE)
            self.daemon = None
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "net/socket").unlink()

    def namespace(self, name):
        """A network namespace with a path, as a container runtime makes it."""
        path = self.folder / name
        path.touch()
        run("unshare", f"--net={path}", "ip", "link", "set", "lo", "up")
        self.test.addCleanup(lambda: subprocess.run(["umount", "-l", path], capture_output=True))
        return path

    def plugin(self, command, container, namespace, config, plugin=PLUGIN, arguments="", popen=False):
        """One invocation; its result, or a failure with CNI's number."""
        environment = {
            "CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0", "CNI_ARGS": arguments,
            "CNI_PATH": str(REFERENCE), "PATH": os.environ["PATH"],
        }
        if namespace:
            environment["CNI_NETNS"] = str(namespace)
        line = ["nsenter", f"--net={self.host}", plugin]
        process = subprocess.Popen(
            [str(word) for word in line], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        if popen:
            process.stdin.write(json.dumps(config))
            process.stdin.close()
            return process
        out, _ = process.communicate(json.dumps(config), timeout=PATIENCE)
        told = json.loads(out) if out.strip() else None
        if process.returncode != 0:
            raise Failed(told)
        return told

    def ours(self, version=VERSION, **more):
        lichen = {"daemon": str(self.folder / "net"), "state": str(self.folder / "state"), **more}
        return {"cniVersion": version, "name": "pods", "type": "lichen-cni", "lichen": lichen}

    def bridge(self, version):
        ranges = [[{"subnet": "10.79.0.0/24"}], [{"subnet": "fd79::/64"}]]
        ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(self.folder / "ipam"), "routes": [{"dst": "0.0.0.0/0"}]}
        return {"cniVersion": version, "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}

    def networks(self):
        listed = run(BINARY, "net", "ls", "--folder", self.folder / "net", "-o", "json")
        return json.loads(listed)

    def users(self):
        """Who can come to a network's broker."""
        return sorted(int(path.name) for path in (self.folder / "users").glob("*/*") if path.is_dir())

    def leftovers(self):
        """What a plugin has left: records, namespaces, networks."""
        state = self.folder / "state"
        files = [str(path) for path in state.rglob("*") if path.is_file() and path.name != "lock"] if state.exists() else []
        return files + [network["name"] for network in self.networks()]


def peer_of(result):
    return next(i["sandbox"] for i in result["interfaces"] if i["name"] == "link0")


def serve(namespace, address, reply):
    """A server in a namespace that answers one connection after another."""
    def listen():
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        server = socket.socket(family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen()
        return server

    server = inside(namespace, listen)

    def answer():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.sendall(reply)
                connection.close()

    threading.Thread(target=answer, daemon=True).start()
    return server


def call(namespace, address):
    def connect():
        with socket.create_connection(address, PATIENCE) as connection:
            return connection.recv(100)

    return inside(namespace, connect)


@unittest.skipUnless(can_make_namespaces(), "network namespaces take root and the program ip")
class Cni(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(self)

    def chain(self, version):
        """ADD of bridge, then ours; everything to do and undo it."""
        if not (REFERENCE / "bridge").exists():
            self.skipTest(f"no CNI plugins in {REFERENCE}: install containernetworking-plugins, or set CNI_PLUGINS")
        cluster, container = self.cluster, uuid.uuid4().hex
        pod = cluster.namespace(f"pod-{container[:8]}")
        first = cluster.plugin("ADD", container, pod, cluster.bridge(version), REFERENCE / "bridge")
        config = {**cluster.ours(version), "prevResult": first}
        return container, pod, first, cluster.plugin("ADD", container, pod, config)

    def test_chained_after_bridge(self):
        cluster = self.cluster
        # Debian's plugins speak up to 1.0.0.
        for version in ("0.4.0", "1.0.0"):
            container, pod, first, result = self.chain(version)
            self.assertEqual(result["cniVersion"], version)
            self.assertEqual(result["ips"], first["ips"])
            self.assertEqual(result["interfaces"][: len(first["interfaces"])], first["interfaces"])
            peer = peer_of(result)
            v4, v6 = (ip["address"].split("/")[0] for ip in first["ips"])
            self.enterContext(serve(peer, ("0.0.0.0", 8080), b"from the peer"))
            for address in ("127.0.0.1", v4):
                eventually(lambda: answers(pod, (address, 8080)), f"the peer's port is the Pod's, at {address}")
            self.enterContext(serve(peer, ("::", 8081), b"by IPv6"))
            eventually(lambda: answers(pod, (v6, 8081)), "the same by IPv6")
            with self.assertRaises(OSError):
                inside(pod, lambda: socket.create_server(("127.0.0.1", 8080)))
            # From outside the Pod, as the bridge's host.
            eventually(lambda: answers(cluster.host, (v4, 8081)), "the host reaches the peer's port")
            ours = {**cluster.ours(version), "prevResult": result}
            cluster.plugin("CHECK", container, pod, ours)
            bridge = {**cluster.bridge(version), "prevResult": result}
            cluster.plugin("CHECK", container, pod, bridge, REFERENCE / "bridge")
            for _ in range(2):
                cluster.plugin("DEL", container, pod, ours)
            cluster.plugin("DEL", container, pod, bridge, REFERENCE / "bridge")
            self.assertEqual(cluster.leftovers(), [])
            self.assertNotIn("link1", inside(pod, lambda: run("ip", "-o", "link")))

    def test_alone(self):
        cluster = self.cluster
        pod = cluster.namespace("pod")
        told = cluster.plugin("VERSION", "", None, {"cniVersion": VERSION})
        self.assertIn(VERSION, told["supportedVersions"])
        cluster.plugin("STATUS", "", None, cluster.ours())
        result = cluster.plugin("ADD", "one", pod, cluster.ours())
        self.enterContext(serve(pod, ("127.0.0.1", 9000), b"from the Pod"))
        eventually(lambda: answers(peer_of(result), ("127.0.0.1", 9000)), "localhost is one, from the peer")
        with self.assertRaises(Failed) as failed:
            cluster.plugin("ADD", "one", pod, cluster.ours())
        self.assertEqual(failed.exception.code, 100)
        checked = {**cluster.ours(), "prevResult": result}
        cluster.plugin("CHECK", "one", pod, checked)
        # Somebody else changes what was made.
        for namespace, change in ((pod, ["set", "link1", "down"]), (peer_of(result), ["set", "link0", "down"]),
                                  (pod, ["del", "link1"])):
            run("nsenter", f"--net={namespace}", "ip", "link", *change)
            with self.assertRaises(Failed, msg=change) as failed:
                cluster.plugin("CHECK", "one", pod, checked)
            self.assertEqual(failed.exception.code, 101)
            if "down" in change:
                run("nsenter", f"--net={namespace}", "ip", "link", "set", change[1], "up")
                cluster.plugin("CHECK", "one", pod, checked)
        # The namespace is gone before its DEL comes.
        run("umount", "-l", pod)
        cluster.plugin("DEL", "one", None, cluster.ours())
        cluster.plugin("DEL", "one", pod, cluster.ours())
        self.assertEqual(cluster.leftovers(), [])

    def test_a_pod_that_is_not_split(self):
        cluster, named = self.cluster, {"pods": "none", "users": [1337, 12001]}
        if not (REFERENCE / "bridge").exists():
            self.skipTest(f"no CNI plugins in {REFERENCE}: install containernetworking-plugins, or set CNI_PLUGINS")
        pod = cluster.namespace("pod")
        first = cluster.plugin("ADD", "one", pod, cluster.bridge("1.0.0"), REFERENCE / "bridge")
        looks = [["nft", "list", "ruleset"], ["ip", "-br", "address"], ["ip", "rule"], ["tc", "qdisc", "show"],
                 ["sysctl", "-a", "-r", r"^net\.ipv[46]\.(ip_|conf\.(all|default)\.)"]]
        picture = lambda: [run("nsenter", f"--net={pod}", *look) for look in looks]
        before, config = picture(), {**cluster.ours("1.0.0", **named), "prevResult": first}
        self.assertEqual(cluster.plugin("ADD", "one", pod, config), first, "it is passed on")
        self.assertEqual(picture(), before, "the Pod is as it was")
        (network,) = cluster.networks()
        self.assertEqual(([half["pu"] for half in network["halves"]], network["users"]), (["cpu"], [1337, 12001]))
        self.assertEqual(cluster.users(), [1337, 12001])
        with self.assertRaises(Failed) as failed:
            cluster.plugin("ADD", "one", pod, config)
        self.assertEqual(failed.exception.code, 100)
        cluster.stop(signal.SIGKILL)
        cluster.start()
        cluster.plugin("CHECK", "one", pod, config)

        # It is split by hand, with what the chain has said of its addresses.
        peer = cluster.namespace("peer")
        run(BINARY, "net", "split", network["name"], "--half", f"dpu={peer}", "--folder", cluster.folder / "net")
        v4 = first["ips"][0]["address"].split("/")[0]
        self.enterContext(serve(peer, ("0.0.0.0", 8080), b"from the peer"))
        eventually(lambda: answers(cluster.host, (v4, 8080)), "the host reaches the peer's port")
        cluster.plugin("CHECK", "one", pod, config)
        for _ in range(2):
            cluster.plugin("DEL", "one", pod, config)
        self.assertEqual((cluster.leftovers(), cluster.users()), ([], []))
        self.assertEqual(picture(), before)
        cluster.plugin("DEL", "one", pod, cluster.bridge("1.0.0"), REFERENCE / "bridge")

        # With nobody named it is passed by, also where nobody keeps networks.
        cluster.stop()
        config = {**cluster.ours("1.0.0", pods="none"), "prevResult": first}
        self.assertEqual(cluster.plugin("ADD", "two", pod, config), first)
        with self.assertRaises(Failed) as failed:
            cluster.plugin("ADD", "two", pod, {**cluster.ours("1.0.0", **named), "prevResult": first})
        self.assertEqual(failed.exception.code, 11)

    def test_a_peer_that_is_there_already(self):
        cluster = self.cluster
        pod, peer = cluster.namespace("pod"), cluster.namespace("peer")
        arguments = f"IgnoreUnknown=1;LICHEN_PEER_NETNS={peer}"
        result = cluster.plugin("ADD", "one", pod, cluster.ours(), arguments=arguments)
        self.assertEqual(peer_of(result), str(peer))
        cluster.plugin("DEL", "one", pod, cluster.ours(), arguments=arguments)
        self.assertEqual(cluster.leftovers(), [])
        self.assertNotIn("link0", inside(peer, lambda: run("ip", "-o", "link")))

    def test_cut_off_anywhere(self):
        cluster = self.cluster
        chance = random.Random(int(os.environ.get("SEED", 1)))
        for number in range(12):
            pod = cluster.namespace(f"pod{number}")
            # Of two halves, and of one.
            config = cluster.ours(**({} if number % 4 < 2 else {"pods": "none", "users": [1337, 12001]}))
            process = cluster.plugin("ADD", "one", pod, config, popen=True)
            with process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0, 0.03))
                process.kill()
            if number % 3 == 0:
                cluster.stop(signal.SIGKILL)
                cluster.start()
            if number % 2:
                cluster.plugin("GC", "", None, {**cluster.ours(), "cni.dev/valid-attachments": []})
            else:
                cluster.plugin("DEL", "one", pod, config)

            # What the daemon was told before its caller died it may do after this: the next look takes it.
            def clean():
                cluster.plugin("GC", "", None, {**cluster.ours(), "cni.dev/valid-attachments": []})
                return cluster.leftovers() == [] == cluster.users()

            eventually(clean, "nothing is left")

    def test_without_its_daemon(self):
        cluster = self.cluster
        pod = cluster.namespace("pod")
        cluster.plugin("ADD", "one", pod, cluster.ours())
        cluster.stop(signal.SIGKILL)
        for command, code in (("STATUS", 50), ("ADD", 11)):
            with self.assertRaises(Failed) as failed:
                cluster.plugin(command, "two", pod, cluster.ours())
            self.assertEqual(failed.exception.code, code)
        cluster.plugin("DEL", "one", pod, cluster.ours())
        cluster.start()
        cluster.plugin("GC", "", None, {**cluster.ours(), "cni.dev/valid-attachments": []})
        self.assertEqual(cluster.leftovers(), [])

    def test_what_is_wrong_is_told_by_cnis_numbers(self):
        cluster = self.cluster
        pod = cluster.namespace("pod")
        cases = [
            ("ADD", "a/b", pod, cluster.ours(), 4),
            ("ADD", "one", None, cluster.ours(), 4),
            ("ADD", "one", cluster.folder / "nowhere", cluster.ours(), 4),
            ("ADD", "one", cluster.host, cluster.ours(), 8),
            ("JUMP", "one", pod, cluster.ours(), 4),
            ("ADD", "one", pod, cluster.ours("9.9.9"), 1),
            ("GC", "one", pod, cluster.ours("1.0.0"), 1),
            ("ADD", "one", pod, cluster.ours(odd=True), 2),
            ("ADD", "one", pod, {**cluster.ours(), "name": "../x"}, 7),
            ("GC", "", None, cluster.ours(), 7),
            ("ADD", "one", pod, "text", 6),
            ("ADD", "one", pod, cluster.ours(peer="a b"), 102),
        ]
        for command, container, namespace, config, code in cases:
            with self.assertRaises(Failed, msg=f"{command} {config}") as failed:
                cluster.plugin(command, container, namespace, config)
            self.assertEqual(failed.exception.code, code, f"{command} {config}: {failed.exception}")
        self.assertEqual(cluster.leftovers(), [])


def answers(namespace, address):
    try:
        return call(namespace, address)
    except OSError:
        return None


if __name__ == "__main__":
    unittest.main()
