"""A processing unit that is another machine: it joins by a token, runs functions, goes, comes again, and is revoked.

The other machine is played by a network namespace: another network, the same kernel."""

import concurrent.futures
import glob
import ipaddress
import json
import os
import signal
import socket
import subprocess
import tempfile
import unittest
import zlib
from pathlib import Path

import harness
from harness import Node, alive, descendants, eventually, invoke, lichen
from test_chains import Flow
from test_pus import get, node_of, pus, where

REMOTE = """
[dispatch]
worker_wait_s = 2

[remote]
listen = "0.0.0.0:{port}"

[[pu]]
name = "far"
kind = "dpu"
tier = "remote"
price = 0.3
"""

APP = """
import sys, zlib
def handler(event, context):
    if event.get("print"):
        print(event["print"])
    if event.get("fail"):
        raise ValueError(event["fail"])
    data = event.get("data", "")
    left = context.get_remaining_time_in_millis()
    return {"sum": zlib.crc32(data.encode()), "back": data if event.get("echo") else "", "left": left}
"""

STAGE = """
def handler(event, context):
    return {**event, "path": event.get("path", []) + [context.function_name]}
"""

STREAM = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  for (let i = 0; i < 100; i++) {
    const part = Buffer.alloc(100_000, String.fromCharCode(97 + i % 26));
    if (!stream.write(part)) await new Promise((room) => stream.once('drain', room));
  }
  stream.end();
});
"""


def free_port():
    """A port such that the one after it is free as well."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1] - 1


class Machine:
    """A network of its own, with a way to this one."""

    def __init__(self):
        self.name = f"lichen-e2e-{os.getpid()}"
        self.there, self.here = f"lt{os.getpid()}", f"lh{os.getpid()}"
        # Two addresses of the network that is for tests of benchmarks, and that nobody routes: other ones for every
        # process, since a run that was killed leaves its link, and with it a route.
        first = int(ipaddress.ip_address("198.18.0.0")) + 4 * (os.getpid() % 2**15)
        self.head, self.own = (str(ipaddress.ip_address(first + n)) for n in (1, 2))
        self.ip("netns", "add", self.name)
        self.ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
        self.ip("addr", "add", f"{self.head}/30", "dev", self.here)
        self.ip("link", "set", self.here, "up")
        self.ip("-n", self.name, "addr", "add", f"{self.own}/30", "dev", self.there)
        self.ip("-n", self.name, "link", "set", self.there, "up")
        self.ip("-n", self.name, "link", "set", "lo", "up")

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def cut(self):
        """The cable is pulled: nobody is told."""
        self.ip("link", "set", self.here, "down")

    def mend(self):
        self.ip("link", "set", self.here, "up")

    def close(self):
        subprocess.run(["ip", "link", "del", self.here], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Member:
    """A `lichen join` on that machine."""

    def __init__(self, machine, folder, *token):
        # Not `ip netns exec`: that hides the control groups.
        line = ["nsenter", f"--net=/run/netns/{machine.name}", harness.BINARY, "join", *token, "--data-dir", folder]
        self.log_file = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [str(word) for word in line], stdout=subprocess.PIPE, stderr=self.log_file, text=True
        )

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read()

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(harness.PATIENCE)
        self.process.stdout.close()
        return status


@unittest.skipUnless(os.geteuid() == 0, "a network of one's own takes root")
class Join(unittest.TestCase):
    def setUp(self):
        self.machine = Machine()
        self.addCleanup(self.machine.close)
        self.node = node_of(self, REMOTE.format(port=free_port()))
        self.config = self.node.process.args[self.node.process.args.index("--config") + 1]
        self.api = self.node.client()
        self.home = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        self.members = []
        self.addCleanup(lambda: [member.stop(signal.SIGKILL) for member in self.members])

    def settings(self):
        return ["--data-dir", self.node.folder, "--config", self.config]

    def token(self, *more):
        done = lichen("pu", "token", "far", "--address", self.machine.head, *more, *self.settings())
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def join(self, *token, home=None):
        member = Member(self.machine, home or self.home, *token)
        self.members.append(member)
        return member

    def ready(self):
        def can_start():
            ready = [t["pu"] for t in get(self.node, "/v1/templates") if t["kind"] == "python" and t["phase"] == "ready"]
            return pus(self.node)["far"]["ready"] and "far" in ready

        eventually(can_start, "the remote unit can start functions")

    def deploy(self, name="f", app=APP, pu="dpu", file="app.py"):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        with open(os.path.join(folder, file), "w") as file:
            file.write(app)
        words = ["--pu", pu, "--timeout", 20]
        done = lichen("deploy", folder, "--name", name, *words, endpoint=self.node.endpoint)
        self.assertEqual(done.returncode, 0, done.stderr)
        return name

    def test_functions_run_on_another_machine(self):
        self.assertFalse(pus(self.node)["far"]["ready"])
        member = self.join(self.token())
        self.ready()
        function = self.deploy()
        answer = invoke(self.api, function, {"data": "hello", "print": "said there"}, log=True)
        self.assertEqual(answer.value["sum"], zlib.crc32(b"hello"))
        self.assertIn("said there", answer.log)
        self.assertTrue(15_000 < answer.value["left"] <= 20_000, answer.value)
        bill = where(self.node, function)
        self.assertEqual((bill["pu"], bill["price"]), ("far", 0.3))
        # It runs in the other network.
        worker = next(p for p in descendants(member.process.pid) if "worker" in harness.command_line(p))
        self.assertNotEqual(os.readlink(f"/proc/{worker}/ns/net"), os.readlink("/proc/self/ns/net"))
        # Payloads of any length, both ways.
        for size in (1, 70_000, 3_000_000):
            data = "x" * size
            back = invoke(self.api, function, {"data": data, "echo": True}).value
            self.assertEqual((back["sum"], len(back["back"])), (zlib.crc32(data.encode()), size))
        failed = invoke(self.api, function, {"fail": "as it was told"})
        self.assertTrue(failed.failed)
        self.assertEqual(failed.value["errorMessage"], "as it was told")
        shown = json.loads(lichen("pu", "ls", "-o", "json", endpoint=self.node.endpoint).stdout)
        self.assertEqual([(pu["name"], pu["tier"], pu["ready"]) for pu in shown][1], ("far", "remote", True))
        everything = descendants(member.process.pid)
        self.assertEqual(member.stop(), 0, member.log())
        eventually(lambda: not alive(everything), "nothing is left of it")
        eventually(lambda: not pus(self.node)["far"]["ready"], "the node notices")

    def test_many_at_once_and_answers_in_parts(self):
        self.join(self.token())
        self.ready()
        function = self.deploy()
        self.api = self.node.client(max_pool_connections=20)

        def call(number):
            data = str(number) * (1 + number % 7 * 20_000)
            return invoke(self.api, function, {"data": data}).value["sum"] == zlib.crc32(data.encode())

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            self.assertTrue(all(pool.map(call, range(300))))
        streams = self.deploy("s", file="index.js", app=STREAM)
        answer = self.api.invoke_with_response_stream(FunctionName=streams, Payload=b"{}")
        parts = [event["PayloadChunk"]["Payload"] for event in answer["EventStream"] if "PayloadChunk" in event]
        self.assertEqual(b"".join(parts), b"".join(bytes([97 + i % 26]) * 100_000 for i in range(100)))
        eventually(lambda: where(self.node, streams)["pu"] == "far", "the remote unit has served it")

    def test_work_goes_over_a_fabric(self):
        if not any(Path(folder).glob("libfabric.so.1") for folder in glob.glob("/usr/lib*/") + glob.glob("/usr/lib/*/")):
            self.skipTest("libfabric is not installed")
        self.node.stop()
        self.node = node_of(self, REMOTE.format(port=free_port()).replace("[remote]", '[remote]\nfabric = "tcp"'))
        self.config = self.node.process.args[self.node.process.args.index("--config") + 1]
        self.api = self.node.client()
        member = self.join(self.token())
        self.ready()
        self.assertIn("fabric (tcp)", member.log())
        function = self.deploy()
        for size in (1, 70_000, 3_000_000):
            data = "x" * size
            back = invoke(self.api, function, {"data": data, "echo": True}).value
            self.assertEqual((back["sum"], len(back["back"])), (zlib.crc32(data.encode()), size))
        self.assertEqual(member.stop(), 0)
        eventually(lambda: not pus(self.node)["far"]["ready"], "the node notices")

    def test_chains_cross_machines(self):
        self.join(self.token())
        self.ready()
        here, there = self.deploy("here", STAGE, "cpu"), self.deploy("there", STAGE, "dpu")
        for names in ([there, there], [here, there], [there, here, there]):
            flow = Flow(self.node, names)
            # The shims may have met a moment later than the workers.
            eventually(lambda: flow.run({})[1].get("path") == names, f"{names} is a chain")
            for size in (10, 200_000, 2_000_000):
                status, value, _ = flow.run({"data": "x" * size})
                self.assertEqual(status, 200)
                self.assertEqual((value.get("path"), len(value.get("data", ""))), (names, size), str(value)[:300])

    def test_it_comes_again_however_it_went(self):
        token = self.token()
        function = self.deploy()
        member = self.join(token)
        self.ready()
        invoke(self.api, function, {"data": "x"})
        everything = descendants(member.process.pid)
        member.stop(signal.SIGKILL)
        eventually(lambda: not alive(everything), "nothing outlives it")
        eventually(lambda: not pus(self.node)["far"]["ready"], "the node notices")
        with self.assertRaises(Exception) as refused:
            invoke(self.api, function, {"data": "x"})
        self.assertIn("no such PU is up", str(refused.exception))
        # The same words again, as a service says them; and without the token.
        for again in ([token], []):
            member = self.join(*again)
            self.ready()
            self.assertEqual(invoke(self.api, function, {"data": "x"}).value["sum"], zlib.crc32(b"x"))
            self.assertEqual(member.stop(), 0)
        # The node's side dies.
        member = self.join()
        self.ready()
        pier = next(p for p in harness.children(self.node.process.pid) if "pier" in harness.command_line(p))
        os.kill(pier, signal.SIGKILL)
        eventually(lambda: pus(self.node)["far"]["losses"] > 0, "the node notices")
        self.ready()
        self.assertEqual(invoke(self.api, function, {"data": "x"}).value["sum"], zlib.crc32(b"x"))

    def test_a_machine_that_vanishes_is_noticed(self):
        member = self.join(self.token())
        self.ready()
        function = self.deploy(pu="dpu,cpu")
        self.assertEqual(invoke(self.api, function, {"data": "x"}).value["sum"], zlib.crc32(b"x"))
        self.assertEqual(where(self.node, function)["pu"], "far")
        self.machine.cut()
        eventually(lambda: not pus(self.node)["far"]["ready"], "the node notices", limit=15)
        self.assertEqual(invoke(self.api, function, {"data": "x"}).value["sum"], zlib.crc32(b"x"))
        eventually(lambda: where(self.node, function)["pu"] == "host", "the host has served it")
        self.machine.mend()
        self.ready()
        self.assertIsNone(member.process.poll(), member.log())

    def test_who_may_join_and_who_may_not(self):
        member = self.join("lichen1.AAAA")
        self.assertEqual(member.process.wait(harness.PATIENCE), 2)
        self.assertIn("damaged", member.log())
        member = self.join()
        self.assertEqual(member.process.wait(harness.PATIENCE), 2)
        self.assertIn("lichen pu token", member.log())
        for name, said in (("near", "no remote PU called near; there are far"), ("host", "tier host")):
            done = lichen("pu", "token", name, *self.settings())
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)
        token = self.token()
        member = self.join(token)
        self.ready()
        # A token is for one machine.
        other = self.enterContext(tempfile.TemporaryDirectory(prefix="lichen-e2e-"))
        thief = self.join(token, home=other)
        self.assertEqual(thief.process.wait(harness.PATIENCE), 3)
        self.assertIn("does not know this token", thief.log())
        self.assertIsNone(member.process.poll())
        done = lichen("pu", "revoke", "far", *self.settings())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(member.process.wait(harness.PATIENCE), 3)
        self.assertIn("no longer a member", member.log())
        eventually(lambda: not pus(self.node)["far"]["ready"], "the node notices")
        kept = [self.node.folder / "membership" / name for name in ("keys.json", "members.json")]
        self.assertEqual([path.stat().st_mode & 0o777 for path in kept], [0o600, 0o600])

    def test_rest_costs_nothing(self):
        member = self.join(self.token())
        self.ready()
        invoke(self.api, self.deploy(), {"data": "x"})
        pier = next(p for p in harness.children(self.node.process.pid) if "pier" in harness.command_line(p))

        def used():
            ticks = [open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[11:13] for pid in (pier, member.process.pid)]
            return sum(int(tick) for pair in ticks for tick in pair)

        # Two whole seconds in which neither has used a hundredth of one; what was going on comes to an end first.
        def quiet():
            before = used()
            with socket.socket() as nobody:
                nobody.settimeout(2)
                nobody.bind(("127.0.0.1", 0))
                nobody.listen()
                self.assertRaises(TimeoutError, nobody.accept)
            return used() - before <= 1

        eventually(quiet, "both sides rest")


if __name__ == "__main__":
    unittest.main()
